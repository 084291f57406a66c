"""Functions that build JSON Schema, for the description of answers, events and problems."""

from typing import Any

Schema = dict[str, Any]
MOMENT = "2026-01-31T12:00:00.000000Z"


def text(description: str = "", **more: Any) -> Schema:
    return _describe({"type": "string"}, description, more)


def whole(description: str = "", **more: Any) -> Schema:
    """Return the schema of a whole number that is not negative."""
    return _describe({"type": "integer", "minimum": 0}, description, more)


def number(description: str = "", **more: Any) -> Schema:
    return _describe({"type": "number"}, description, more)


def flag(description: str = "", **more: Any) -> Schema:
    return _describe({"type": "boolean"}, description, more)


def time(description: str = "", **more: Any) -> Schema:
    """Return the schema of a time: ISO 8601, UTC, `Z`, microseconds."""
    return _describe({"type": "string", "format": "date-time"}, description, more)


def anything(description: str = "", **more: Any) -> Schema:
    return _describe({}, description, more)


def free(description: str = "", **more: Any) -> Schema:
    """Return the schema of an object with any keys."""
    return _describe({"type": "object", "additionalProperties": {}}, description, more)


def choice(*values: str, description: str = "", **more: Any) -> Schema:
    return _describe({"type": "string", "enum": list(values)}, description, more)


def list_of(item: Schema, description: str = "", **more: Any) -> Schema:
    return _describe({"type": "array", "items": item}, description, more)


def by_name(item: Schema, description: str = "", **more: Any) -> Schema:
    """Return the schema of an object with any keys, whose values all have one schema."""
    return _describe({"type": "object", "additionalProperties": item}, description, more)


def deprecate(schema: Schema, instead: str = "") -> Schema:
    """Return the schema of what is there for old clients only; `instead` is what others read."""
    description = " ".join(filter(None, [schema.get("description"), instead and f"Use {instead}."]))
    return {**schema, "deprecated": True} | ({"description": description} if description else {})


def nullable(schema: Schema) -> Schema:
    if "$ref" in schema:
        return {"oneOf": [schema, {"type": "null"}]}
    kinds = {**schema, "type": [schema["type"], "null"]}
    return kinds | {"enum": [*schema["enum"], None]} if "enum" in schema else kinds


def ref(component: str | type) -> Schema:
    """Return the reference to a component, given by its name or its serializer."""
    name = component if isinstance(component, str) else component.__name__
    return {"$ref": f"#/components/schemas/{name.removesuffix('Serializer')}"}


def record(
    description: str, properties: dict[str, Schema], *, example: Any = None, optional: str = ""
) -> Schema:
    """Return the schema of an object; properties are required unless `optional` names them."""
    left_out = optional.split()
    schema: Schema = {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": [name for name in properties if name not in left_out],
    }
    return schema | {"examples": [example]} if example is not None else schema


def example_of(schema: Schema, components: dict[str, Schema]) -> Any:
    """Return an example of a schema: its own, its component's, or one made from its parts."""
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
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    if schema.get("format") == "date-time":
        return MOMENT
    kind = kind[-1] if isinstance(kind, list) else kind
    return {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "object": {}}.get(kind)


def _describe(schema: Schema, description: str, more: dict[str, Any]) -> Schema:
    """Return the schema with a description and further keywords; `example` is one value."""
    if description:
        schema = {**schema, "description": description}
    if "example" in more:
        schema = {**schema, "examples": [more.pop("example")]}
    return {**schema, **more}
