"""An MCP server without a library, whose tools have the schemas and results that real ones have.

`mcp_server.py NAME …` offers the tools of these names.
"""

import json
import sys
from typing import Any

OBJECT = {"type": "object", "properties": {"text": {"type": "string"}}}
SCHEMAS: dict[str, Any] = {
    "plain": OBJECT,
    # By pydantic, by hand, by zod, by Java's generators.
    "array": {"type": "object", "properties": {"ids": {"type": "array"}}, "required": ["ids"]},
    "nested_array": {
        "type": "object",
        "properties": {
            "rows": {"type": "array", "items": {"type": "array"}},
            "maybe": {"anyOf": [{"type": "array"}, {"type": "null"}]},
        },
    },
    "nullable_array": {"type": "object", "properties": {"ids": {"type": ["array", "null"]}}},
    "any_of": {"anyOf": [OBJECT, {"type": "object", "properties": {"id": {"type": "integer"}}}]},
    "all_of": {"type": "object", "allOf": [OBJECT, {"required": ["text"]}]},
    "one_of": {"type": "object", "oneOf": [{"required": ["text"]}, {"required": ["id"]}]},
    "no_type": {"properties": {"text": {"type": "string"}}},
    "empty": {},
    "refs": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "definitions": {"Point": {"type": "object", "properties": {"x": {"type": "number"}}}},
        "properties": {"at": {"$ref": "#/definitions/Point"}},
        "additionalProperties": False,
    },
    "recursive": {
        "type": "object",
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {"next": {"$ref": "#/$defs/Node"}, "name": {"type": "string"}},
            }
        },
        "properties": {"root": {"$ref": "#/$defs/Node"}},
    },
    "undeclared": {"type": "object", "properties": {}, "required": ["ghost"]},
    "true_property": {"type": "object", "properties": {"anything": True}},
    "no_schema": None,
    "files.read": OBJECT,
    "namespace/with:signs and blanks": OBJECT,
    "a" * 100: OBJECT,
    "blank": OBJECT,
    "nothing": OBJECT,
    "zero_width": OBJECT,
}
TEXTS = {"blank": "\n \t", "zero_width": "\u200b\ufeff"}


def tool(name: str) -> dict[str, Any]:
    named = {"name": name, "description": f"Does {name[:20]}."}
    schema = SCHEMAS[name]
    return named if schema is None else {**named, "inputSchema": schema}


def result(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "rude", "version": "1"},
        }
    if method == "tools/list":
        return {"tools": [tool(name) for name in sys.argv[1:]]}
    if method == "tools/call":
        if params["name"] == "nothing":
            return {"content": []}
        text = TEXTS.get(params["name"], f"done: {params['name']}")
        return {"content": [{"type": "text", "text": text}]}
    return {} if method == "ping" else None


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message and "method" in message:
            given = result(message["method"], message.get("params") or {})
            unknown = {"code": -32601, "message": "Method not found"}
            answer = {"error": unknown} if given is None else {"result": given}
            print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}), flush=True)


if __name__ == "__main__":
    main()
