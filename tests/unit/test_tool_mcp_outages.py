"""MCP servers that are down, come back, die in the middle, or keep to nothing of the protocol."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from sessions_app.engine.tools.base import ToolError
from sessions_app.engine.tools.mcp import server
from tests.harness.mcp_servers.bare import TOOLS
from tests.harness.mcp_servers.library import server as library
from tests.harness.mcp_tools import Tools, answer, bare, notes, opened, run


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try a server again after a tenth of the time."""
    monkeypatch.setattr(server, "DELAY", server.DELAY / 10)


async def find(tools: Tools, name: str) -> str:
    """Return what trying to find a tool comes to: its name, nothing, or an error."""
    try:
        tool = await tools.toolbox.find(name)
    except ToolError as error:
        return f"ToolError: {error}"
    return tool.spec.name if tool else ""


def test_a_server_that_is_down_is_noted_and_the_tools_of_the_other_work() -> None:
    async def used() -> tuple[set[str], str, list[str]]:
        servers = {"good": bare(allow=["echo"]), "bad": bare("fails", env={"API_KEY": "x" * 9})}
        async with opened({"servers": servers}) as tools:
            said = await tools.call("good_echo", text="hello")
            return set(tools.all), said, list(tools.toolbox.notes)

    names, said, (note,) = run(used())
    assert (names, said) == ({"good_echo"}, "hello")
    assert note.startswith("The MCP server 'bad' has ended (code 1); it said: no key ***.")
    assert note.endswith("Its tools are not offered.")


def test_a_tool_of_a_server_that_has_come_back_is_found_and_called(tmp_path: Path) -> None:
    async def used() -> tuple[set[str], str]:
        config = {"servers": {"one": bare(), "two": bare(f"needs {tmp_path / 'it'}")}}
        async with opened(config) as tools:
            names = {name for name in tools.all if name.startswith("two_")}
            (tmp_path / "it").touch()
            return names, await tools.call("two_echo", text="hello")

    assert run(used()) == (set(), "hello")


def test_a_server_that_comes_back_while_it_is_tried_again_is_waited_for(tmp_path: Path) -> None:
    async def used() -> str:
        async with opened(bare(f"needs {tmp_path / 'it'}")) as tools:
            asyncio.get_running_loop().call_later(0.4, (tmp_path / "it").touch)
            return await tools.call("echo", text="hello")

    assert run(used()) == "hello"


def test_a_server_that_stays_down_is_told_to_the_model_within_limits() -> None:
    async def used() -> tuple[str, float]:
        async with opened(bare("fails")) as tools:
            begun = time.monotonic()
            return await find(tools, "echo"), time.monotonic() - begun

    said, seconds = run(used())
    assert said.startswith("ToolError: echo cannot be called now. The MCP server ")
    assert seconds < 10


def test_a_server_that_says_nothing_is_waited_for_once() -> None:
    async def used() -> tuple[str, float]:
        async with opened(bare("silent", timeout=0.3)) as tools:
            begun = time.monotonic()
            return await find(tools, "echo"), time.monotonic() - begun

    said, seconds = run(used())
    assert "was not ready within 0.3 s" in said
    assert seconds < 4


def test_a_tool_that_no_server_has_is_not_looked_for(tmp_path: Path) -> None:
    async def used() -> list[str]:
        servers = {"up": bare(), "down": bare("fails")}
        async with opened({"servers": servers}) as tools:
            return [await find(tools, name) for name in ("bash", "up_gone", "up_echo")]

    assert run(used()) == ["", "", "up_echo"]


def test_a_tool_that_a_server_has_not_when_it_is_back_is_none(tmp_path: Path) -> None:
    async def used() -> str:
        async with opened(bare(f"needs {tmp_path / 'it'}")) as tools:
            (tmp_path / "it").touch()
            return await find(tools, "gone")

    assert run(used()) == ""


def test_a_config_that_names_a_wrong_tool_is_told_to_the_model_when_the_server_is_back(
    tmp_path: Path,
) -> None:
    async def used() -> str:
        async with opened(bare(f"needs {tmp_path / 'it'}", allow=["echos"])) as tools:
            (tmp_path / "it").touch()
            return await find(tools, "echos")

    assert "`allow` names the tool 'echos'" in run(used())


def test_only_a_call_that_does_no_harm_is_made_again_when_the_server_dies_in_it(
    tmp_path: Path,
) -> None:
    async def used() -> list[str]:
        async with opened(bare()) as tools:
            return [
                await tools.call("reads", mark=str(tmp_path / "a")),
                await tools.call("echo", mark=str(tmp_path / "b")),
            ]

    read, echoed = run(used())
    assert read == "reads"
    assert "ToolError" in echoed and "has ended (code 3)" in echoed


def test_calls_side_by_side_start_a_dead_server_once() -> None:
    async def used() -> set[int]:
        async with opened(bare()) as tools:
            await tools.call("die")
            said = await asyncio.gather(*(tools.call("surroundings") for _ in range(5)))
            return {json.loads(each)["pid"] for each in said}

    assert len(run(used())) == 1


def test_a_server_that_dies_again_and_again_is_left_alone_in_the_end() -> None:
    async def used() -> str:
        async with opened(bare()) as tools:
            for _ in range(40):
                said = await tools.call("die")
            return said

    assert "is not called again in this run" in run(used())


def test_a_call_that_is_cancelled_while_a_server_is_started_leaves_nothing(tmp_path: Path) -> None:
    async def used() -> str:
        async with opened(bare(f"needs {tmp_path / 'it'}")) as tools:
            calling = asyncio.create_task(tools.call("echo"))
            await asyncio.sleep(0.3)
            calling.cancel()
            await asyncio.wait([calling])
            assert calling.cancelled()
            (tmp_path / "it").touch()
            return await tools.call("echo", text="hello")

    assert run(used()) == "hello"


class Service:
    """The library's server over HTTP at one port, which can be stopped and started."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self._web: uvicorn.Server | None = None

    async def start(self, **options: Any) -> None:
        # A manager of sessions is used once.
        library._session_manager = None
        app = library.streamable_http_app(**options)
        config = uvicorn.Config(app, ws="none", log_config=None, timeout_graceful_shutdown=1)
        sock = socket.create_server(("127.0.0.1", self.port))
        self._web = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._web.serve([sock]))

    async def stop(self) -> None:
        if self._web:
            self._web.should_exit = True
            await self._serving
            self._web = None


@asynccontextmanager
async def service() -> AsyncIterator[Service]:
    made = Service()
    try:
        yield made
    finally:
        await made.stop()


@pytest.mark.parametrize("options", [{}, {"stateless_http": True}, {"json_response": True}])
def test_a_service_that_was_restarted_answers_the_next_call(options: dict[str, Any]) -> None:
    async def used() -> list[str]:
        async with service() as there:
            await there.start(**options)
            async with opened({"url": there.url, "call_timeout": 20}) as tools:
                said = [await tools.call("add", one=1, other=2)]
                await there.stop()
                await there.start(**options)
                said.append(await tools.call("add", one=3, other=4))
            return said

    assert [json.loads(each) for each in run(used())] == [{"sum": 3}, {"sum": 7}]


def test_a_service_that_is_down_is_tried_again_and_then_told_to_the_model() -> None:
    async def used() -> tuple[list[str], list[str]]:
        async with service() as there, opened({"url": there.url}) as tools:
            said = [await tools.call("echo", text="hi")]
            await there.start()
            said.append(await tools.call("echo", text="hi"))
            await there.stop()
            said.append(await tools.call("echo", text="hi"))
            return list(tools.toolbox.notes), said

    (note,), (down, up, gone) = run(used())
    assert "cannot be reached. Check `url` and `headers`. Its tools are not offered." in note
    assert down.startswith("ToolError: echo cannot be called now. The MCP server '127.0.0.1' ")
    assert up == "hi"
    assert "ToolError" in gone and "cannot be reached" in gone


def test_a_page_of_tools_may_follow_another() -> None:
    async def used() -> int:
        async with opened(bare("has pages")) as tools:
            return len(tools.all)

    assert run(used()) == len(TOOLS)


def test_a_list_that_is_slow_or_begins_again_is_read() -> None:
    for manner in ("is slow", "repeats a page"):
        assert answer(bare(manner), "echo", text=manner) == manner


def test_only_the_tools_that_cannot_be_described_are_left_out() -> None:
    async def used() -> tuple[dict[str, Any], list[str]]:
        async with opened(bare("has odd tools")) as tools:
            return {name: tool.spec for name, tool in tools.all.items()}, tools.toolbox.notes

    specs, told = run(used())
    assert {"echo", "no_type", "odd_rest"} <= set(specs)
    assert not {"no_schema", "null_schema", "list_schema"} & set(specs)
    assert specs["no_type"].parameters == {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
    }
    assert specs["odd_rest"].description == "Odd"
    assert specs["odd_rest"].parameters == {"type": "object"}
    assert [note for note in told if "'no_schema'" in note]
    assert [note for note in told if "'null_schema'" in note]
    assert [note for note in told if "'list_schema'" in note]
    assert [note for note in told if "a tool without a name" in note]
    assert len(told) == 4


def test_a_server_that_is_well_has_no_notes() -> None:
    assert notes(bare()) == ""


TEXT = [{"type": "text", "text": " \n\u200b"}]


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ({"content": TEXT, "structuredContent": {"a": [1, "é"]}}, '{"a": [1, "é"]}'),
        ({"structuredContent": {"a": 1}}, '{"a": 1}'),
        ({"content": None, "structuredContent": [1, 2]}, "[1, 2]"),
        ({}, "Nothing was answered."),
        (None, "Nothing was answered."),
        ({"content": TEXT}, "Nothing was answered."),
        ({"content": "plain"}, "plain"),
        ("plain", "plain"),
        (["a", {"type": "text", "text": "b"}], "a\nb"),
        ({"content": {"type": "text", "text": "alone"}}, "alone"),
        ({"toolResult": {"rows": 3}}, '{"toolResult": {"rows": 3}}'),
        # What the text says already is not said twice.
        (
            {"content": [{"type": "text", "text": '{"a":  1}'}], "structuredContent": {"a": 1}},
            '{"a":  1}',
        ),
        (
            {"content": [{"type": "text", "text": "2 rows"}], "structuredContent": {"id": "x7"}},
            '2 rows\n{"id": "x7"}',
        ),
        (
            {"content": [{"type": "text", "text": "10 rows"}], "structuredContent": {"n": 1}},
            '10 rows\n{"n": 1}',
        ),
        ({"content": [{"type": "video", "url": "u"}]}, '{"type": "video", "url": "u"}'),
        ({"content": [{"type": "image"}]}, '{"type": "image"}'),
        (
            {
                "content": [
                    {"type": "resource_link", "uri": "file:///a", "description": "All of it"},
                    {
                        "type": "resource",
                        "resource": {"uri": "u", "mimeType": "text/csv", "blob": "YSxi"},
                    },
                ]
            },
            "(link to a resource: file:///a (All of it))\na,b",
        ),
    ],
)
def test_the_model_gets_the_data_however_it_is_sent(result: Any, told: str) -> None:
    assert answer(bare(), "content", result=result) == told


def test_an_error_without_text_is_told_with_its_data() -> None:
    result = {"isError": True, "structuredContent": {"reason": "full"}}
    assert answer(bare(), "content", result=result) == 'ToolError: {"reason": "full"}'


def test_names_that_would_be_the_same_to_a_model_are_told() -> None:
    async def used() -> tuple[list[str], list[str]]:
        async with opened(bare("has twins")) as tools:
            return sorted(tools.all), tools.toolbox.notes

    names, (note,) = run(used())
    assert names.count("files_read") == 1
    assert "'files_read'" in note and "left out" in note


def test_long_names_stay_apart() -> None:
    async def used() -> list[str]:
        async with opened(bare("has long names")) as tools:
            return [name for name in tools.all if name.startswith("long")]

    names = run(used())
    assert len(set(names)) == 2
    assert all(len(name) <= 64 for name in names)


def test_a_refusal_of_a_server_that_is_well_is_told_at_once() -> None:
    async def used() -> tuple[str, float]:
        async with opened(bare()) as tools:
            begun = time.monotonic()
            return await tools.call("refuses"), time.monotonic() - begun

    said, seconds = run(used())
    assert said.startswith("ToolError: The MCP server ") and said.endswith("failed: not today.")
    assert seconds < 0.4
