"""What lies between an MCP server and its session: it passes on answers, mended, no more."""

import json
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

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

from sessions_app.engine.tools.mcp.answers import mend_result, mend_tools
from sessions_app.engine.tools.mcp.process import Child

# Lines that are no messages, and messages that nobody has asked for, in one connection.
GARBAGE_LIMIT = 1_000
UNASKED_LIMIT = 100_000
# What a server's error is called by that gave it no number.
_NO_CODE = -32_000

Message = SessionMessage | Exception


class Sink(Protocol):
    """Takes messages for a server."""

    async def send(self, item: SessionMessage, /) -> None:
        """Send a message."""
        ...


class Session(ClientSession):
    """A session that takes structured answers as they are: only a model reads them."""

    async def validate_tool_result(self, name: str, result: CallToolResult) -> None:
        """Accept the result, whatever schema the server has told."""


class Screen:
    """Passes on what answers our requests, out of all that comes from a server.

    What the server tells is dropped. What it asks for (a model, a person, files) is refused.
    """

    def __init__(self) -> None:
        # Why tools cannot be offered, as the ends of sentences.
        self.reasons: list[str] = []
        # Whether there is anything more to come.
        self.is_open = True
        self._methods: dict[Any, str] = {}

    @asynccontextmanager
    async def between(
        self, incoming: AsyncIterable[Message], sink: Any
    ) -> AsyncIterator[tuple[ObjectReceiveStream[Message], Any]]:
        """Give the streams of a session."""
        send, receive = anyio.create_memory_object_stream[Message]()
        async with receive, anyio.create_task_group() as group:
            group.start_soon(self._pass_on, incoming, sink, send)
            yield receive, _Noting(sink, self._methods)
            group.cancel_scope.cancel()

    async def _pass_on(
        self, incoming: AsyncIterable[Message], sink: Sink, send: ObjectSendStream[Message]
    ) -> None:
        unasked = 0
        try:
            async with send:
                async for item in incoming:
                    message = item.message if isinstance(item, SessionMessage) else item
                    if isinstance(message, JSONRPCResponse | JSONRPCError | Exception):
                        await send.send(self._mend(item))
                        continue
                    if isinstance(message, JSONRPCRequest):
                        await sink.send(SessionMessage(_refusal(message)))
                    unasked += 1
                    if unasked >= UNASKED_LIMIT:
                        return
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return
        finally:
            self.is_open = False

    def _mend(self, item: Message) -> Message:
        message = item.message if isinstance(item, SessionMessage) else item
        if not isinstance(item, SessionMessage) or not isinstance(message, JSONRPCResponse):
            return item
        method = self._methods.pop(message.id, "")
        if method == "tools/call":
            result = mend_result(message.result)
        elif method == "tools/list":
            result, reasons = mend_tools(message.result)
            self.reasons += reasons
        else:
            return item
        mended = message.model_copy(update={"result": result})
        return SessionMessage(mended, metadata=item.metadata)


class _Noting:
    """A stream to a server that notes what was asked, so that the answer can be told by it."""

    def __init__(self, sink: Any, methods: dict[Any, str]) -> None:
        self._sink, self._methods = sink, methods

    async def send(self, item: SessionMessage, /) -> None:
        if isinstance(item.message, JSONRPCRequest):
            self._methods[item.message.id] = item.message.method
        await self._sink.send(item)

    async def aclose(self) -> None:
        await self._sink.aclose()

    async def __aenter__(self) -> "_Noting":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


@asynccontextmanager
async def connect_child(
    child: Child, screen: Screen, **options: Any
) -> AsyncIterator[ClientSession]:
    """Give a session over the pipes of a program that runs already."""
    async with (
        screen.between(_messages(child), Pipe(child)) as (incoming, outgoing),
        Session(incoming, outgoing, **options) as session,
    ):
        yield session


async def _messages(child: Child) -> AsyncIterator[SessionMessage]:
    garbage = 0
    while line := await child.line():
        messages = _parse(line)
        for message in messages:
            yield SessionMessage(message)
        if not messages:
            # Many a program greets on its standard output.
            garbage += 1
            if garbage >= GARBAGE_LIMIT:
                child.stop("wrote much that is no message, and was stopped")


def _parse(line: bytes) -> list[Any]:
    """Return the messages of a line: one, several in a batch, or none."""
    try:
        return [jsonrpc_message_adapter.validate_json(line, by_name=False)]
    except ValueError:
        pass
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return []
    found = []
    for each in data if isinstance(data, list) else [data]:
        try:
            found.append(
                jsonrpc_message_adapter.validate_python(_mend_envelope(each), by_name=False)
            )
        except ValueError:
            continue
    return found


def _mend_envelope(message: Any) -> Any:
    """Return a message with its result, or its error, as the protocol has them."""
    if not isinstance(message, dict):
        return message
    mended = {"jsonrpc": "2.0", **message}
    if mended.get("error") is not None:
        mended.pop("result", None)
        error = mended["error"]
        told = error if isinstance(error, dict) else {"message": error}
        code, text = told.get("code"), told.get("message", "")
        mended["error"] = {
            "code": code if isinstance(code, int) else _NO_CODE,
            "message": text if isinstance(text, str) else json.dumps(text),
        }
    elif "result" in mended:
        mended.pop("error", None)
        result = mended["result"]
        if not isinstance(result, dict):
            mended["result"] = {} if result is None else {"content": result}
    return mended


class Pipe:
    """The input of a program, as a stream of messages that never waits."""

    def __init__(self, child: Child) -> None:
        self._child = child

    async def send(self, item: SessionMessage, /) -> None:
        """Send a message; raise BrokenResourceError once nobody reads."""
        message = item.message.model_dump(by_alias=True, mode="json", exclude_unset=True)
        try:
            self._child.write(json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            raise anyio.BrokenResourceError from None

    async def aclose(self) -> None:
        """Do nothing: whoever runs the program closes its input."""


def _refusal(request: JSONRPCRequest) -> JSONRPCResponse | JSONRPCError:
    if request.method == "ping":
        return JSONRPCResponse(jsonrpc="2.0", id=request.id, result={})
    error = ErrorData(
        code=METHOD_NOT_FOUND,
        message=f"{request.method} is not offered: servers get no model, no files and no person.",
    )
    return JSONRPCError(jsonrpc="2.0", id=request.id, error=error)
