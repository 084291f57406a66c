"""What an MCP server says, made fit to be read: whatever of the protocol it does not keep to.

All of it works on the JSON of a message, before anything checks that: a tool without a schema must
not take the others with it, nor a block that nobody knows the text beside it.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from typing import Any

from amplifierd.common.text import is_blank, storable
from sessions_app.engine.tools.base import ANSWER_LIMIT, fill_blank, shorten

NOTHING = "Nothing was answered."
# What a server says of a tool that changes nothing, or nothing more when it is called again.
HARMLESS = ("readOnlyHint", "idempotentHint")
# What is no data in a result.
_MANNERS = {"_meta", "content", "structuredContent", "isError", "resultType"}
# Values of structured content that are looked for in the text beside it.
_VALUES = 200
_TEXT_TYPES = ("text/", "application/json", "application/xml", "application/yaml")


def mend_result(result: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a call with its data as one text; one that asks for more as it is."""
    if result.get("resultType", "complete") != "complete":
        return result
    text = fill_blank(shorten(storable(_describe(result))), NOTHING)
    kept = {key: result[key] for key in ("resultType", "_meta") if key in result}
    content = [{"type": "text", "text": text}]
    return {**kept, "content": content, "isError": result.get("isError") is True}


def mend_tools(result: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a page of the list of tools, only what can be used of it, and why the rest cannot.

    The reasons are the ends of sentences that begin with the server.
    """
    listed = result.get("tools")
    if not isinstance(listed, list):
        return {**result, "tools": []}, ["tells of no list of tools"]
    tools: list[dict[str, Any]] = []
    reasons: list[str] = []
    for entry in listed:
        if reason := _find_error(entry):
            reasons.append(reason)
        else:
            tools.append(_mend_tool(entry))
    cursor = result.get("nextCursor")
    kept = {key: item for key, item in result.items() if key != "nextCursor"}
    more = {"nextCursor": cursor} if isinstance(cursor, str) and cursor else {}
    return {**kept, **more, "tools": tools}, reasons


def _find_error(entry: Any) -> str:
    """Return why a tool cannot be offered; nothing where it can."""
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or is_blank(name):
        return "has a tool without a name, which is left out"
    schema = entry.get("inputSchema")
    if not isinstance(schema, dict):
        return f"does not say what arguments its tool {name!r} takes (`inputSchema`): left out"
    if schema.get("type", "object") not in ("object", ["object"]):
        return f"says that the arguments of its tool {name!r} are no object: left out"
    return ""


def _mend_tool(entry: dict[str, Any]) -> dict[str, Any]:
    """Return what of a tool is used, as the protocol has it."""
    schema = {**entry["inputSchema"], "type": "object"}
    if not isinstance(schema.get("properties", {}), dict):
        del schema["properties"]
    if "required" in schema:
        required = schema.pop("required")
        if isinstance(required, list) and all(isinstance(name, str) for name in required):
            schema["required"] = required
    said = (entry.get(key) for key in ("description", "title"))
    description = next((each for each in said if isinstance(each, str) and not is_blank(each)), "")
    hints = entry.get("annotations")
    hints = hints if isinstance(hints, dict) else {}
    return {
        "name": entry["name"],
        "description": description,
        "inputSchema": schema,
        "annotations": {hint: True for hint in HARMLESS if hints.get(hint) is True},
    }


def _describe(result: dict[str, Any]) -> str:
    content = result.get("content")
    blocks = content if isinstance(content, list) else [] if content is None else [content]
    text = "\n".join(map(_block, blocks))
    data = result.get("structuredContent")
    if data is None and is_blank(text):
        data = {key: item for key, item in result.items() if key not in _MANNERS} or None
    if data is None or _is_told(data, text):
        return text
    written = json.dumps(data, ensure_ascii=False)
    return written if is_blank(text) else f"{text}\n{written}"


def _is_told(data: Any, text: str) -> bool:
    """Tell whether a text has the data in it, however they are laid out."""
    if len(text) > ANSWER_LIMIT:
        # What came behind it would be cut off.
        return True
    values = list(_values(data))
    return 0 < len(values) <= _VALUES and all(_stands_in(value, text) for value in values)


def _stands_in(value: str, text: str) -> bool:
    forms = {value, *(json.dumps(value, ensure_ascii=each)[1:-1] for each in (True, False))}
    return any(re.search(rf"(?<!\w){re.escape(form)}(?!\w)", text) for form in forms)


def _values(data: Any) -> Iterator[str]:
    """Yield the values in data as text, so many at most that it can be told there are too many."""
    left, count = [data], 0
    while left and count <= _VALUES:
        item = left.pop()
        if isinstance(item, dict | list):
            left.extend(item.values() if isinstance(item, dict) else item)
            continue
        count += 1
        yield item if isinstance(item, str) else json.dumps(item)


def _block(block: Any) -> str:
    if not isinstance(block, dict):
        return block if isinstance(block, str) else json.dumps(block, ensure_ascii=False)
    kind = block.get("type")
    if isinstance(text := block.get("text"), str) and kind in ("text", None):
        return text
    if kind in ("image", "audio") and isinstance(data := block.get("data"), str):
        return f"({kind}, {_size(data)})"
    if kind == "resource_link" and isinstance(block.get("uri"), str):
        return _link(block)
    if kind == "resource" and isinstance(resource := block.get("resource"), dict):
        return _resource(resource)
    return json.dumps(block, ensure_ascii=False)


def _link(block: dict[str, Any]) -> str:
    name = block.get("name") or block.get("title") or "a resource"
    said = block.get("description")
    more = f" ({said})" if isinstance(said, str) and not is_blank(said) else ""
    return f"(link to {name}: {block['uri']}{more})"


def _resource(resource: dict[str, Any]) -> str:
    if isinstance(text := resource.get("text"), str):
        return text
    blob = resource.get("blob")
    if not isinstance(blob, str):
        return json.dumps(resource, ensure_ascii=False)
    if str(resource.get("mimeType") or "").startswith(_TEXT_TYPES):
        try:
            return base64.b64decode(blob, validate=True).decode()
        except (binascii.Error, ValueError):
            pass
    return f"(file {resource.get('uri')}, {_size(blob)})"


def _size(data: str) -> str:
    """Return how much base64 stands for."""
    size = len(data.rstrip("=")) * 3 // 4
    return f"{size} bytes" if size < 1000 else f"{size / 1000:.0f} kB"
