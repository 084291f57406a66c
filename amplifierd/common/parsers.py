"""Reading the bodies of requests: JSON as RFC 8259 has it, and nothing that could not be kept.

What comes through is the same for every reader: no key twice, numbers that 64 bits hold, texts that
PostgreSQL stores. What is refused is named with its place.
"""

import json
import math
from collections.abc import Iterator
from typing import Any

from django.http.request import parse_header_parameters
from rest_framework.exceptions import (
    ErrorDetail,
    ParseError,
    UnsupportedMediaType,
    ValidationError,
)
from rest_framework.parsers import JSONParser

from amplifierd.common.text import UNSTORABLE, storable

# Levels of lists and objects, one within the other.
DEPTH = 64
# Characters of a number or key that a refusal repeats.
SHOWN = 40
REFUSED = "Null characters and lone surrogates are not allowed."


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
    """Raise UnsupportedMediaType where the header names another charset than JSON's own."""
    _, parameters = parse_header_parameters(content_type)
    if parameters.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        shown = content_type[:SHOWN]
        raise UnsupportedMediaType(shown, f"JSON is UTF-8; {shown!r} is not read.")


def parse(body: bytes) -> Any:
    """Return the value that the body is; raise ParseError or ValidationError."""
    text = _text(body)
    try:
        value, flawed = _decoded(STRICT, text), False
    except Flaw:
        # Only now is it worth the time to find the place.
        value, flawed = _decoded(MARKING, text), True
    # Fewer brackets than levels are allowed cannot go too deep.
    if text.count("[") + text.count("{") > DEPTH:
        _check_depth(value)
    # What is not storable cannot stand in UTF-8 itself, but for its escape.
    if flawed or "\\u" in text:
        for place, flaw in _flaws(value):
            raise _refusal(place, flaw)
    return value


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise ParseError(f"JSON is UTF-8; the byte at position {error.start} is not.") from None


def _decoded(decoder: json.JSONDecoder, text: str) -> Any:
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as error:
        raise ParseError(_syntax(error)) from None
    except RecursionError:
        raise _too_deep() from None


class Flaw(Exception):
    """A value that is not taken, and why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def _integer(digits: str) -> int:
    # A sign and 19 digits; the check spares reading a million of them.
    if len(digits) <= 20 and -(2**63) <= (number := int(digits)) < 2**63:
        return number
    raise Flaw("too_large", f"{digits[:SHOWN]} does not fit 64 bits; send it as text.")


def _float(digits: str) -> float:
    if math.isinf(number := float(digits)):
        raise Flaw("too_large", f"{digits[:SHOWN]} is larger than any number; send it as text.")
    return number


def _constant(name: str) -> Any:
    raise Flaw(ParseError.default_code, f"{name} is no JSON; send null, or text.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _duplicate(pairs)
    return value


def _duplicate(pairs: list[tuple[str, Any]]) -> Flaw:
    seen: set[str] = set()
    # set.add returns None: what is left are the keys that were there already.
    again = next(key for key, _ in pairs if key in seen or seen.add(key))
    return Flaw("duplicate", f"The key {_shown(again)!r} is there twice; send it once.")


def _marking(read: Any) -> Any:
    """Return the hook with its flaws returned in the place of the value, and not raised."""

    def mark(given: Any) -> Any:
        try:
            return read(given)
        except Flaw as flaw:
            return flaw

    return mark


HOOKS = {
    "parse_int": _integer,
    "parse_float": _float,
    "parse_constant": _constant,
    "object_pairs_hook": _object,
}
STRICT = json.JSONDecoder(**HOOKS)
MARKING = json.JSONDecoder(**{name: _marking(hook) for name, hook in HOOKS.items()})


def _flaws(value: Any, place: str = "") -> Iterator[tuple[str, Flaw]]:
    """Yield what is not taken, in order, with the path to it."""
    if isinstance(value, Flaw):
        yield place, value
    elif isinstance(value, str):
        if UNSTORABLE.search(value):
            yield place, Flaw("null_characters_not_allowed", REFUSED)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _flaws(item, f"{place}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            inner = f"{place}.{_shown(key)}" if place else _shown(key)
            yield from _flaws(key, inner)
            yield from _flaws(item, inner)


def _check_depth(value: Any) -> None:
    """Raise ParseError if lists and objects are nested too deeply; level by level."""
    level = [value]
    for _ in range(DEPTH + 1):
        level = [item for item in level if isinstance(item, dict | list)]
        if not level:
            return
        level = [
            child for item in level for child in (item.values() if isinstance(item, dict) else item)
        ]
    raise _too_deep()


def _too_deep() -> ParseError:
    return ParseError(f"The JSON is nested too deeply; at most {DEPTH} levels are read.")


def _syntax(error: json.JSONDecodeError) -> str:
    """Say what is wrong and where; the library's own words for it are short and clear."""
    if error.doc.startswith("\ufeff"):
        return "Send the JSON without the byte order mark at its start."
    what = error.msg.removesuffix(" at").removesuffix(" starting")
    return f"The body is no JSON: {what} at line {error.lineno}, column {error.colno}."


def _refusal(place: str, flaw: Flaw) -> ParseError | ValidationError:
    if flaw.code == ParseError.default_code:
        return ParseError(f"{place or 'body'}: {flaw}")
    return ValidationError({place or "body": [ErrorDetail(str(flaw), code=flaw.code)]})


def _shown(key: str) -> str:
    """Return a key as an answer can carry it."""
    return storable(key[:SHOWN])
