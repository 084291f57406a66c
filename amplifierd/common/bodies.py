"""What callers may send: snake_case or camelCase keys, nothing unknown, nothing unstorable."""

import json
import re
from typing import Any

from django.conf import settings
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.fields import empty

# Bytes of a JSON object that a caller may keep with a session or message, and how deep it may go.
OBJECT_LIMIT = settings.METADATA_BYTES
OBJECT_DEPTH = settings.METADATA_DEPTH


def snake(key: str) -> str:
    """Return a camelCase key in snake_case."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: f"_{match[1].lower()}", key)


class Body(serializers.Serializer):
    """A request's body: a typo in a key is refused, and not passed over."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return the validated values under their snake_case keys; raise ValidationError."""
        if not isinstance(data, dict):
            raise ValidationError({"body": [_refusal("Send a JSON object.", "not_an_object")]})
        known: dict[str, Any] = {}
        errors: dict[str, list[Any]] = {}
        for key, value in data.items():
            name = snake(key)
            if name not in self.fields:
                choices = ", ".join(self.fields) or "none"
                errors[key] = [_refusal(f"Unknown key; known are: {choices}.", "unknown")]
            elif name in known:
                errors[key] = [_refusal("This key is there twice, in both spellings.", "duplicate")]
            known[name] = value
        if errors:
            raise ValidationError(errors)
        return super().to_internal_value(known)


class Text(serializers.CharField):
    """A text that is kept as it was sent: not trimmed, not converted from a number."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        """Return the text; raise ValidationError for anything else."""
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Number(serializers.IntegerField):
    """A whole number of a body, as JSON has it: not the text of one."""

    def to_internal_value(self, data: Any) -> int:
        """Return the number; raise ValidationError for anything else."""
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        return super().to_internal_value(data)


class Digits(serializers.IntegerField):
    """A whole number of a query: ASCII digits, and a minus before them at most."""

    def to_internal_value(self, data: Any) -> int:
        """Return the number; raise ValidationError for anything else."""
        if isinstance(data, str) and not re.fullmatch(r"-?[0-9]+", data, re.ASCII):
            self.fail("invalid")
        return super().to_internal_value(data)


class Flag(serializers.BooleanField):
    """A truth value of a body, as JSON has it: neither a number nor a word."""

    def to_internal_value(self, data: Any) -> bool:
        """Return the truth value; raise ValidationError for anything else."""
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class Truth(serializers.BooleanField):
    """A truth value of a query: `true` or `false`, in capitals as Python has them or not."""

    def to_internal_value(self, data: Any) -> bool:
        """Return the truth value; raise ValidationError for anything else."""
        if str(data).lower() not in ("true", "false"):
            self.fail("invalid", input=data)
        return str(data).lower() == "true"


class Object(serializers.Field):
    """A JSON object of the caller's own, limited in size and depth, with storable texts."""

    default_error_messages = {
        "invalid": "Send a JSON object.",
        "too_large": f"Send at most {OBJECT_LIMIT} bytes of JSON.",
        "too_deep": f"Nest at most {OBJECT_DEPTH} levels.",
        "null_characters_not_allowed": "Null characters and lone surrogates are not allowed.",
    }

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return the object unchanged; raise ValidationError."""
        if not isinstance(data, dict):
            self.fail("invalid")
        if _depth(data) > OBJECT_DEPTH:
            self.fail("too_deep")
        text = json.dumps(data, ensure_ascii=False)
        # A backslash of the caller's own is written as two, and is no escape.
        if "\\u0000" in text.replace("\\\\", "") or not _encodable(text):
            self.fail("null_characters_not_allowed")
        if len(text.encode()) > OBJECT_LIMIT:
            self.fail("too_large")
        return data

    def to_representation(self, value: dict[str, Any]) -> dict[str, Any]:
        """Return the object unchanged."""
        return value


class Nothing(Body):
    """The body of an action that takes none: absent, or an empty object."""


def checked(kind: type[serializers.Serializer], data: Any = empty) -> dict[str, Any]:
    """Return the validated values; raise ValidationError with a reason for each field."""
    serializer = kind(data=data)
    serializer.is_valid(raise_exception=True)
    return serializer.validated_data


def _refusal(detail: str, code: str) -> serializers.ErrorDetail:
    return serializers.ErrorDetail(detail, code=code)


def _depth(value: Any) -> int:
    """Return how deep lists and objects are nested, level by level, without recursion."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [
            child for item in level for child in (item.values() if isinstance(item, dict) else item)
        ]
    return depth


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
