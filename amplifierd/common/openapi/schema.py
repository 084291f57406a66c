"""Writing JSON Schema shortly: the words from which components are made."""

from typing import Any

Schema = dict[str, Any]


def text(description: str = "", **more: Any) -> Schema:
    """Return the schema of a text."""
    return _described({"type": "string"}, description, more)


def whole(description: str = "", **more: Any) -> Schema:
    """Return the schema of a whole number that is not negative."""
    return _described({"type": "integer", "minimum": 0}, description, more)


def number(description: str = "", **more: Any) -> Schema:
    """Return the schema of a number."""
    return _described({"type": "number"}, description, more)


def flag(description: str = "") -> Schema:
    """Return the schema of a truth value."""
    return _described({"type": "boolean"}, description, {})


def time(description: str = "") -> Schema:
    """Return the schema of a time: ISO 8601, UTC, `Z`, microseconds."""
    return _described({"type": "string", "format": "date-time"}, description, {})


def anything(description: str = "") -> Schema:
    """Return the schema of any JSON."""
    return _described({}, description, {})


def free(description: str = "") -> Schema:
    """Return the schema of an object with keys of somebody's own."""
    return _described({"type": "object", "additionalProperties": {}}, description, {})


def choice(*values: str, description: str = "") -> Schema:
    """Return the schema of one of several words."""
    return _described({"type": "string", "enum": list(values)}, description, {})


def listed(item: Schema, description: str = "") -> Schema:
    """Return the schema of a list."""
    return _described({"type": "array", "items": item}, description, {})


def by_name(item: Schema, description: str = "") -> Schema:
    """Return the schema of an object whose keys are names, and whose values are alike."""
    return _described({"type": "object", "additionalProperties": item}, description, {})


def nullable(schema: Schema) -> Schema:
    """Return the schema of the same, or null."""
    if "$ref" in schema:
        return {"oneOf": [schema, {"type": "null"}]}
    kinds = {**schema, "type": [schema["type"], "null"]}
    return kinds | {"enum": [*schema["enum"], None]} if "enum" in schema else kinds


def ref(name: str) -> Schema:
    """Return the schema that a component is."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(
    description: str, properties: dict[str, Schema], *, example: Any = None, optional: str = ""
) -> Schema:
    """Return the schema of an object; all properties are always there but the optional ones."""
    left_out = optional.split()
    schema: Schema = {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": [name for name in properties if name not in left_out],
    }
    return schema | {"examples": [example]} if example is not None else schema


def example_of(schema: Schema, components: dict[str, Schema]) -> Any:
    """Return an example of a schema: its own, that of its component, or one made of its parts."""
    if "$ref" in schema:
        return example_of(components[schema["$ref"].rpartition("/")[2]], components)
    if "examples" in schema:
        return schema["examples"][0]
    if schema.get("type") == "array":
        return [example_of(schema["items"], components)]
    if "properties" in schema:
        properties = schema["properties"].items()
        return {name: example_of(item, components) for name, item in properties}
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return example_of(schema[several][0], components)
    return _plain_example(schema)


def _plain_example(schema: Schema) -> Any:
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("format") == "date-time":
        return "2026-01-31T12:00:00.000000Z"
    kind = schema.get("type", "object")
    kind = kind[-1] if isinstance(kind, list) else kind
    return {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "object": {}}.get(kind)


def _described(schema: Schema, description: str, more: dict[str, Any]) -> Schema:
    return {**schema, **({"description": description} if description else {}), **more}
