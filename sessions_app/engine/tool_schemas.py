"""Schemas of tools' arguments, in a form that every model server accepts.

Authors of tools, above all of MCP servers, write many kinds of schemas. A model server refuses the
whole request because of one schema that it does not accept, so each is corrected here. Nothing is
lost that matters to a call: the tool itself still checks its arguments.
"""

import json
import math
from functools import lru_cache
from typing import Any

from sessions_app.engine.wire.json_text import as_dict, as_list

Schema = dict[str, Any]

# The types, each with its names in programming languages, which some authors write.
_SPELLINGS = {
    "string": "str text",
    "integer": "int long",
    "number": "float double decimal",
    "boolean": "bool",
    "object": "dict map",
    "array": "list tuple",
    "null": "none",
}
_ALIASES = {alias: name for name, aliases in _SPELLINGS.items() for alias in aliases.split()}
# The items of an array whose schema does not describe them. Some servers treat empty items as
# missing; `array` is not among the types because it would need items itself.
_ANY_ITEMS: Schema = {"type": ["string", "number", "boolean", "object"]}
_COMBINATIONS = ("allOf", "anyOf", "oneOf")
# Keywords that name the schema itself. Some servers refuse them, and none needs them.
_NAMES = frozenset({"$schema", "$id", "id", "$anchor", "$comment", "$vocabulary", "$dynamicAnchor"})
_DEFINITIONS = ("$defs", "definitions")
_LOCAL = tuple(f"#/{key}/" for key in _DEFINITIONS)
_SCHEMAS_BY_NAME = frozenset({"properties", "patternProperties", "dependentSchemas"})
_ONE_SCHEMA = frozenset(
    {"not", "if", "then", "else", "contains", "propertyNames", "additionalItems"}
    | {"unevaluatedItems", "unevaluatedProperties", "additionalProperties"}
)
# No server accepts these at the top of a schema; lenient ones accept combinations there.
_NEVER_AT_TOP = frozenset({"enum", "const", "not", "if", "then", "else", "items", "default"})
# Limits of a schema whose references are inlined: beyond them, a value may be anything.
_MOST_DEPTH = 40
_MOST_NODES = 3_000


class SchemaError(Exception):
    """A schema cannot be one of a tool's arguments; the message says why."""


def normalize_schema(schema: Any, lenient: bool) -> Schema:
    """Return a JSON schema of type object for a tool's arguments. The result must not be changed.

    `lenient` keeps combinations at the top, and references. Raises SchemaError if no call could
    have arguments that fit the schema.
    """
    try:
        # The same schema comes with each request of a session, so its result is cached.
        text = json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return _Normalizer(schema, lenient).run()
    return _normalize_text(text, lenient)


@lru_cache(maxsize=256)
def _normalize_text(text: str, lenient: bool) -> Schema:
    return _Normalizer(json.loads(text), lenient).run()


def find_reference(root: Any, ref: Any) -> Any:
    """Return the schema in a document to which a reference such as `#/$defs/Name` leads.

    Returns None if it leads nowhere, or out of the document, and {} for the schema `true`.
    """
    if not isinstance(ref, str) or not ref.startswith("#"):
        return None
    found = root
    for step in filter(None, ref[1:].split("/")):
        name = step.replace("%25", "%").replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(name)
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return {} if found is True else found


def list_values(schema: Schema) -> list[Any]:
    """Return the values that a schema lists; empty if it lists none."""
    return [schema["const"]] if "const" in schema else as_list(schema.get("enum"))


class _Normalizer:
    def __init__(self, root: Any, lenient: bool) -> None:
        self._root = root
        self._lenient = lenient
        self._nodes = 0

    def run(self) -> Schema:
        root = {} if self._root is True else self._root
        if root is False:
            raise SchemaError("its input schema allows no arguments at all")
        if not isinstance(root, dict):
            raise SchemaError("it has no input schema")
        schema = self._schema(root, (), 0)
        if not self._lenient:
            wanted = _names(root.get("required"))
            if wanted and any(key in schema for key in _COMBINATIONS):
                # They may be properties that only the branches have.
                schema["required"] = wanted
            schema = _flatten(schema)
        types = schema.get("type", "object")
        if "object" not in ([types] if isinstance(types, str) else types):
            raise SchemaError(f"its input schema is of type {types}, not object")
        top = {key: value for key, value in schema.items() if key not in _NEVER_AT_TOP}
        top["type"] = "object"
        top.setdefault("properties", {})
        self._declare_required(root, top)
        _repair_required(top)
        for key in _DEFINITIONS if self._lenient else ():
            if isinstance(root.get(key), dict):
                top[key] = {str(k): self._any_schema(v, (), 1) for k, v in root[key].items()}
        # The type first, as most schemas are written.
        return {"type": top.pop("type"), **top}

    def _declare_required(self, root: Schema, top: Schema) -> None:
        """Declare properties that are only required, because a model must know of them."""
        declared = root.get("properties", {})
        is_closed = root.get("additionalProperties") is False
        if is_closed or not isinstance(declared, dict) or any(key in root for key in _COMBINATIONS):
            return
        names = [name for name in _names(root.get("required")) if name not in declared]
        top["properties"] = {**{name: {} for name in names}, **top["properties"]}
        top["required"] = [*top.get("required", ()), *names]

    def _any_schema(self, value: Any, refs: tuple[str, ...], depth: int) -> Schema:
        """Return a schema normalized; if the value is none, one that allows anything."""
        return self._schema(value, refs, depth) if isinstance(value, dict) else {}

    def _schema(self, given: Schema, refs: tuple[str, ...], depth: int) -> Schema:
        self._nodes += 1
        if depth > _MOST_DEPTH or self._nodes > _MOST_NODES:
            return _bare(given)
        if "$ref" in given or "$dynamicRef" in given or "$recursiveRef" in given:
            inlined = self._inline(given, refs, depth)
            if inlined is not None:
                return inlined
        out: Schema = {}
        for key, value in given.items():
            if key in _NAMES and not isinstance(value, dict | bool):
                continue
            if key in _DEFINITIONS or key in ("$dynamicRef", "$recursiveRef"):
                continue
            if key == "const" and value is None:
                out["type"] = "null"
                continue
            kept = self._keyword(str(key), value, refs, depth)
            if kept is not None:
                out[str(key)] = kept
        # The keywords must fit each other.
        if "type" not in out and "properties" in out:
            out["type"] = "object"
        elif "type" not in out and ("items" in out or "prefixItems" in out):
            out["type"] = "array"
        types = _types(out)
        if "prefixItems" in out:
            rest = [out["items"]] if isinstance(given.get("items"), dict) else []
            out["items"] = _either([*out.pop("prefixItems"), *rest])
        if "array" in types:
            out.setdefault("items", _ANY_ITEMS)
        _repair_required(out)
        _repair_enum(out, types)
        return out

    def _inline(self, given: Schema, refs: tuple[str, ...], depth: int) -> Schema | None:
        """Return the schema that a reference stands for; None if the reference may stay."""
        ref = given.get("$ref")
        target = find_reference(self._root, ref)
        if self._lenient and target is not None and str(ref).startswith(_LOCAL):
            return None
        beside = {k: v for k, v in given.items() if not str(k).endswith(("$ref", "Ref"))}
        if isinstance(target, dict) and ref not in refs:
            # Keywords beside a reference, such as a description, count more than its target's.
            return self._schema({**target, **beside}, (*refs, str(ref)), depth + 1)
        # The reference leads nowhere or to itself: any value of that type is allowed.
        kind = _bare(target) if isinstance(target, dict) else {}
        return self._schema({**kind, **beside}, refs, depth + 1)

    def _keyword(self, key: str, value: Any, refs: tuple[str, ...], depth: int) -> Any:
        """Return a keyword's value; None if it is missing or not valid."""
        deeper = depth + 1
        if key in _SCHEMAS_BY_NAME:
            # A property whose schema is `false` must not be there.
            pairs = as_dict(value).items()
            return {str(k): self._any_schema(v, refs, deeper) for k, v in pairs if v is not False}
        if key in _COMBINATIONS or key == "prefixItems":
            usable = [self._any_schema(b, refs, deeper) for b in as_list(value) if b is not False]
            return usable or None
        if key == "items":
            if isinstance(value, list):
                return _either([self._any_schema(each, refs, deeper) for each in value])
            return self._any_schema(value, refs, deeper) or _ANY_ITEMS
        if key in _ONE_SCHEMA:
            if isinstance(value, dict):
                return self._schema(value, refs, deeper)
            return value if isinstance(value, bool) and key == "additionalProperties" else None
        if key == "type":
            return _clean_type(value)
        if key in ("title", "description", "format", "pattern", "$ref"):
            return value if isinstance(value, str) else None
        return value if value is not None and _is_json(value) else None


def _names(value: Any) -> list[str]:
    return [name for name in as_list(value) if isinstance(name, str)]


def _repair_required(out: Schema) -> None:
    if "required" not in out:
        return
    names = list(dict.fromkeys(_names(out.pop("required"))))
    if "properties" in out:
        names = [name for name in names if name in out["properties"]]
    elif "object" in _types(out):
        names = []
    if names:
        out["required"] = names


def _repair_enum(out: Schema, types: set[str]) -> None:
    if "enum" not in out:
        return
    values = as_list(out.pop("enum"))
    if "string" in types and types <= {"string", "null"}:
        # `enum: [1, on]` in a YAML file.
        nullable = "null" in types
        values = [
            v if v is None or isinstance(v, str) else json.dumps(v)
            for v in values
            if v is not None or nullable
        ]
    # By their JSON, because 1 == True.
    unique = {json.dumps(value, sort_keys=True): value for value in values}
    if unique:
        out["enum"] = list(unique.values())
        if not types and all(isinstance(value, str) for value in values):
            out["type"] = "string"


def _flatten(schema: Schema) -> Schema:
    """Return a schema without combinations at its top: one object with the properties of all.

    The result no longer says which properties belong together; the tool still checks that.
    """
    if not any(key in schema for key in _COMBINATIONS):
        return schema
    out = {key: value for key, value in schema.items() if key not in _COMBINATIONS}
    properties = dict(out.get("properties", {}))
    required = list(out.get("required", ()))
    for key in _COMBINATIONS:
        branches = [b for b in map(_as_object, schema.get(key, ())) if b is not None]
        if schema.get(key) and not branches and "properties" not in schema:
            raise SchemaError("its input schema allows no object")
        for branch in branches:
            for name, value in branch.get("properties", {}).items():
                known = properties.get(name)
                if known is not None:
                    value = {**known, **value} if key == "allOf" else _join(known, value)
                properties[name] = value
            for extra in ("title", "description"):
                if extra in branch and key == "allOf":
                    out.setdefault(extra, branch[extra])
        lists = [branch.get("required", []) for branch in branches]
        if key == "allOf":
            required += [name for names in lists for name in names]
        elif lists:
            # Of alternatives, only what all of them require.
            required += [name for name in lists[0] if all(name in names for names in lists)]
        if any("additionalProperties" in branch for branch in branches):
            # It was for the properties of one branch, not for those of all.
            out.pop("additionalProperties", None)
    for branch in (each for key in _COMBINATIONS for each in schema.get(key, ())):
        # Some branches only require properties that nothing describes.
        for name in branch.get("required", ()):
            properties.setdefault(name, {})
    out["type"] = "object"
    out["properties"] = properties
    out.pop("required", None)
    if names := [name for name in dict.fromkeys(required) if name in properties]:
        out["required"] = names
    return out


def _as_object(branch: Schema) -> Schema | None:
    """Return a branch, flattened; None if it is not an object (most often it is `null`)."""
    try:
        flat = _flatten(branch)
    except SchemaError:
        return None
    return flat if not _types(flat) or "object" in _types(flat) else None


def _join(first: Schema, second: Schema) -> Schema:
    """Return a schema that allows what either of two allows."""
    if first == second:
        return first
    values = [*list_values(first), *list_values(second)]
    same_rest = _without_values(first) == _without_values(second)
    if same_rest and list_values(first) and list_values(second):
        unique = list({json.dumps(v, sort_keys=True): v for v in values}.values())
        return {**_without_values(first), "enum": unique}
    known = first["anyOf"] if set(first) == {"anyOf"} else [first]
    return {"anyOf": known if second in known else [*known, second]}


def _without_values(schema: Schema) -> Schema:
    rest = {key: value for key, value in schema.items() if key not in ("const", "enum")}
    values = list_values(schema)
    if "type" not in rest and values and all(isinstance(value, str) for value in values):
        rest["type"] = "string"
    return rest


def _either(schemas: list[Schema]) -> Schema:
    unique = [each for i, each in enumerate(schemas) if each not in schemas[:i]]
    if not unique or {} in unique:
        return _ANY_ITEMS
    return unique[0] if len(unique) == 1 else {"anyOf": unique}


def _clean_type(value: Any) -> Any:
    if not isinstance(value, list):
        return _type_name(value)
    names = list(dict.fromkeys(filter(None, map(_type_name, value))))
    return names or None


def _type_name(value: Any) -> str | None:
    name = value.lower() if isinstance(value, str) else ""
    name = _ALIASES.get(name, name)
    return name if name in _SPELLINGS else None


def _types(schema: Schema) -> set[str]:
    types = schema.get("type", [])
    return {types} if isinstance(types, str) else set(types)


def _bare(schema: Schema) -> Schema:
    """Return only the type and the description of a schema."""
    out: Schema = {}
    if kind := _clean_type(schema.get("type")):
        out["type"] = kind
    elif isinstance(schema.get("properties"), dict):
        out["type"] = "object"
    if isinstance(schema.get("description"), str):
        out["description"] = schema["description"]
    if "array" in _types(out):
        out["items"] = _ANY_ITEMS
    return out


def _is_json(value: Any, depth: int = 0) -> bool:
    """Return whether a value can be sent as JSON: YAML also has dates, and Python has NaN."""
    if depth > _MOST_DEPTH:
        return False
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_json(v, depth + 1) for k, v in value.items())
    if isinstance(value, list):
        return all(_is_json(each, depth + 1) for each in value)
    return math.isfinite(value) if isinstance(value, float) else isinstance(value, str | int | None)
