"""Commands of the shell: what they give back, what they are granted, and how they end."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from sessions_app.engine.base import EngineError
from sessions_app.engine.registry import TOOLS
from sessions_app.engine.tools import bash as bash_tool
from sessions_app.engine.tools import sandbox
from sessions_app.engine.tools.base import ToolError, Workplace
from sessions_app.engine.tools.bash import config
from tests.harness.tools import call, schemas, with_tools
from tests.harness.waiting import until

CANARY = "sk-canary-0123456789"
Functions = dict[str, Callable[..., Awaitable[str]]]


@pytest.fixture(autouse=True)
def seen_again() -> Iterator[None]:
    """Other tests look into their own process."""
    yield
    sandbox._prctl(sandbox._SET_DUMPABLE, 1)


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no folders of commands behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    directory = tmp_path / "here"
    directory.mkdir()
    return directory


def bash(here: Path, command: str, timeout: float | None = None, **config: Any) -> str:
    return call("tool-bash", here, "bash", command, timeout, **config)


def running(marker: str) -> list[psutil.Process]:
    """Return the processes that have the marker in their command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        ended = process.info["status"] == psutil.STATUS_ZOMBIE
        if not ended and marker in " ".join(process.info["cmdline"] or []):
            found.append(process)
    return found


def test_output_of_both_kinds_comes_in_order_with_the_exit_code(here: Path) -> None:
    answer = bash(here, "echo one; echo two >&2; echo three; exit 3")
    assert answer.startswith("one\ntwo\nthree\n[exit code 3; ")


def test_a_command_begins_in_the_directory(here: Path) -> None:
    (here / "a").write_text("content")
    assert bash(here, "cat a; pwd").startswith(f"content{here}\n")


def test_a_command_that_says_nothing_has_its_exit_code(here: Path) -> None:
    assert bash(here, "true").startswith("[exit code 0; ")


def test_a_signal_is_told_as_shells_tell_it(here: Path) -> None:
    assert bash(here, "kill -9 $$").startswith("[exit code 137; ")


def test_the_environment_is_made_of_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    names = {line.split("=")[0] for line in bash(here, "env").splitlines()[:-1]}
    # The shell itself adds three.
    git = {each for each in names if each.startswith("GIT_CONFIG_")} | {"GIT_TERMINAL_PROMPT"}
    own = {"PATH", "HOME", "TMPDIR", "LANG", "TERM", *config.XDG}
    assert names - {"PWD", "SHLVL", "_"} == own | git
    assert bash(here, "echo $TERM").startswith("dumb\n")


def test_a_variable_is_passed_on_by_name_and_a_secret_in_it_is_told_to_who_shows_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", CANARY)
    monkeypatch.setenv("STAGE", "production")
    given = {"env": ["GITHUB_TOKEN", "STAGE"]}
    answer = bash(here, "echo ${#GITHUB_TOKEN} $STAGE; env", **given)
    assert answer.startswith(f"{len(CANARY)} production\n")
    # A model that is told a mask would write it into its next command.
    assert f"GITHUB_TOKEN={CANARY}\n" in answer

    async def secrets() -> frozenset[str]:
        async with TOOLS.find("tool-bash").open(given, Workplace(here)) as toolbox:
            return toolbox.secrets

    assert asyncio.run(secrets()) == {CANARY}


def test_a_variable_that_is_not_set_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH", raising=False)
    with pytest.raises(EngineError, match="NO_SUCH") as caught:
        bash(here, "true", env=["NO_SUCH"])
    assert caught.value.code == "bad_tool"


@pytest.mark.parametrize(
    "config",
    [
        *({"timeout": 0}, {"timeout": "soon"}, {"max_output": -1}, {"processes": True}),
        *({"memory_mb": float("nan")}, {"env": "HOME"}, {"env": [1]}, {"writable": ["tmp"]}),
    ],
)
def test_a_config_that_cannot_be_used_is_an_error(here: Path, config: dict[str, Any]) -> None:
    with pytest.raises(EngineError) as caught:
        with_tools("tool-bash", Workplace(here), lambda tools: tools["bash"]("true"), **config)
    assert caught.value.code == "bad_tool"


def test_numbers_may_be_spelled_by_a_variable(here: Path) -> None:
    assert config.parse_settings({"timeout": "5", "processes": "7"}).processes == 7


@pytest.mark.parametrize("command", ["a\0b", "x" * 100_001, "\ud800"])
def test_a_command_that_no_shell_takes_is_refused(here: Path, command: str) -> None:
    with pytest.raises(ToolError, match="command"):
        bash(here, command)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_time_out_that_is_none_is_refused(here: Path, timeout: float) -> None:
    with pytest.raises(ToolError, match="above zero"):
        bash(here, "true", timeout)


def test_a_command_is_stopped_at_its_time_out_and_its_output_is_told(here: Path) -> None:
    answer = bash(here, "echo begun; sleep 1000.1; echo never", 2)
    assert answer == "begun\n[exit code 143; stopped at its time-out of 2 s]"
    assert running("sleep 1000.1") == []


def test_no_time_out_is_longer_than_the_longest(here: Path) -> None:
    answer = bash(here, "sleep 1000", 500, max_timeout=1)
    assert answer.endswith("stopped at its time-out of 1 s]")


def test_a_command_may_tidy_up_when_it_is_stopped(here: Path) -> None:
    bash(here, "trap 'echo tidy > a; exit' TERM; echo; sleep 1000 & wait", 2)
    assert (here / "a").read_text() == "tidy\n"


def test_a_cancelled_call_leaves_nothing_running(here: Path) -> None:
    async def work(tools: Functions) -> None:
        command = "trap '' TERM; (trap '' TERM; sleep 1000.2; sleep 1000.2) & touch a; wait"
        task = asyncio.create_task(tools["bash"](command))
        await asyncio.to_thread(until, (here / "a").exists, "the command")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with_tools("tool-bash", Workplace(here), work)
    assert running("1000.2") == []


def test_a_call_that_is_cancelled_at_once_leaves_nothing_running(here: Path) -> None:
    async def work(tools: Functions) -> None:
        task = asyncio.create_task(tools["bash"]("sleep 1000.3"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with_tools("tool-bash", Workplace(here), work)
    assert running("1000.3") == []


def test_the_beginning_and_the_end_of_long_output_are_told(here: Path) -> None:
    answer = bash(here, "echo first; seq 100000; echo last", max_output=100)
    assert answer.startswith("first\n1\n2\n")
    assert "characters were left out …]" in answer
    assert "100000\nlast\n[exit code 0; " in answer
    assert len(answer) < 200


def test_output_that_does_not_end_is_ended(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bash_tool, "FLOOD", 1024 * 1024)
    answer = bash(here, "yes", max_output=10)
    assert "stopped: more than 64 MB of output]" in answer


def test_output_that_cannot_be_stored_is_replaced(here: Path) -> None:
    assert bash(here, r"printf 'a\0b\xffc'").startswith("a\ufffdb\ufffdc\n")


def test_a_character_in_two_pieces_is_one(here: Path) -> None:
    output = bash_tool.CommandOutput(100)
    for byte in "Grüße".encode():
        output.add(bytes([byte]))
    assert output.text() == "Grüße"


def test_commands_run_side_by_side_and_the_loop_goes_on(here: Path) -> None:
    async def work(tools: Functions) -> list[str]:
        return await asyncio.gather(*(tools["bash"](f"echo {number}") for number in range(4)))

    answers = with_tools("tool-bash", Workplace(here), work)
    assert [answer[0] for answer in answers] == ["0", "1", "2", "3"]


def test_a_pipe_ends_as_in_any_shell(here: Path) -> None:
    assert bash(here, "yes | head -1").startswith("y\n[exit code 0; ")


def test_a_command_sees_its_limits(here: Path) -> None:
    answer = bash(here, "ulimit -t -v -f -n -c", cpu_seconds=7, memory_mb=900, file_mb=3)
    assert [line.split()[-1] for line in answer.splitlines()[:-1]] == [
        *("7", str(900 * 1024), str(3 * 1024), "1024", "0")
    ]


WORKER = """
import asyncio, pathlib, sys
from sessions_app.engine.tools.base import Workplace
from sessions_app.engine.registry import TOOLS

async def work():
    async with TOOLS.find("tool-bash").open({}, Workplace(pathlib.Path(sys.argv[1]))) as toolbox:
        await toolbox.tools[0].call({"command": "(setsid sleep 1000.4 &) ; touch a; sleep 1000.4"})

asyncio.run(work())
"""


def test_a_command_ends_with_its_worker_also_when_that_is_killed(here: Path) -> None:
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(here)])
    until((here / "a").exists, "the command")
    assert len(running("sleep 1000.4")) >= 2
    worker.kill()
    worker.wait()
    until(lambda: running("sleep 1000.4") == [], "the end of all processes")


def test_a_command_is_not_to_be_repeated_blindly(here: Path) -> None:
    async def run() -> list[bool]:
        async with TOOLS.find("tool-bash").open({}, Workplace(here)) as toolbox:
            return [tool.idempotent for tool in toolbox.tools]

    assert asyncio.run(run()) == [False]


def test_a_model_is_told_what_a_command_is_granted(here: Path) -> None:
    async def run() -> dict[str, Any]:
        async with TOOLS.find("tool-bash").open({}, Workplace(here)) as toolbox:
            return schemas(toolbox)

    told = asyncio.run(run())["bash"]
    assert told["parameters"]["required"] == ["command"]
    assert "Seconds" in told["parameters"]["properties"]["timeout"]["description"]
    assert "is killed when it ends" in told["description"]


def test_a_directory_that_is_not_there_is_an_error_of_the_tool(here: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(EngineError) as caught:
        bash(here / "nowhere", "true")
    assert caught.value.code == "bad_tool"
    assert time.monotonic() - begun < 5


def test_private_folders_go_once_no_command_has_used_them_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    made = {}
    for name in ("old", "new"):
        home, _ = config.make_private_folders(tmp_path, None, name)
        made[name] = Path(home).parent
        (Path(home) / "cache").write_text("x")
    long_ago = time.time() - 40 * 24 * 3600
    os.utime(made["old"], (long_ago, long_ago))
    (tmp_path / "amplifierd-session-link").symlink_to(made["new"])
    assert config.remove_unused_folders(timedelta(days=30)) >= 1
    assert [made["old"].exists(), made["new"].exists()] == [False, True]
