"""The messages of an MCP server: answers to our requests are repaired and passed on, no others.

Repairs work on the JSON of a message, before the library validates it. Otherwise one tool without a
schema, or one unknown block, would make the library refuse all tools, or the text beside it.
"""

import base64
import json
import re
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from mcp import ClientSession
from mcp.shared.message import SessionMessage
from mcp_types import (
    METHOD_NOT_FOUND,
    CallToolResult,
    ErrorData,
    JSONRPCError,
    JSONRPCRequest,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)

from amplifierd.common.text import is_blank, make_storable
from sessions_app.engine.tools.base import ANSWER_LIMIT, fill_blank, shorten
from sessions_app.engine.wire.json_text import as_dict

# Messages in one connection that are not answers to our requests.
UNASKED_LIMIT = 100_000
NOTHING = "Nothing was answered."
# Hints of a server that a tool changes nothing, or nothing more if it is called again.
HARMLESS = ("readOnlyHint", "idempotentHint")
# The code of an error for which the server sent no number.
_NO_CODE = -32_000
# Fields of a result that belong to the protocol and are not data.
_PROTOCOL_FIELDS = {"_meta", "content", "structuredContent", "isError", "resultType"}
# Values of structured content that are searched for in the text beside it.
_VALUES = 200
_TEXT_TYPES = ("text/", "application/json", "application/xml", "application/yaml")

Message = SessionMessage | Exception


class McpSession(ClientSession):
    """A session that does not validate structured results, because only a model reads them."""

    async def validate_tool_result(self, name: str, result: CallToolResult) -> None:
        """Accept the result, whatever schema the server has given."""


class MessageFilter:
    """Passes on the answers to our requests, repaired.

    Notifications are dropped. Requests of the server (for a model, a person, files) are refused.
    """

    def __init__(self) -> None:
        # Why tools cannot be offered, as clauses after the server's name.
        self.reasons: list[str] = []
        # Whether more messages may come.
        self.is_open = True
        # The method of each request, on which the repair of its answer depends.
        self._methods: dict[Any, str] = {}

    @asynccontextmanager
    async def connect(
        self, incoming: AsyncIterable[Message], sink: Any
    ) -> AsyncIterator[tuple[ObjectReceiveStream[Message], Any]]:
        """Give the streams for a session: answers of the server, and requests to it."""
        send, receive = anyio.create_memory_object_stream[Message]()
        async with receive, anyio.create_task_group() as group:
            group.start_soon(self._pass_on, incoming, sink, send)
            yield receive, RequestRecorder(sink, self._methods)
            group.cancel_scope.cancel()

    async def _pass_on(
        self, incoming: AsyncIterable[Message], sink: Any, send: ObjectSendStream[Message]
    ) -> None:
        unasked = 0
        try:
            async with send:
                async for item in incoming:
                    message = item.message if isinstance(item, SessionMessage) else item
                    if isinstance(message, JSONRPCResponse | JSONRPCError | Exception):
                        await send.send(self._repair(item))
                        continue
                    if isinstance(message, JSONRPCRequest):
                        await sink.send(SessionMessage(_refuse(message)))
                    unasked += 1
                    if unasked >= UNASKED_LIMIT:
                        return
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return
        finally:
            self.is_open = False

    def _repair(self, item: Message) -> Message:
        if not isinstance(item, SessionMessage) or not isinstance(item.message, JSONRPCResponse):
            return item
        method = self._methods.pop(item.message.id, "")
        if method == "tools/call":
            result = repair_result(item.message.result)
        elif method == "tools/list":
            result, reasons = repair_tools(item.message.result)
            self.reasons += reasons
        else:
            return item
        repaired = item.message.model_copy(update={"result": result})
        return SessionMessage(repaired, metadata=item.metadata)


class RequestRecorder:
    """A stream to a server that records the method of each request."""

    def __init__(self, sink: Any, methods: dict[Any, str]) -> None:
        self._sink, self._methods = sink, methods

    async def send(self, item: SessionMessage, /) -> None:
        if isinstance(item.message, JSONRPCRequest):
            self._methods[item.message.id] = item.message.method
        await self._sink.send(item)

    async def aclose(self) -> None:
        await self._sink.aclose()

    async def __aenter__(self) -> "RequestRecorder":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _refuse(request: JSONRPCRequest) -> JSONRPCResponse | JSONRPCError:
    if request.method == "ping":
        return JSONRPCResponse(jsonrpc="2.0", id=request.id, result={})
    error = ErrorData(
        code=METHOD_NOT_FOUND,
        message=f"{request.method} is not offered: servers get no model, no files and no person.",
    )
    return JSONRPCError(jsonrpc="2.0", id=request.id, error=error)


def parse_messages(line: bytes) -> list[Any]:
    """Return the messages in a line: one, several of a batch, or none."""
    try:
        return [jsonrpc_message_adapter.validate_json(line, by_name=False)]
    except ValueError:
        pass
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return []
    messages = []
    for each in data if isinstance(data, list) else [data]:
        repaired = repair_envelope(each) if isinstance(each, dict) else each
        try:
            messages.append(jsonrpc_message_adapter.validate_python(repaired, by_name=False))
        except ValueError:
            continue
    return messages


def repair_envelope(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message whose result or error has the form of the protocol."""
    repaired = {"jsonrpc": "2.0", **message}
    if repaired.get("error") is not None:
        repaired.pop("result", None)
        error = repaired["error"]
        given = error if isinstance(error, dict) else {"message": error}
        code, text = given.get("code"), given.get("message", "")
        repaired["error"] = {
            "code": code if isinstance(code, int) else _NO_CODE,
            "message": text if isinstance(text, str) else json.dumps(text),
        }
    elif "result" in repaired:
        repaired.pop("error", None)
        result = repaired["result"]
        if not isinstance(result, dict):
            repaired["result"] = {} if result is None else {"content": result}
    return repaired


def repair_tools(result: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a page of tools without those that cannot be used, and the reasons.

    The reasons are clauses after the server's name.
    """
    listed = result.get("tools")
    if not isinstance(listed, list):
        return {**result, "tools": []}, ["tells of no list of tools"]
    tools: list[dict[str, Any]] = []
    reasons: list[str] = []
    for entry in listed:
        name, schema = as_dict(entry).get("name"), as_dict(entry).get("inputSchema")
        if not isinstance(name, str) or is_blank(name):
            reasons.append("has a tool without a name, which is left out")
        elif not isinstance(schema, dict):
            reasons.append(
                f"does not say what arguments its tool {name!r} takes (`inputSchema`): left out"
            )
        elif schema.get("type", "object") not in ("object", ["object"]):
            reasons.append(f"says that the arguments of its tool {name!r} are no object: left out")
        else:
            tools.append(repair_tool(entry))
    cursor = result.get("nextCursor")
    kept = {key: item for key, item in result.items() if key != "nextCursor"}
    more = {"nextCursor": cursor} if isinstance(cursor, str) and cursor else {}
    return {**kept, **more, "tools": tools}, reasons


def repair_tool(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a tool that are used, in the form of the protocol."""
    schema = {**entry["inputSchema"], "type": "object"}
    if not isinstance(schema.get("properties", {}), dict):
        del schema["properties"]
    if "required" in schema:
        required = schema.pop("required")
        if isinstance(required, list) and all(isinstance(name, str) for name in required):
            schema["required"] = required
    texts = (entry.get(key) for key in ("description", "title"))
    description = next((each for each in texts if isinstance(each, str) and not is_blank(each)), "")
    hints = as_dict(entry.get("annotations"))
    return {
        "name": entry["name"],
        "description": description,
        "inputSchema": schema,
        "annotations": {hint: True for hint in HARMLESS if hints.get(hint) is True},
    }


def repair_result(result: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a call, with all its content as one text.

    A result that asks for input stays as it is.
    """
    if result.get("resultType", "complete") != "complete":
        return result
    content = result.get("content")
    blocks = content if isinstance(content, list) else [] if content is None else [content]
    text = "\n".join(map(format_block, blocks))
    data = result.get("structuredContent")
    if data is None and is_blank(text):
        data = {key: item for key, item in result.items() if key not in _PROTOCOL_FIELDS} or None
    if data is not None and not _contains(text, data):
        written = json.dumps(data, ensure_ascii=False)
        text = written if is_blank(text) else f"{text}\n{written}"
    text = fill_blank(shorten(make_storable(text)), NOTHING)
    kept: dict[str, Any] = {key: result[key] for key in ("resultType", "_meta") if key in result}
    blocks = [{"type": "text", "text": text}]
    return {**kept, "content": blocks, "isError": result.get("isError") is True}


def _contains(text: str, data: Any) -> bool:
    """Return whether all values of the data are in a text, in any layout."""
    if len(text) > ANSWER_LIMIT:
        # Data after it would be cut off anyway.
        return True
    left, count = [data], 0
    while left:
        item = left.pop()
        if isinstance(item, dict | list):
            left.extend(item.values() if isinstance(item, dict) else item)
            continue
        count += 1
        value = item if isinstance(item, str) else json.dumps(item)
        forms = {value, *(json.dumps(value, ensure_ascii=each)[1:-1] for each in (True, False))}
        is_there = any(re.search(rf"(?<!\w){re.escape(form)}(?!\w)", text) for form in forms)
        if count > _VALUES or not is_there:
            return False
    return count > 0


def format_block(block: Any) -> str:
    if not isinstance(block, dict):
        return block if isinstance(block, str) else json.dumps(block, ensure_ascii=False)
    kind = block.get("type")
    if isinstance(text := block.get("text"), str) and kind in ("text", None):
        return text
    if kind in ("image", "audio") and isinstance(data := block.get("data"), str):
        return f"({kind}, {_format_size(data)})"
    if kind == "resource_link" and isinstance(block.get("uri"), str):
        name = block.get("name") or block.get("title") or "a resource"
        text = block.get("description")
        more = f" ({text})" if isinstance(text, str) and not is_blank(text) else ""
        return f"(link to {name}: {block['uri']}{more})"
    if kind != "resource" or not isinstance(resource := block.get("resource"), dict):
        return json.dumps(block, ensure_ascii=False)
    text, blob = resource.get("text"), resource.get("blob")
    if isinstance(text, str):
        return text
    if not isinstance(blob, str):
        return json.dumps(resource, ensure_ascii=False)
    if str(resource.get("mimeType") or "").startswith(_TEXT_TYPES):
        with suppress(ValueError):
            return base64.b64decode(blob, validate=True).decode()
    return f"(file {resource.get('uri')}, {_format_size(blob)})"


def _format_size(data: str) -> str:
    """Return the size of the content of base64 data, as text with a unit."""
    size = len(data.rstrip("=")) * 3 // 4
    return f"{size} bytes" if size < 1000 else f"{size / 1000:.0f} kB"
