"""The arguments of a call, corrected by the tool's schema if it is clear what a model meant.

Models put JSON inside a string, send null for what they leave out, and write numbers as strings.
These mistakes are corrected for all tools. All other mistakes are explained so that a model can
correct them.
"""

import json
import math
import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from sessions_app.engine.tool_schemas import find_reference, list_values
from sessions_app.engine.tools.base import ToolError
from sessions_app.engine.wire.json_text import as_dict, as_list

# References that are followed one after the other; after these, a schema counts as endless.
_REFERENCES = 50
# How often a string is read as JSON that may be a string again.
_NESTED_TEXTS = 3
# Levels of data, and steps for one call: beyond these, values are left to the tool as they are.
_DEPTH, _STEPS = 64, 100_000
# Mistakes in one answer, and characters of a value in the description of a mistake.
_NAMED, _SHOWN = 10, 60

_NUMBER = re.compile(r"-?\d{1,300}(\.\d{1,300})?([eE][-+]?\d{1,3})?")
_NOTHING = {"", "null", "none"}
_NOUNS = {
    "object": "an object",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}

# The order in which types are tried for a value: the narrowest first.
_ORDER = ("null", "boolean", "integer", "number", "array", "object", "string")
_UNFIT = object()

Schema = dict[str, Any]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return _is_number(value) and (isinstance(value, int) or value.is_integer())


_IS: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": _is_whole,
    "number": _is_number,
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


class UnfitValueError(Exception):
    """A value that does not fit its schema; each mistake is a clause without a full stop."""

    def __init__(self, *mistakes: str) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


def coerce_arguments(arguments: Any, schema: Schema) -> dict[str, Any]:
    """Return the arguments of a call as its schema wants them, if that is unambiguous.

    Takes what a model has sent: an object, nothing, or JSON text. A string stays a string if the
    schema allows one. Null is left out if the argument is optional. Raises ToolError, which names
    each wrong argument and says what it must be.
    """
    value = arguments
    for _ in range(_NESTED_TEXTS):
        if not isinstance(value, str):
            break
        try:
            value = json.loads(value) if value.strip() else {}
        except (ValueError, RecursionError) as error:
            place = f" ({error})" if isinstance(error, json.JSONDecodeError) else ""
            raise ToolError(
                f"The arguments are no valid JSON{place}. Send one JSON object with the "
                "arguments by their names."
            ) from None
    if not isinstance(value, dict | None):
        raise ToolError(
            f"The arguments must be one JSON object with the arguments by their names, not "
            f"{_describe_value(value)}."
        )
    try:
        return SchemaCoercion(schema).fit(value or {}, {"type": "object", **schema}, "")
    except UnfitValueError as error:
        raise unfit_arguments(error.mistakes[:_NAMED]) from None
    except RecursionError:
        raise ToolError("The arguments are nested too deeply: make them simpler.") from None


def unfit_arguments(mistakes: Iterable[str]) -> ToolError:
    return ToolError(
        f"The arguments do not fit: {'; '.join(mistakes)}. Correct them, and call the tool again."
    )


class SchemaCoercion:
    """Fits values to the schemas of one document; references stay within the document."""

    def __init__(self, root: Schema) -> None:
        self.root = root
        self.steps = 0

    def fit(self, value: Any, schema: Any, path: str, depth: int = 0) -> Any:
        """Return the value as the schema wants it; raise UnfitValueError."""
        schema = self._resolve(schema)
        if not isinstance(schema, dict) or self._is_too_long(depth):
            return value
        for key in ("anyOf", "oneOf"):
            if schemas := as_list(schema.get(key)):
                value = self._fit_one(value, schemas, path, depth)
        for each in as_list(schema.get("allOf")):
            value = self.fit(value, each, path, depth + 1)
        if options := list_values(schema):
            return fit_option(value, options, path)
        types = _types(schema)
        if types and not any(_IS[name](value) for name in types):
            value = convert_to(value, types, path)
        elif types == {"integer"} and isinstance(value, float):
            value = int(value)
        if isinstance(value, dict):
            return self._fit_properties(value, schema, path, depth)
        if not isinstance(value, list):
            return value
        first = as_list(schema.get("prefixItems"))
        fitting: list[Any] = []
        mistakes: list[str] = []
        for index, item in enumerate(value):
            each = first[index] if index < len(first) else schema.get("items", True)
            try:
                fitting.append(self.fit(item, each, f"{path}[{index}]", depth + 1))
            except UnfitValueError as error:
                mistakes.extend(error.mistakes)
        if mistakes:
            raise UnfitValueError(*mistakes)
        return fitting

    def _is_too_long(self, depth: int) -> bool:
        self.steps += 1
        return depth > _DEPTH or self.steps > _STEPS

    def _resolve(self, schema: Any) -> Any:
        """Return a schema without a reference at its top."""
        for _ in range(_REFERENCES):
            reference = schema.get("$ref") if isinstance(schema, dict) else None
            if not isinstance(reference, str):
                return schema
            target = find_reference(self.root, reference)
            schema = {key: item for key, item in schema.items() if key != "$ref"}
            if not isinstance(target, dict):
                return schema
            schema = {**target, **schema}
        return {}

    def _fit_one(self, value: Any, schemas: list[Any], path: str, depth: int) -> Any:
        """Return the value as one of the schemas wants it; unchanged, if one allows that."""
        fitting, mistakes = [], []
        for each in schemas:
            try:
                fitting.append(self.fit(value, each, path, depth + 1))
            except UnfitValueError as error:
                mistakes.append(error)
        if not fitting:
            # If only one schema allows more than null, its error explains the mistake best.
            real = [
                error
                for each, error in zip(schemas, mistakes, strict=True)
                if _types(self._resolve(each)) != {"null"}
            ]
            if len(real) == 1:
                raise real[0]
            kinds = " or ".join(
                dict.fromkeys(_describe_schema(self._resolve(each)) for each in schemas)
            )
            raise UnfitValueError(_mistake(path, f"must be {kinds}", value))
        return next((each for each in fitting if _is_same(each, value)), fitting[0])

    def _fit_properties(
        self, value: dict[str, Any], schema: Schema, path: str, depth: int
    ) -> dict[str, Any]:
        known = as_dict(schema.get("properties"))
        required = {name for name in as_list(schema.get("required")) if isinstance(name, str)}
        others = schema.get("additionalProperties", True)
        has_patterns = isinstance(schema.get("patternProperties"), dict)
        fitting, mistakes = {}, []
        for name, item in value.items():
            each = known.get(name, True if has_patterns else others)
            place = f"{path}.{name}" if path else str(name)
            if name not in known and each is False:
                if item is not None:
                    names = ", ".join(f"`{name}`" for name in islice(known, 40)) or "none"
                    mistakes.append(f"`{place}` is not known here; there are {names}")
                continue
            if name in known and name not in required and self._is_left_out(item, each):
                continue
            try:
                fitting[name] = self.fit(item, each, place, depth + 1)
            except UnfitValueError as error:
                mistakes.extend(error.mistakes)
        for name in sorted(required - set(value)):
            place = f"{path}.{name}" if path else name
            noun = _describe_schema(self._resolve(known.get(name, {})))
            mistakes.append(f"`{place}` is missing: {noun}")
        if mistakes:
            raise UnfitValueError(*mistakes)
        return fitting

    def _is_left_out(self, item: Any, schema: Any) -> bool:
        """Return whether a value means that an optional argument is not given."""
        is_text = isinstance(item, str)
        if not (item is None or (is_text and item.strip().lower() in _NOTHING)):
            return False
        kinds = self._kinds(schema)
        if is_text:
            # A schema with one of these types may mean the string, or an empty object, itself.
            return bool(kinds) and not kinds & {"string", "object", "null"}
        return bool(kinds) and "null" not in kinds

    def _kinds(self, schema: Any, depth: int = 0) -> set[str]:
        """Return all types that a schema takes; none if it takes any."""
        schema = self._resolve(schema)
        if not isinstance(schema, dict) or self._is_too_long(depth):
            return set()
        if options := list_values(schema):
            return {next(name for name in _ORDER if _IS[name](each)) for each in options}
        kinds = _types(schema)
        for key in ("anyOf", "oneOf"):
            for each in as_list(schema.get(key)):
                inner = self._kinds(each, depth + 1)
                if not inner:
                    return set()
                kinds |= inner
        return kinds


def convert_to(value: Any, types: set[str], path: str) -> Any:
    """Return a value as the first type that it can be converted to; raise UnfitValueError."""
    for name in _ORDER:
        if name in types and (fitting := convert(value, name)) is not _UNFIT:
            return fitting
    raise UnfitValueError(_mistake(path, f"must be {_join_nouns(types)}", value))


def convert(value: Any, kind: str) -> Any:
    """Return a value as another type; _UNFIT if it is not clear how."""
    if kind == "string":
        # It is not clear how any other value should be written.
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else _UNFIT
    if not isinstance(value, str):
        return _UNFIT
    text = value.strip()
    if kind == "null":
        return None if text.lower() in _NOTHING else _UNFIT
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.lower(), _UNFIT)
    if kind in ("integer", "number"):
        if not _NUMBER.fullmatch(text):
            return _UNFIT
        number = int(text) if text.lstrip("-").isdecimal() else float(text)
        if kind == "integer":
            return int(number) if _is_whole(number) else _UNFIT
        return number if math.isfinite(number) else _UNFIT
    if kind == "object" and not text:
        return {}
    for _ in range(_NESTED_TEXTS):
        if not isinstance(value, str):
            break
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return _UNFIT
    return value if _IS[kind](value) else _UNFIT


def _types(schema: Any) -> set[str]:
    """Return the types that a schema names, or that its other keywords imply."""
    if not isinstance(schema, dict):
        return set()
    named = schema.get("type")
    several = named if isinstance(named, list) else [named]
    types = {each for each in several if isinstance(each, str)} & _IS.keys()
    if not types and not any(key in schema for key in ("anyOf", "oneOf", "allOf", "type")):
        if isinstance(schema.get("properties"), dict):
            types = {"object"}
        elif "items" in schema or "prefixItems" in schema:
            types = {"array"}
    return types | {"null"} if types and schema.get("nullable") is True else types


def fit_option(value: Any, options: list[Any], path: str) -> Any:
    if any(_is_same(option, value) for option in options):
        return value
    # The model may have made a string of it, quoted it twice, or put blanks around it.
    texts = [_write(option) for option in options]
    written = _write(value)
    if written not in texts and isinstance(value, str):
        written = value.strip()
    if texts.count(written) == 1:
        return options[texts.index(written)]
    listed = ", ".join(json.dumps(option, ensure_ascii=False) for option in options[:20])
    one_of = "one of " if len(options) > 1 else ""
    raise UnfitValueError(_mistake(path, f"must be {one_of}{listed}", value))


def _write(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two values are the same in JSON, in which 1 and true differ."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return one == other


def _describe_schema(schema: Any) -> str:
    if isinstance(schema, dict):
        if options := list_values(schema):
            return " or ".join(json.dumps(each, ensure_ascii=False) for each in options[:20])
        for key in ("anyOf", "oneOf"):
            if schemas := as_list(schema.get(key)):
                return " or ".join(dict.fromkeys(map(_describe_schema, schemas)))
        if types := _types(schema):
            return _join_nouns(types)
    return "a value"


def _join_nouns(types: set[str]) -> str:
    return " or ".join(_NOUNS[name] for name in _NOUNS if name in types)


def _mistake(path: str, must: str, value: Any) -> str:
    return f"`{path}` {must}, not {_describe_value(value)}" if path else f"they {must}"


def _describe_value(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, str):
        text = json.dumps(value[:_SHOWN], ensure_ascii=False)
        return f"the text {text}{'…' if len(value) > _SHOWN else ''}"
    return "a list" if isinstance(value, list) else "an object"
