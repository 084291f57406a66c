"""What comes in and what goes out.

A body takes snake_case or camelCase keys, nothing unknown and nothing that cannot be stored. A
query ignores what it does not know. An answer is written by the class that also describes it.
"""

import json
import re
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple

from django.conf import settings
from django.http import QueryDict
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.fields import empty

from amplifierd.common.formats import stamp
from amplifierd.common.openapi.schema import Schema, free, record
from amplifierd.common.parsers import is_deeper
from amplifierd.common.text import UNSTORABLE

# Bytes of a JSON object that a caller may keep with a session or message, and how deep it may go.
OBJECT_LIMIT = settings.METADATA_BYTES
OBJECT_DEPTH = settings.METADATA_DEPTH


def snake(key: str) -> str:
    """Return a camelCase key in snake_case."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: f"_{match[1].lower()}", key)


def camel(key: str) -> str:
    """Return a snake_case key in camelCase."""
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
                detail = f"Unknown key; known are: {choices}."
                errors[key] = [serializers.ErrorDetail(detail, code="unknown")]
            elif name in known:
                detail = "This key is there twice, in both spellings."
                errors[key] = [serializers.ErrorDetail(detail, code="duplicate")]
            known[name] = value
        if errors:
            raise ValidationError(errors)
        return super().to_internal_value(known)


class Text(serializers.CharField):
    """A text that is kept as it was sent: not trimmed, not converted from a number."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

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
    serializer = kind(data=data)
    serializer.is_valid(raise_exception=True)
    return serializer.validated_data


def parse_query(kind: type[serializers.Serializer], parameters: QueryDict) -> dict[str, Any]:
    """Return the query's validated values; names may be in camelCase, empty ones count as absent.

    Raises ValidationError with a reason for each parameter.
    """
    given: dict[str, list[str]] = {}
    for name, values in parameters.lists():
        given.setdefault(snake(name), []).extend(value for value in values if value != "")
    known = {
        name: only_value(name, values)
        for name, values in given.items()
        if values and name in kind._declared_fields
    }
    return validate(kind, known)


def only_value(name: str, values: list[str]) -> str:
    """Return the one value of a parameter; raise ValidationError if there are several."""
    if len(set(values)) > 1:
        raise ValidationError({name: ["Give this parameter once."]}, "duplicate")
    return values[0]


class Member(NamedTuple):
    """One member of an answer: its schema, and where its value comes from."""

    schema: Schema
    source: str | Callable[[Any], Any] | None = None


class OutputSerializer:
    """What an answer is made of: the members that are written are those that are documented.

    A subclass names each member with its schema (`amplifierd.common.openapi.schema`). The value is
    the attribute of that name in snake_case, or else the `source` of a `Member`: another attribute,
    or a function of the object. `serialize` can be given values, too. A trailing underscore of a
    name is dropped (`from_`). With `both_casings` each member is there in snake_case and in
    camelCase. The docstring describes the component in the OpenAPI document.

    REST framework's own serializers do the same in ten times as much time for each row.
    """

    _members: ClassVar[dict[str, Member]] = {}
    _readers: ClassVar[list[tuple[str, Callable[[Any], Any]]]] = []
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
            own = {camel(name): member for name, member in own.items()} | own
        cls._has_both_casings = both_casings
        cls._members = own
        cls._optional = f"{cls._optional} {optional}".strip()
        cls._example = example
        cls._readers = [
            (name, _reader(name, member))
            for name, member in own.items()
            if name not in cls._optional.split()
        ]

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
    def schema(cls) -> Schema:
        """Return the component that describes the answer."""
        description = " ".join((cls.__doc__ or "").split())
        properties = {name: member.schema for name, member in cls._members.items()}
        return record(description, properties, example=cls._example, optional=cls._optional)

    @classmethod
    def subclasses(cls) -> "Iterator[type[OutputSerializer]]":
        """Yield all classes that describe answers."""
        for subclass in cls.__subclasses__():
            yield subclass
            yield from subclass.subclasses()


def _reader(name: str, member: Member) -> Callable[[Any], Any]:
    source = member.source
    read = source if callable(source) else attrgetter(source or snake(name))
    if member.schema.get("format") != "date-time":
        return read

    def read_time(instance: Any) -> str | None:
        moment = read(instance)
        return moment and stamp(moment)

    return read_time
