"""What comes in and what goes out.

A body takes snake_case or camelCase keys, nothing unknown and nothing that cannot be stored. A
query ignores what it does not know, unless that is probably a misspelt parameter. An answer is
written by the class that also describes it.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple, NoReturn

import orjson
from django.conf import settings
from django.http import QueryDict
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.fields import empty
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.validators import ProhibitSurrogateCharactersValidator

from amplifierd.common.formats import stamp
from amplifierd.common.openapi.schema import Schema, deprecate, free, record
from amplifierd.common.parsers import is_deeper
from amplifierd.common.text import UNSTORABLE, excerpt, find_similar, suggest

# Bytes of a JSON object that a caller may keep with a session or message, and how deep it may go.
OBJECT_LIMIT = settings.METADATA_BYTES
OBJECT_DEPTH = settings.METADATA_DEPTH
ENCODING = orjson.OPT_UTC_Z | orjson.OPT_PASSTHROUGH_DATACLASS
EMPTY = orjson.Fragment("{}")
# Characters of a refused word that an error repeats.
REPEATED = 80
# Unknown keys or parameters of one request that are compared with the known ones.
LOOKED_AT = 20


def dump(answer: Any) -> bytes:
    """Return JSON; raise TypeError for what is no plain data, nor from `OutputSerializer.load`."""
    return orjson.dumps(answer, option=ENCODING)


def snake(key: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: f"_{match[1].lower()}", key)


def camel(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(map(str.capitalize, rest))


class Body(serializers.Serializer):
    """A request's body: an unknown key is an error, so that no typo goes unnoticed."""

    # For the API's description.
    example: ClassVar[dict[str, Any]]

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise ValidationError({"body": ["Send a JSON object."]}, "not_an_object")
        known: dict[str, Any] = {}
        errors: dict[str, list[Any]] = {}
        for key, value in data.items():
            name = snake(key)
            if name not in self.fields:
                choices = ", ".join(self.fields) or "none"
                # Of a body of many keys, all would take seconds.
                meant = suggest(name, self.fields) if len(errors) < LOOKED_AT else ""
                detail = f"Unknown key; known are: {choices}.{meant}"
                errors[key] = [serializers.ErrorDetail(detail, code="unknown")]
            elif name in known:
                detail = "This key is there twice, in both spellings."
                errors[key] = [serializers.ErrorDetail(detail, code="duplicate")]
            known[name] = value
        if errors:
            raise ValidationError(errors)
        return super().to_internal_value(known)


class Query(serializers.Serializer):
    """The parameters of a request's URL; `parse_query` reads them."""

    # All parameters of the API: one that belongs to another endpoint is no misspelling.
    names: ClassVar[set[str]] = set()

    def __init_subclass__(cls) -> None:
        Query.names |= cls._declared_fields.keys()


class Choice(serializers.ChoiceField):
    """One of some words: an error says which ones."""

    # The base class formats it with what was sent.
    default_error_messages = {"invalid_choice": "{input} is none of {choices}.{more}"}

    def __init__(self, choices: Iterable[str], more: str = "", **options: Any) -> None:
        super().__init__(choices=list(choices), **options)
        # What to do if the value that somebody may miss is not among them.
        self.more = f" {more}" if more else ""

    def fail(self, key: str, **values: Any) -> NoReturn:
        """Raise the error; it repeats the beginning of a wrong value."""
        if "input" in values:
            wrong = str(values["input"])
            values["input"] = repr(excerpt(wrong, REPEATED))
            more = self.more + suggest(wrong, self.choices)
            values |= {"choices": ", ".join(self.choices), "more": more}
        super().fail(key, **values)


class NoSurrogates(ProhibitSurrogateCharactersValidator):
    """REST framework's check, which looks at each character of a text only if there is one."""

    def __call__(self, value: Any) -> None:
        if UNSTORABLE.search(value):
            super().__call__(value)


class Text(serializers.CharField):
    """A text that is kept as it was sent: not trimmed, not converted from a number."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)
        self.validators = [
            NoSurrogates() if isinstance(check, ProhibitSurrogateCharactersValidator) else check
            for check in self.validators
        ]

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Number(serializers.IntegerField):
    """A whole number of a body, as JSON has it: not the text of one."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        return super().to_internal_value(data)


class Digits(serializers.IntegerField):
    """A whole number of a query: ASCII digits, and a minus before them at most."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, str) and not re.fullmatch(r"-?[0-9]+", data, re.ASCII):
            self.fail("invalid")
        return super().to_internal_value(data)


class Flag(serializers.BooleanField):
    """A truth value of a body, as JSON has it: neither a number nor a word."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class Truth(serializers.BooleanField):
    """A truth value of a query: `true` or `false`, in capitals as Python has them or not."""

    def to_internal_value(self, data: Any) -> bool:
        if str(data).lower() not in ("true", "false"):
            self.fail("invalid", input=data)
        return str(data).lower() == "true"


@extend_schema_field(free())
class Object(serializers.Field):
    """A JSON object of the caller's own, limited in size and depth, with storable texts."""

    default_error_messages = {
        "invalid": "Send a JSON object.",
        "too_large": f"Send at most {OBJECT_LIMIT} bytes of JSON.",
        "too_deep": f"Nest at most {OBJECT_DEPTH} levels.",
        "null_characters_not_allowed": "Null characters and lone surrogates are not allowed.",
    }

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("invalid")
        if is_deeper(data, OBJECT_DEPTH):
            self.fail("too_deep")
        text = json.dumps(data, ensure_ascii=False)
        # A backslash of the caller's own is written as two, and is no escape.
        if UNSTORABLE.search(text) or "\\u0000" in text.replace("\\\\", ""):
            self.fail("null_characters_not_allowed")
        if len(text.encode()) > OBJECT_LIMIT:
            self.fail("too_large")
        return data

    def to_representation(self, value: dict[str, Any]) -> dict[str, Any]:
        return value


class Nothing(Body):
    """The body of an action that takes none: absent, or an empty object."""


def validate(kind: type[serializers.Serializer], data: Any = empty) -> dict[str, Any]:
    """Return the validated values; raise ValidationError with a reason for each field."""
    try:
        return _validator(kind).run_validation(data)
    except ValidationError as error:
        if isinstance(error.detail, dict):
            raise
        # `null` in the place of a whole body.
        missing = serializers.ErrorDetail("No data provided", "null")
        raise ValidationError({api_settings.NON_FIELD_ERRORS_KEY: [missing]}) from None


@cache
def _validator(kind: type[serializers.Serializer]) -> serializers.Serializer:
    """Return the one serializer of a class, which all requests share.

    Making one copies each of its fields; validating changes neither it nor them.
    """
    serializer = kind()
    # Bound now, and not by the first requests of several threads.
    _ = serializer.fields
    return serializer


def parse_query(kind: type[serializers.Serializer], parameters: QueryDict) -> dict[str, Any]:
    """Return the query's validated values; names may be in camelCase, empty ones count as absent.

    Raises ValidationError with a reason for each parameter, also for those that are misspelt.
    """
    given: dict[str, list[str]] = {}
    for name, values in parameters.lists():
        given.setdefault(snake(name), []).extend(value for value in values if value != "")
    refuse_misspelt((n for n, values in parameters.lists() if any(values)), kind._declared_fields)
    known = {
        name: only_value(name, values)
        for name, values in given.items()
        if values and name in kind._declared_fields
    }
    return validate(kind, known)


def refuse_misspelt(given: Iterable[str], known: Collection[str]) -> None:
    """Raise ValidationError for parameters that are probably misspelt; others may be ignored.

    One that another endpoint has was not misspelt.
    """
    unknown = [name for name in given if not {snake(name)} & {*known, *Query.names}]
    errors = {
        name: [f"There is no such parameter; did you mean {similar}?"]
        for name in unknown[:LOOKED_AT]
        if (similar := find_similar(name, known))
    }
    if errors:
        raise ValidationError(errors, "unknown")


def only_value(name: str, values: list[str]) -> str:
    """Return the one value of a parameter; raise ValidationError if there are several."""
    if len(set(values)) > 1:
        raise ValidationError({name: ["Give this parameter once."]}, "duplicate")
    return values[0]


class Member(NamedTuple):
    """One member of an answer: its schema, and where its value comes from.

    `column` is its SQL in a statement, where `{row}` is the row; by default the column of the same
    name as the attribute.
    """

    schema: Schema
    source: str | Callable[[Any], Any] | None = None
    column: str = ""

    @property
    def is_time(self) -> bool:
        return self.schema.get("format") == "date-time"

    @property
    def is_object(self) -> bool:
        # A type is one word, or a list of them.
        return "object" in self.schema.get("type", "")

    def build_reader(self, name: str) -> Callable[[Any], Any]:
        """Return what reads the member of this name from an object."""
        source = self.source
        read = source if callable(source) else attrgetter(source or snake(name))
        if not self.is_time:
            return read

        def read_time(instance: Any) -> str | None:
            moment = read(instance)
            return moment and stamp(moment)

        return read_time

    def build_column(self, name: str) -> str:
        """Return the SQL of the member of this name; raise TypeError if only a function has it."""
        if self.column:
            return self.column
        if callable(self.source):
            raise TypeError(f"Say which SQL {name} is in a statement.")
        column = f"{{row}}.{self.source or snake(name)}"
        return f"{column}::text" if self.is_object else column

    def build_loader(self) -> Callable[[Any], Any] | None:
        """Return what makes a column's value one of the answer; None if it is one."""

        def load_time(moment: datetime) -> datetime | str:
            # The encoder writes what `stamp` writes, but no fraction if it is 0.
            return moment if moment.microsecond and moment.tzinfo is UTC else stamp(moment)

        def load_object(text: str) -> orjson.Fragment:
            return EMPTY if text == "{}" else orjson.Fragment(text)

        return load_time if self.is_time else load_object if self.is_object else None


class OutputSerializer:
    """What an answer is made of: the members that are written are those that are documented.

    A subclass names each member with its schema (`amplifierd.common.openapi.schema`). The value is
    the attribute of that name in snake_case, or else the `source` of a `Member`: another attribute,
    or a function of the object. `serialize` can be given values, too. A trailing underscore of a
    name is dropped (`from_`). With `both_casings` each member is there in snake_case and in
    camelCase, and the first one is deprecated. The docstring describes the component in the OpenAPI
    document.

    REST framework's own serializers do the same in ten times as much time for each row. Where even
    the model's objects are too much, a statement reads `columns`, and `load` makes the answer of a
    row of it.
    """

    _members: ClassVar[dict[str, Member]] = {}
    _readers: ClassVar[list[tuple[str, Callable[[Any], Any]]]] = []
    _names: ClassVar[list[str]] = []
    _loaders: ClassVar[list[tuple[str, Callable[[Any], Any]]]] = []
    _optional: ClassVar[str] = ""
    _example: ClassVar[Any] = None

    _has_both_casings: ClassVar[bool] = False

    def __init_subclass__(
        cls, optional: str = "", example: Any = None, both_casings: bool = False
    ) -> None:
        own = {
            name.rstrip("_"): value if isinstance(value, Member) else Member(value)
            for base in reversed(cls.__mro__)
            for name, value in vars(base).items()
            if not name.startswith("_") and isinstance(value, dict | Member)
        }
        if both_casings:
            both = {camel(name): member for name, member in own.items()}
            # One word is the same in both.
            own = both | {
                name: member if name in both else member._replace(schema=deprecate(member.schema))
                for name, member in own.items()
            }
        cls._has_both_casings = both_casings
        cls._members = own
        cls._optional = f"{cls._optional} {optional}".strip()
        cls._example = example
        cls._readers = [
            (name, member.build_reader(name))
            for name, member in own.items()
            if name not in cls._optional.split()
        ]
        cls._names = [name for name, _ in cls._readers]
        loaders = ((name, own[name].build_loader()) for name in cls._names)
        cls._loaders = [(name, load) for name, load in loaders if load]

    @classmethod
    def columns(cls, row: str) -> list[str]:
        """Return the SQL of each member of the answer for a row, of the table of that name."""
        return [cls._members[name].build_column(name).format(row=row) for name in cls._names]

    @classmethod
    def load(cls, rows: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
        """Return the answers for rows of `columns`, and of whatever follows them.

        They are for our renderer: times and JSON columns are in them as the encoder takes them.
        """
        answers = [dict(zip(cls._names, row, strict=False)) for row in rows]
        # Column by column, because there may be ten thousand rows.
        for name, load in cls._loaders:
            for answer in answers:
                if (value := answer[name]) is not None:
                    answer[name] = load(value)
        return answers

    @classmethod
    def serialize(cls, instance: Any = None, **given: Any) -> dict[str, Any]:
        """Return the answer for an object; values that are given count before its attributes."""
        if not given:
            return {name: read(instance) for name, read in cls._readers}
        if cls._has_both_casings:
            given = {camel(name): value for name, value in given.items()} | given
        if unknown := given.keys() - cls._members.keys():
            raise TypeError(f"{cls.__name__} has no {', '.join(unknown)}")
        return {name: read(instance) for name, read in cls._readers if name not in given} | given

    @classmethod
    def serialize_all(cls, instances: Iterable[Any]) -> list[dict[str, Any]]:
        return [cls.serialize(instance) for instance in instances]

    @classmethod
    def schema(cls) -> Schema:
        description = " ".join((cls.__doc__ or "").split())
        properties = {name: member.schema for name, member in cls._members.items()}
        return record(description, properties, example=cls._example, optional=cls._optional)

    @classmethod
    def subclasses(cls) -> "Iterator[type[OutputSerializer]]":
        for subclass in cls.__subclasses__():
            yield subclass
            yield from subclass.subclasses()


class JSONNegotiation(DefaultContentNegotiation):
    """REST framework's negotiation; for what nearly all clients send there is nothing to choose."""

    # The stub leaves out what is returned.
    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> Any:
        """Return the renderer and its media type; raise NotAcceptable."""
        if request.META.get("HTTP_ACCEPT", "*/*") in ("*/*", "application/json"):
            return renderers[0], renderers[0].media_type
        return super().select_renderer(request, renderers, format_suffix)


class FastJSONRenderer(JSONRenderer):
    """REST framework's renderer of JSON, with an encoder in C for all that is plain JSON data.

    It also writes what `OutputSerializer.load` has made.
    """

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None
    ) -> bytes:
        try:
            return b"" if data is None else dump(data)
        except TypeError:
            # A number of more than 64 bits, which PostgreSQL makes of a float; a lazy text.
            return super().render(data, accepted_media_type, renderer_context)
