"""Reading the bodies of requests: JSON as RFC 8259 has it, and nothing that could not be stored.

What comes through is the same for every reader: no key twice, numbers that fit 64 bits, texts that
PostgreSQL stores. An error names the place of what it is about.
"""

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

from django.utils.http import parse_header_parameters
from rest_framework.exceptions import ErrorDetail, ParseError, UnsupportedMediaType, ValidationError
from rest_framework.parsers import JSONParser

from amplifierd.common.text import UNSTORABLE, make_storable

# Levels of lists and objects, one within the other.
DEPTH = 64
# Characters of a number or key that an error repeats.
SHOWN = 40


class StrictJSONParser(JSONParser):
    """The one parser of bodies. An empty body never comes here: it is no body, of whatever type."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        """Return the parsed body.

        Raises ParseError for what is no JSON or nested too deeply, ValidationError for values that
        are refused, UnsupportedMediaType for another charset than UTF-8.
        """
        check_charset(media_type or "")
        return parse(stream.read())


def check_charset(content_type: str) -> None:
    """Raise UnsupportedMediaType if the header names another charset than JSON's own."""
    _, parameters = parse_header_parameters(content_type)
    if parameters.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        shown = content_type[:SHOWN]
        raise UnsupportedMediaType(shown, f"JSON is UTF-8; {shown!r} is not read.")


def parse(body: bytes) -> Any:
    """Return the value that the body is; raise ParseError or ValidationError."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise ParseError(f"JSON is UTF-8; the byte at position {error.start} is not.") from None
    try:
        value, is_invalid = _decode(STRICT, text), False
    except InvalidValue:
        # Only now is it worth the time to find the place.
        value, is_invalid = _decode(LENIENT, text), True
    # Fewer brackets than levels are allowed cannot go too deep.
    if text.count("[") + text.count("{") > DEPTH and is_deeper(value, DEPTH):
        raise _too_deep()
    # What is not storable cannot stand in UTF-8 itself, but for its escape.
    if is_invalid or "\\u" in text:
        for place, invalid in find_invalid(value):
            if invalid.code == ParseError.default_code:
                raise ParseError(f"{place or 'body'}: {invalid}")
            raise ValidationError({place or "body": [ErrorDetail(str(invalid), invalid.code)]})
    return value


def is_deeper(value: Any, limit: int) -> bool:
    """Tell whether lists and objects are nested more than `limit` levels; without recursion."""
    level = [value]
    for _ in range(limit + 1):
        level = [item for item in level if isinstance(item, dict | list)]
        if not level:
            return False
        level = [
            child for item in level for child in (item.values() if isinstance(item, dict) else item)
        ]
    return True


class InvalidValue(Exception):
    """A value that is not accepted, and why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def find_invalid(value: Any, place: str = "") -> Iterator[tuple[str, InvalidValue]]:
    """Yield what is not accepted, in order, with the path to it."""
    if isinstance(value, InvalidValue):
        yield place, value
    elif isinstance(value, str):
        if UNSTORABLE.search(value):
            detail = "Null characters and lone surrogates are not allowed."
            yield place, InvalidValue("null_characters_not_allowed", detail)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from find_invalid(item, f"{place}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            shown = make_storable(key[:SHOWN])
            inner = f"{place}.{shown}" if place else shown
            yield from find_invalid(key, inner)
            yield from find_invalid(item, inner)


def _decode(decoder: json.JSONDecoder, text: str) -> Any:
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as error:
        if error.doc.startswith("\ufeff"):
            message = "Send the JSON without the byte order mark at its start."
        else:
            # The library's own words for what is wrong are short and clear.
            what = error.msg.removesuffix(" at").removesuffix(" starting")
            place = f"line {error.lineno}, column {error.colno}"
            message = f"The body is no JSON: {what} at {place}."
        raise ParseError(message) from None
    except RecursionError:
        raise _too_deep() from None


def _too_deep() -> ParseError:
    return ParseError(f"The JSON is nested too deeply; at most {DEPTH} levels are read.")


def _read_integer(digits: str) -> int:
    # A sign and 19 digits; the check spares reading a million of them.
    if len(digits) <= 20 and -(2**63) <= (number := int(digits)) < 2**63:
        return number
    raise InvalidValue("too_large", f"{digits[:SHOWN]} does not fit 64 bits; send it as text.")


def _read_float(digits: str) -> float:
    if math.isinf(number := float(digits)):
        detail = f"{digits[:SHOWN]} is larger than any number; send it as text."
        raise InvalidValue("too_large", detail)
    return number


def _read_constant(name: str) -> Any:
    raise InvalidValue(ParseError.default_code, f"{name} is no JSON; send null, or text.")


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                detail = f"The key {make_storable(key[:SHOWN])!r} is there twice; send it once."
                raise InvalidValue("duplicate", detail)
            seen.add(key)
    return value


def _return_errors(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the hook with its error in the place of the value, and not raised."""

    def read_or_return(given: Any) -> Any:
        try:
            return read(given)
        except InvalidValue as error:
            return error

    return read_or_return


STRICT = json.JSONDecoder(
    parse_int=_read_integer,
    parse_float=_read_float,
    parse_constant=_read_constant,
    object_pairs_hook=_read_object,
)
LENIENT = json.JSONDecoder(
    parse_int=_return_errors(_read_integer),
    parse_float=_return_errors(_read_float),
    parse_constant=_return_errors(_read_constant),
    object_pairs_hook=_return_errors(_read_object),
)
