"""Tools of MCP servers over HTTP: what is sent, what is taken, what is told when it fails."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from sessions_app.engine.tools.mcp.transports import LINE_LIMIT
from tests.harness.mcp_servers.library import server
from tests.harness.mcp_tools import opened, run
from tests.harness.providers import Answer, fake_provider, head, sends

KEY = "sk-canary-1234"


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Serve an application on this machine, and give its address."""
    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, ws="none", log_config=None, timeout_graceful_shutdown=1)
    web = uvicorn.Server(config)
    serving = asyncio.create_task(web.serve([sock]))
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        web.should_exit = True
        await serving


def watched(app: Any, seen: list[dict[str, Any]]) -> Any:
    """Return the application, which remembers method and headers of each request."""

    async def watching(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            seen.append({"method": scope["method"], **headers})
        await app(scope, receive, send)

    return watching


@pytest.mark.parametrize(
    ("path", "options"),
    [("/mcp", {}), ("/mcp", {"json_response": True}), ("/mcp", {"stateless_http": True})],
)
def test_a_server_over_http_answers(path: str, options: dict[str, Any]) -> None:
    seen: list[dict[str, Any]] = []

    async def spoken() -> list[str]:
        app = watched(server.streamable_http_app(**options), seen)
        async with served(app) as base:
            config = {"url": f"{base}{path}", "headers": {"Authorization": f"Bearer {KEY}"}}
            async with opened(config) as tools:
                return [await tools.call("echo", text="hi"), await tools.call("picture")]

    assert run(spoken()) == ["hi", "(image, 12 kB)"]
    assert {request["authorization"] for request in seen} == {f"Bearer {KEY}"}
    # Nobody hears what it says unasked.
    assert "GET" not in {request["method"] for request in seen}


def test_a_server_over_sse_answers() -> None:
    async def spoken() -> str:
        async with served(server.sse_app()) as base, opened({"url": f"{base}/sse"}) as tools:
            return await tools.call("echo", text="hi")

    assert run(spoken()) == "hi"


def refused(*answers: Answer, accepts: bool = True, **config: Any) -> str:
    """Return what opening a server fails with that gives these answers."""

    async def tried() -> str:
        async with fake_provider(*answers, accepts=accepts) as fake:
            given = {"url": fake.url, "headers": {"X-Api-Key": KEY}, "timeout": 20, **config}
            async with opened(given) as tools:
                assert tools.all == {}
                (note,) = tools.toolbox.notes
                return note

    said = run(tried())
    assert KEY not in said
    return said


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_a_refusal_is_told_by_its_status(status: int) -> None:
    said = refused(sends(head("text/plain", status=status) + KEY.encode()))
    assert f"'127.0.0.1' answered with HTTP {status}." in said
    assert "Check `url` and `headers`." in said


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (sends(head("text/html") + b"<html>"), "failed: Unexpected content type"),
        (sends(head("application/json") + b"<html>"), "failed: Failed to parse JSON"),
        (sends(head("application/json", "content-encoding: gzip") + b"x"), "compressed its answer"),
        (sends(head("application/json") + b" " * (LINE_LIMIT + 1)), f"more than {LINE_LIMIT}"),
        (sends(head("text/event-stream") + b"data: " + b"x" * (LINE_LIMIT + 1)), "failed: SSE"),
        (sends(b""), "cannot be reached"),
    ],
    ids=["HTML", "no JSON", "packed", "too long", "an event without end", "hangs up"],
)
def test_what_is_no_answer_says_what_it_is(answer: Answer, words: str) -> None:
    assert words in refused(answer)


def test_no_redirect_is_followed_to_another_host() -> None:
    async def tried() -> tuple[str, int]:
        async with fake_provider(sends(head())) as other:
            location = f"location: {other.url}"
            said = await asyncio.to_thread(refused, sends(head("text/plain", location, status=307)))
            return said, len(other.requests)

    said, requests = run(tried())
    assert "not followed" in said
    assert requests == 0


def test_a_server_that_is_not_there_or_says_nothing_is_told() -> None:
    assert "was not ready within 0.5 s" in refused(accepts=False, timeout=0.5)
    assert "cannot be reached" in refused(sends(b""), url="http://127.0.0.1:1/")


def test_a_server_that_goes_away_is_an_error_for_the_model_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sessions_app.engine.tools.mcp.server.DELAY", 0.05)

    async def spoken() -> str:
        async with served(server.streamable_http_app()) as base:
            opening = opened({"url": f"{base}/mcp", "call_timeout": 5})
            tools = await opening.__aenter__()
        said = await tools.call("echo", text="hi")
        await opening.__aexit__(None, None, None)
        return said

    assert run(spoken()).startswith("ToolError: The MCP server '127.0.0.1' ")


def reply(message: dict[str, Any]) -> dict[str, Any]:
    """Answer as a server does that has one tool, which asks for a model before it answers."""
    tool = {"name": "one", "inputSchema": {"type": "object"}}
    results = {
        "initialize": {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "s", "version": "1"},
        },
        "tools/list": {"tools": [tool]},
        "tools/call": {"content": [{"type": "text", "text": f"the key is {KEY}"}]},
    }
    answered = {"jsonrpc": "2.0", "id": message.get("id")}
    if message["method"] in results:
        return {**answered, "result": results[message["method"]]}
    return {**answered, "error": {"code": -32601, "message": "not here"}}


def test_a_server_over_http_gets_no_model_and_its_answer_is_told_as_it_is() -> None:
    asked = {"jsonrpc": "2.0", "id": "q", "method": "sampling/createMessage", "params": {}}
    received: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        message = json.loads((await receive())["body"] or b"{}")
        received.append(message)
        events = [asked] if message.get("method") == "tools/call" else []
        events += [reply(message)] if "method" in message and "id" in message else []
        body = "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode()
        headers = [(b"content-type", b"text/event-stream")]
        status = 200 if events else 202
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def spoken() -> str:
        async with served(app) as base:
            config = {"url": f"{base}/x", "headers": {"X-Api-Key": KEY}}
            async with opened(config) as tools:
                return await tools.call("one")

    assert run(spoken()) == f"the key is {KEY}"
    answers = [message["error"]["message"] for message in received if "error" in message]
    assert answers == [
        "sampling/createMessage is not offered: servers get no model, no files and no person."
    ]
