"""Tools of MCP servers that are programs: what they get, how they are heard, how they end."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from amplifierd.common.program import BASE_DIR
from sessions_app.engine.base import EngineError
from sessions_app.engine.tools.base import ANSWER_LIMIT
from sessions_app.engine.tools.mcp.transports import LINE_LIMIT
from tests.harness.mcp_tools import (
    SERVERS,
    alive,
    answer,
    bare,
    children,
    notes,
    opened,
    refusal,
    run,
)
from tests.harness.waiting import until


def test_a_server_of_the_library_answers() -> None:
    async def spoken() -> list[str]:
        config = {"command": sys.executable, "args": [str(SERVERS / "library.py")]}
        async with opened(config) as tools:
            return [
                await tools.call("echo", text="hello"),
                await tools.call("add", one=1, other=2),
                await tools.call("picture"),
            ]

    echo, sum_, picture = run(spoken())
    assert (echo, json.loads(sum_), picture) == ("hello", {"sum": 3}, "(image, 12 kB)")


def test_a_program_inherits_next_to_nothing(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRET_OF_THE_WORKER", "canary")
    monkeypatch.setenv("LANG", "C.UTF-8")

    async def seen() -> dict[str, Any]:
        async with opened(bare(env={"MINE": "x", "PORT": 80}), tmp_path) as tools:
            return json.loads(await tools.call("surroundings"))

    around = run(seen())
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG")}
    # The interpreter adds this one itself, where the locale is C.
    around["env"].pop("LC_CTYPE", None)
    assert around["env"] == {**kept, "MINE": "x", "PORT": "80"}
    assert around["cwd"] == str(tmp_path)
    assert around["pid"] == around["group"] != os.getpgrp()


def test_the_config_s_environment_goes_first() -> None:
    assert '"HOME": "/nowhere"' in answer(bare(env={"HOME": "/nowhere"}), "surroundings")


async def group_of(config: dict[str, Any], *, cancel: bool = False) -> int:
    """Open a config and close it, or have it cancelled; return the group that it had."""
    group: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def use() -> None:
        async with opened(config) as tools:
            around = json.loads(await tools.call("surroundings"))
            group.set_result(around["group"])
            assert alive(around["group"])
            if cancel:
                await tools.call("sleep")

    using = asyncio.create_task(use())
    if cancel:
        await group
        using.cancel()
    await asyncio.wait([using])
    assert using.cancelled() == cancel
    return await group


@pytest.mark.parametrize("cancel", [False, True], ids=["closed", "cancelled"])
@pytest.mark.parametrize("manners", [(), ("stays",), ("forks",), ("stays", "forks")])
def test_nothing_is_left_of_a_program(manners: tuple[str, ...], cancel: bool) -> None:
    group = run(group_of(bare(*manners), cancel=cancel))
    assert alive(group) == []


def test_nothing_is_left_of_a_program_that_is_cancelled_as_it_starts() -> None:
    async def started() -> list[int]:
        opening = asyncio.create_task(opened(bare("silent", "stays")).__aenter__())
        groups = await asyncio.to_thread(until, children, "a program")
        opening.cancel()
        await asyncio.wait([opening])
        return [pid for group in groups for pid in alive(group)]

    assert run(started()) == []


WORKER = """
import json, os, signal
import django
django.setup()
from tests.harness.mcp_tools import bare, opened, run

async def killed():
    async with opened(bare("stays")) as tools:
        print(json.loads(await tools.call("surroundings"))["pid"], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

run(killed())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own doing")
def test_a_program_does_not_outlive_a_worker_that_is_killed() -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "amplifierd.settings"}
    command = [sys.executable, "-c", WORKER]
    told = subprocess.run(
        command, cwd=BASE_DIR, env=environment, stdout=subprocess.PIPE, check=False, timeout=60
    )
    assert told.returncode == -signal.SIGKILL
    program = int(told.stdout)
    until(lambda: not psutil.pid_exists(program), "the program to end")


def test_a_server_that_does_not_get_ready_is_told() -> None:
    said = notes(bare("silent", timeout=0.5))
    assert "was not ready within 0.5 s" in said
    assert "raise `timeout`" in said


def test_a_server_that_ends_at_once_says_why_without_its_secret() -> None:
    said = notes(bare("fails", env={"API_KEY": "sk-canary-123"}))
    assert "has ended (code 1); it said: no key ***." in said
    assert "Check `command`, `args` and `env`." in said


def test_a_call_that_takes_too_long_is_an_error_for_the_model_alone() -> None:
    async def called() -> tuple[str, str]:
        async with opened(bare(call_timeout=0.5)) as tools:
            return await tools.call("sleep"), await tools.call("echo")

    slow, next_one = run(called())
    assert "ToolError" in slow
    assert "did not answer sleep within 0.5 s" in slow
    # The program does one thing at a time, and still sleeps.
    assert "did not answer echo" in next_one


def test_a_server_that_dies_in_a_call_is_an_error_for_the_model_alone() -> None:
    async def called() -> list[str]:
        async with opened(bare()) as tools:
            return [await tools.call("die"), await tools.call("echo"), await tools.call("die")]

    died, next_one, again = run(called())
    # It was started anew for the next call, and no call was made twice.
    assert next_one == "echo"
    for said in (died, again):
        assert said.startswith("ToolError: The MCP server ")
        assert said.endswith("has ended (code 3); it said: about to die.")


@pytest.mark.parametrize(
    ("manner", "words"),
    [("floods", f"a line of more than {LINE_LIMIT} bytes"), ("babbles", "no message")],
)
def test_what_is_no_answer_ends_the_server_and_takes_no_memory(manner: str, words: str) -> None:
    answer(bare(), "echo")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = answer(bare(manner), "echo")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert "ToolError" in said
    assert words in said
    assert "was stopped" in said
    assert grown < 8 * LINE_LIMIT
    assert words in notes(bare(f"{manner} at once"))


def test_a_server_may_greet_on_its_output() -> None:
    assert answer(bare("greets"), "echo", text="hello") == "hello"


def test_a_server_that_asks_without_end_and_reads_nothing_does_not_hang() -> None:
    assert "ToolError" in answer(bare("deafens", call_timeout=10), "echo")


def test_what_a_server_tells_unasked_changes_nothing() -> None:
    assert answer(bare("tells"), "echo", text="hello") == "hello"


def test_a_server_gets_no_model_no_files_and_no_person() -> None:
    methods = ["sampling/createMessage", "elicitation/create", "roots/list", "ping", "nonsense"]
    said = [json.loads(line) for line in answer(bare(), "ask", methods=methods).splitlines()]
    assert said[3] == {}
    for method, words in zip(methods, said, strict=True):
        assert method == "ping" or words.startswith(f"{method} is not offered:")


def block(kind: str, **content: Any) -> dict[str, Any]:
    return {"type": kind, **content}


RESOURCE = {"uri": "file:///a.bin", "mimeType": "x/y"}


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ({"content": [block("text", text="a"), block("text", text="b")]}, "a\nb"),
        ({"content": []}, "Nothing was answered."),
        ({"content": [], "structuredContent": {"a": "é"}}, '{"a": "é"}'),
        ({"content": [block("text", text="a\0b")]}, "a\ufffdb"),
        (
            {"content": [block("image", data="AAAA" * 4_000, mimeType="image/png")]},
            "(image, 12 kB)",
        ),
        ({"content": [block("audio", data="AAAA", mimeType="audio/wav")]}, "(audio, 3 bytes)"),
        ({"content": [block("resource", resource={**RESOURCE, "text": "inside"})]}, "inside"),
        (
            {"content": [block("resource", resource={**RESOURCE, "blob": "AAAA"})]},
            "(file file:///a.bin, 3 bytes)",
        ),
        (
            {"content": [block("resource_link", name="a", uri="file:///a.bin")]},
            "(link to a: file:///a.bin)",
        ),
    ],
)
def test_an_answer_is_text_and_what_is_none_is_described(result: Any, told: str) -> None:
    assert answer(bare(), "content", result=result) == told


def test_an_answer_is_shortened() -> None:
    said = answer(bare(), "echo", text="x" * (ANSWER_LIMIT + 7))
    assert said.endswith("x\n… 7 more characters were left out.")


def test_an_answer_is_told_as_it_is_and_its_secrets_to_who_shows_it() -> None:
    async def told() -> tuple[str, frozenset[str]]:
        env = {"API_KEY": "sk-canary-123", "ROOT": "/srv/data"}
        async with opened(bare(env=env)) as tools:
            return await tools.call("surroundings"), tools.toolbox.secrets

    said, secrets = run(told())
    # A path in it may come back as a command.
    assert '"API_KEY": "sk-canary-123", "ROOT": "/srv/data"' in said
    assert secrets == {"sk-canary-123"}


def test_an_error_of_a_tool_is_told_to_the_model() -> None:
    assert answer(bare(), "files_read", fail=True) == "ToolError: no such file"


async def names_of(config: dict[str, Any]) -> set[str]:
    async with opened(config) as tools:
        return set(tools.all)


def test_tools_have_names_that_every_provider_takes() -> None:
    assert "files_read" in run(names_of(bare()))


def test_one_server_among_servers_needs_no_name_before_its_tools() -> None:
    names = run(names_of({"servers": {"one": bare(allow=["echo"])}}))
    assert names == {"echo"}


def test_several_servers_stand_before_the_names_of_their_tools() -> None:
    async def both() -> tuple[set[str], str]:
        servers = {"one": bare(allow=["echo"]), "two": bare(allow=["echo", "puts"])}
        async with opened({"servers": servers, "call_timeout": 20}) as tools:
            return set(tools.all), await tools.call("two_echo", text="hello")

    assert run(both()) == ({"one_echo", "two_echo", "two_puts"}, "hello")


def test_one_server_whose_config_is_wrong_takes_the_others_with_it() -> None:
    async def tried() -> set[int]:
        servers = {"good": bare(), "bad": bare(allow=["nothing"])}
        with pytest.raises(EngineError, match="`allow` names the tool 'nothing'"):
            async with opened({"servers": servers}):
                pass
        return children()

    assert run(tried()) == set()


def test_only_the_tools_that_are_wanted_are_there() -> None:
    assert run(names_of(bare(allow=["echo", "die"], deny=["die"]))) == {"echo"}
    assert "die" not in run(names_of(bare(deny=["die"])))


@pytest.mark.parametrize("key", ["allow", "deny"])
def test_a_tool_that_is_not_there_is_told_with_those_that_are(key: str) -> None:
    said = refusal(bare(**{key: ["echos"]}))
    assert f"`{key}` names the tool 'echos'" in said
    assert "content, die, echo" in said


def test_what_a_server_says_is_harmless_may_be_called_again() -> None:
    async def told() -> dict[str, bool]:
        async with opened(bare()) as tools:
            return {name: tool.idempotent for name, tool in tools.all.items()}

    harmless = {name for name, idempotent in run(told()).items() if idempotent}
    assert harmless == {"reads", "puts"}


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "there is no program 'no-such-program'" in refusal({"command": "no-such-program"})
    assert "Permission denied" in refusal({"command": str(SERVERS)})
    said = refusal(bare(), tmp_path / "gone")
    assert "the session's directory 'gone' is not there" in said


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "`command` of tool-mcp or `url` is needed"),
        ({"command": "a", "url": "http://a/"}, "not both"),
        ({"command": "a", "headers": {}}, "`headers` of tool-mcp does not belong here"),
        ({"url": "http://a/", "env": {}}, "`env` of tool-mcp does not belong here"),
        ({"command": "./a"}, "a whole path from /"),
        ({"command": "a/b"}, "a whole path from /"),
        ({"command": ""}, "must be the name of a program"),
        ({"command": ["a"]}, "must be the name of a program"),
        ({"command": "a", "args": "b"}, "must be a list of texts"),
        ({"command": "a", "args": [None]}, "must be a list of texts"),
        ({"command": "a", "args": ["\0"]}, "must be a list of texts"),
        ({"command": "a", "env": ["b"]}, "`env` of tool-mcp must be a mapping"),
        ({"command": "a", "env": {"b": True}}, "`env` of tool-mcp must be a mapping"),
        ({"command": "a", "env": {"b=": "c"}}, "has a name that is none"),
        ({"command": "a", "alow": ["b"]}, "`alow` of tool-mcp is not known here"),
        ({"command": "a", "allow": "b"}, "must be a list of names of tools"),
        ({"command": "a", "timeout": 0}, "`timeout` of tool-mcp must be a number of seconds"),
        ({"command": "a", "call_timeout": "x"}, "`call_timeout` of tool-mcp must be a number"),
        ({"url": "ftp://a/"}, "must begin with http:// or https://"),
        ({"url": "http:///a"}, "must begin with http:// or https://"),
        ({"servers": {}}, "`servers` of tool-mcp must be a mapping of names"),
        ({"servers": {"a": 1}}, "`servers.a` of tool-mcp must be a mapping"),
        ({"servers": {"a_b": {"command": "a"}}}, "letters, digits and -"),
        ({"servers": {"a": {"command": "a", "x": 1}}}, "`servers.a.x` of tool-mcp is not known"),
        (
            {"servers": {"a": {"command": "a"}}, "command": "b"},
            "`command` of tool-mcp is not known",
        ),
    ],
)
def test_a_config_that_cannot_be_used_is_told_by_its_key(config: Any, words: str) -> None:
    assert words in refusal(config)
