"""What lies between an MCP server and its session: it passes on answers, and nothing else."""

import json
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from fastmcp.client.transports import ClientTransport
from fastmcp.client.transports.base import TransportOptions
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

from sessions_app.engine.tools.mcp_process import Child

# Lines that are no messages, and messages that nobody has asked for, in one attempt.
GARBAGE_LIMIT = 1_000
UNASKED_LIMIT = 100_000

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


class ChildTransport(ClientTransport):
    """The pipes of a program that runs already."""

    def __init__(self, child: Child) -> None:
        self.child = child

    @asynccontextmanager
    async def connect_session(
        self, *, transport_options: TransportOptions | None = None, **options: Any
    ) -> AsyncIterator[ClientSession]:
        """Give a session over the pipes."""
        pipe = Pipe(self.child)
        async with (
            screened(self._messages(), pipe) as heard,
            Session(heard, pipe, **options) as session,
        ):
            yield session

    async def _messages(self) -> AsyncIterator[SessionMessage]:
        garbage = 0
        while line := await self.child.line():
            try:
                yield SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
            except ValueError:
                # Many a program greets on its standard output.
                garbage += 1
                if garbage >= GARBAGE_LIMIT:
                    self.child.stop("wrote much that is no message, and was stopped")


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

    async def __aenter__(self) -> "Pipe":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Do nothing."""


@asynccontextmanager
async def screened(
    incoming: AsyncIterable[Message], sink: Sink
) -> AsyncIterator[ObjectReceiveStream[Message]]:
    """Give a stream of what answers our requests, out of all that comes from a server.

    What the server tells is dropped. What it asks for (a model, a person, files) is refused.
    """
    send, receive = anyio.create_memory_object_stream[Message]()
    async with receive, anyio.create_task_group() as group:
        group.start_soon(_screen, incoming, sink, send)
        yield receive
        group.cancel_scope.cancel()


async def _screen(
    incoming: AsyncIterable[Message], sink: Sink, send: ObjectSendStream[Message]
) -> None:
    unasked = 0
    async with send:
        async for item in incoming:
            message = item.message if isinstance(item, SessionMessage) else item
            try:
                if isinstance(message, JSONRPCResponse | JSONRPCError | Exception):
                    await send.send(item)
                    continue
                if isinstance(message, JSONRPCRequest):
                    await sink.send(SessionMessage(_refusal(message)))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return
            unasked += 1
            if unasked >= UNASKED_LIMIT:
                return


def _refusal(request: JSONRPCRequest) -> JSONRPCResponse | JSONRPCError:
    if request.method == "ping":
        return JSONRPCResponse(jsonrpc="2.0", id=request.id, result={})
    error = ErrorData(
        code=METHOD_NOT_FOUND,
        message=f"{request.method} is not offered: servers get no model, no files and no person.",
    )
    return JSONRPCError(jsonrpc="2.0", id=request.id, error=error)
