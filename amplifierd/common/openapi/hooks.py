"""What drf-spectacular cannot know: paths with and without a slash, streams, links, refusals."""

import json
from typing import Any

from amplifierd.common.openapi.autoschema import PREFIX, common, explained, responses
from amplifierd.common.openapi.components import HEADERS, SECURITY, TAGS
from amplifierd.common.openapi.components import responses as refusals
from amplifierd.common.openapi.tables import COMPONENTS, OPERATIONS, STREAMS

Endpoint = tuple[str, str, str, Any]
TEXT = {"type": "string"}
# A directory's own path may end in `/agents`; only PUT means its instructions.
AGENTS = ".+/agents"
CURSORS: list[dict[str, Any]] = [
    {
        "name": "Last-Event-ID",
        "in": "header",
        "required": False,
        "description": "The last event that the client has; browsers send it by themselves.",
        "schema": {"type": "string", "pattern": "^[0-9]{0,18}$"},
    },
    {"name": "after", "in": "query", "required": False, "schema": {"type": "integer"}},
]


def once(endpoints: list[Endpoint]) -> list[Endpoint]:
    """Return each endpoint at the path by which the documentation names it."""
    found = []
    for path, regex, method, view in endpoints:
        if AGENTS not in regex:
            found.append((_named(path), regex, method, view))
        elif method == "PUT":
            found.append((f"{_named(path)}/agents", regex, method, view))
    return found


def _named(path: str) -> str:
    """Return the path as clients write it: lists with a slash at the end, all else without."""
    bare = path.rstrip("/")
    return f"{bare}/" if f"{bare.removeprefix(PREFIX)}/" in LISTS else bare


LISTS = {key.partition(" ")[2] for key in OPERATIONS if key.endswith("/")}


def complete(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Return the document with what belongs to it beside the views' operations."""
    for key in STREAMS:
        method, path = key.split(" ")
        result["paths"].setdefault(f"{PREFIX}{path}", {})[method.lower()] = _stream(key)
    schemas = result["components"].setdefault("schemas", {})
    for body in schemas.values():
        # What is here so far are bodies; a typo in a key is refused.
        body["additionalProperties"] = False
        body["properties"] = {
            name: _optional(schema) for name, schema in body["properties"].items()
        }
    schemas |= COMPONENTS
    result["components"] = {
        "schemas": dict(sorted(schemas.items())),
        "responses": refusals(),
        "headers": HEADERS,
        "securitySchemes": SECURITY,
    }
    result["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
    _link(result["paths"])
    result["paths"] = dict(sorted(result["paths"].items()))
    return _without(result, "x-spec-enum-id")


def _optional(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a property of a body with its default in words.

    A generator of types such as openapi-typescript takes a property with a `default` to be always
    there, and has callers send it.
    """
    if "default" not in schema:
        return schema
    rest = {key: value for key, value in schema.items() if key != "default"}
    told = f"By default {json.dumps(schema['default'])}."
    return rest | {"description": f"{schema.get('description', '')} {told}".strip()}


def _stream(key: str) -> dict[str, Any]:
    method, path = key.split(" ")
    told = STREAMS[key]
    cursors = CURSORS if "{" in path else []
    words = [
        {"name": name, "in": "query", "required": name in told.needs, "schema": TEXT}
        for name in told.words
    ]
    return {
        "operationId": told.id,
        "summary": told.summary,
        "description": told.description,
        "tags": [told.tag],
        "parameters": [explained(item) for item in [*common(method, path), *cursors, *words]],
        "security": [{"apiKey": []}, {}],
        "responses": responses(told, method, path),
    }


def _link(paths: dict[str, Any]) -> None:
    """Add to answers that give an id the operations that take it."""
    takers = {key: _variables(key) for key in OPERATIONS if "{" in key}
    for key, told in OPERATIONS.items():
        links = {
            OPERATIONS[taker].id: {
                "operationId": OPERATIONS[taker].id,
                "parameters": {name: told.gives[name] for name in sorted(variables)},
            }
            for taker, variables in takers.items()
            if told.gives and variables <= told.gives.keys()
        }
        if links:
            method, path = key.split(" ")
            answers = paths[f"{PREFIX}{path}"][method.lower()]["responses"]
            # Of several answers, the one that says where things are is the later one: 202.
            answers[str(max(told.answers))]["links"] = links


def _without(value: Any, key: str) -> Any:
    """Return the value without a key that is drf-spectacular's own."""
    if isinstance(value, dict):
        return {name: _without(item, key) for name, item in value.items() if name != key}
    return [_without(item, key) for item in value] if isinstance(value, list) else value


def _variables(key: str) -> set[str]:
    return {part[1:-1] for part in key.split("/") if part.startswith("{")}
