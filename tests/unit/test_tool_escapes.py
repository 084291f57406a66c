"""Attempts to get out of the session's directory, and out of what a command is granted."""

import asyncio
import ctypes
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sessions_app.engine.base import EngineError
from sessions_app.engine.registry import TOOLS
from sessions_app.engine.tools import protection, sandbox
from sessions_app.engine.tools.base import ToolError, Workplace
from sessions_app.engine.tools.bash import config
from tests.harness.tools import by_name, call, with_tools
from tests.unit.test_tool_bash import running

SECRET = "sk-canary-0123456789"
Functions = dict[str, Callable[..., Awaitable[str]]]

landlock = pytest.mark.skipif(
    protection.landlock_version() < 6, reason="the kernel has no Landlock that scopes signals"
)


@pytest.fixture(autouse=True)
def seen_again() -> Iterator[None]:
    yield
    sandbox._prctl(sandbox._SET_DUMPABLE, 1)


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no folders of commands behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.txt").write_text(SECRET)
    twin = tmp_path / "here-too"
    twin.mkdir()
    (twin / "secret.txt").write_text(SECRET)
    return folder


@pytest.fixture
def here(tmp_path: Path, outside: Path) -> Path:
    """A directory with links out of it, of every kind."""
    directory = tmp_path / "here"
    (directory / "sub").mkdir(parents=True)
    links = {
        "to_file": outside / "secret.txt",
        "to_folder": outside,
        "relative": "../outside",
        "chain": "to_folder",
        "up": "..",
        "sub/up": "../..",
        "dangling": outside / "new.txt",
        "root": "/",
        "cwd": "/proc/self/cwd",
        "fds": "/proc/self/fd",
        "loop": "loop",
        "zero": "/dev/zero",
        "inner": "sub",
    }
    for name, target in links.items():
        (directory / name).symlink_to(target)
    return directory


def everything(folder: Path) -> dict[str, tuple[int, str]]:
    """Return what is in the folder beside the session's, with rights and content."""
    found = {}
    for path in (each for each in folder.parent.rglob("*") if "here" not in each.parts):
        content = path.read_text() if path.is_file() else ""
        found[str(path)] = (stat.S_IMODE(path.stat().st_mode), content)
    return found


async def attempts(tools: Functions, path: str) -> dict[str, str | None]:
    """Return what each function answers to a path; None where it refuses."""
    arguments = {
        "read_file": (path,),
        "write_file": (path, "overwritten"),
        "edit_file": (path, SECRET, "overwritten"),
        "list_files": (path, "*", True),
        "search_files": ("canary|secret", path),
    }
    answers: dict[str, str | None] = {}
    for name, given in arguments.items():
        try:
            answers[name] = await asyncio.wait_for(tools[name](*given), 30)
        except ToolError:
            answers[name] = None
    return answers


REFUSED = [
    # Absolute, and up.
    *("/etc/passwd", "//etc/passwd", "/", "{outside}/secret.txt", "/proc/self/cwd/x"),
    *("..", "../outside/secret.txt", "./../outside/secret.txt", "sub/../../outside/secret.txt"),
    *("sub/..", "{here}/../outside/secret.txt", "{here}-too/secret.txt", "../here-too/secret.txt"),
    # What some programs take for the end of a name, or for something else.
    *("../outside/secret.txt\0", "a\0b", "a\nb", "\ud800", "\x7f", "x" * 1025, "x" * 300),
    # Links: to a file, to a folder, absolute, relative, through another one, to nothing, to itself.
    *("to_file", "to_folder/secret.txt", "to_folder/new.txt", "relative/secret.txt", "chain"),
    *("chain/secret.txt", "up/outside/secret.txt", "sub/up/outside/secret.txt", "dangling"),
    *("to_folder/../outside/secret.txt", "inner/../../outside/secret.txt", "loop", "loop/x"),
    # Doors of the kernel.
    *("root/etc/passwd", "cwd/manage.py", "fds/0", "zero"),
]


@pytest.mark.parametrize("path", REFUSED)
def test_a_path_that_leads_out_is_refused_by_every_function(
    here: Path, outside: Path, path: str
) -> None:
    before, given = everything(outside), path.format(here=here, outside=outside)
    answers = with_tools("tool-filesystem", Workplace(here), lambda tools: attempts(tools, given))
    assert set(answers.values()) == {None}
    assert everything(outside) == before


HARMLESS = [
    # Other characters than they seem, in Unicode, in URLs and on other systems.
    *("\uff0e\uff0e/outside/secret.txt", "..\u2215outside\u2215secret.txt", "\u2025/secret.txt"),
    *("%2e%2e/outside/secret.txt", "..\\outside\\secret.txt", "C:/secret.txt", "..."),
    *("~/secret.txt", "$HOME/secret.txt", "`id`", "file:/etc/passwd", ".\u200b./secret.txt", "-rf"),
]


@pytest.mark.parametrize("path", HARMLESS)
def test_a_path_that_only_looks_as_if_it_led_out_stays_inside(
    here: Path, outside: Path, path: str
) -> None:
    before = everything(outside)
    answers = with_tools("tool-filesystem", Workplace(here), lambda tools: attempts(tools, path))
    assert SECRET not in str(answers)
    assert everything(outside) == before
    assert (here / path).read_text() == "overwritten"


@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
def test_what_is_no_file_is_neither_opened_nor_waited_for(here: Path, kind: str) -> None:
    made = make_special(here, kind)
    answers = with_tools("tool-filesystem", Workplace(here), lambda tools: attempts(tools, "odd"))
    assert set(answers.values()) == {None}
    assert call("tool-filesystem", here, "search_files", "x") == "[No line matches.]"
    assert stat.S_IFMT((here / "odd").stat().st_mode) == made


def make_special(here: Path, kind: str) -> int:
    if kind == "fifo":
        os.mkfifo(here / "odd")
        return stat.S_IFIFO
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            folder = os.open(here, os.O_RDONLY)
            bound.bind(f"/proc/self/fd/{folder}/odd")
            os.close(folder)
        return stat.S_IFSOCK
    if os.geteuid():
        pytest.skip("only root makes devices")
    os.mknod(here / "odd", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    return stat.S_IFCHR


def test_a_list_and_a_search_of_everything_follow_no_link(here: Path) -> None:
    answers = with_tools("tool-filesystem", Workplace(here), lambda tools: attempts(tools, "."))
    assert "to_folder  [symbolic link]" in (answers["list_files"] or "")
    assert "secret.txt" not in (answers["list_files"] or "")
    assert answers["search_files"] == "[No line matches.]"


def test_a_hard_link_to_a_file_outside_is_cut_by_a_write(here: Path, outside: Path) -> None:
    os.link(outside / "secret.txt", here / "hard")
    before = everything(outside)
    call("tool-filesystem", here, "write_file", "hard", "overwritten")
    assert (here / "hard").read_text() == "overwritten"
    assert everything(outside) == before


def swap(here: Path, outside: Path) -> None:
    here.rename(here.with_name("here-moved"))
    here.symlink_to(outside)


def test_a_directory_that_is_swapped_for_a_link_is_still_the_old_one(
    here: Path, outside: Path
) -> None:
    (here / "own.txt").write_text("own")

    async def run() -> tuple[str, str, dict[str, str | None]]:
        files, shell = (
            TOOLS.find(name).open({}, Workplace(here)) for name in ("tool-filesystem", "tool-bash")
        )
        async with files as toolbox, shell as box:
            swap(here, outside)
            tools = by_name(toolbox) | by_name(box)
            answers = await attempts(tools, "secret.txt")
            return await tools["read_file"]("own.txt"), await tools["bash"]("cat *.txt"), answers

    own, shown, answers = asyncio.run(run())
    assert own.startswith("own\n")
    assert shown.startswith("own")
    assert answers["read_file"] is None
    assert SECRET not in shown
    assert (outside / "secret.txt").read_text() == SECRET


@pytest.mark.parametrize("module", ["tool-filesystem", "tool-bash"])
@pytest.mark.parametrize("swapped", ["projects", "projects/app"])
def test_a_directory_whose_path_was_swapped_for_a_link_out_is_not_opened(
    tmp_path: Path, settings: Any, module: str, swapped: str
) -> None:
    settings.ROOT_DIR = tmp_path / "root"
    app = settings.ROOT_DIR / "projects/app"
    app.mkdir(parents=True)
    (settings.ROOT_DIR / swapped).rename(tmp_path / "outside")
    (settings.ROOT_DIR / swapped).symlink_to(tmp_path / "outside")
    assert app.is_dir()
    with pytest.raises(EngineError) as caught:
        call(module, app, "bash", "true")
    assert caught.value.code == "bad_tool"


SWAPS = 2000
_HERE, _EXCHANGE = -100, 2


def swapping(here: Path, outside: Path, swaps: list[int], done: threading.Event) -> None:
    """Have a folder and a link change places, and a file and a link, with nothing ever missing."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = (os.fsencode(here / "folder"), os.fsencode(here / "link"))
    try:
        for number in range(SWAPS):
            assert libc.renameat2(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0
            (here / "spare").symlink_to(outside / "secret.txt")
            (here / "spare").replace(here / "file")
            (here / "spare").write_text("own")
            (here / "spare").replace(here / "file")
            swaps.append(number)
    finally:
        done.set()


@pytest.mark.skipif(sys.platform != "linux", reason="two names change places on Linux only")
def test_no_swap_for_a_link_at_the_wrong_moment_leads_out(here: Path, outside: Path) -> None:
    (here / "folder").mkdir()
    (here / "folder/secret.txt").write_text("own")
    (here / "file").write_text("own")
    (here / "link").symlink_to(outside)
    before, swaps, done, answers = everything(outside), [], threading.Event(), []

    async def work(tools: Functions) -> None:
        while not done.is_set():
            for path in ("folder/secret.txt", "file", "folder"):
                answers.append(await attempts(tools, path))

    thread = threading.Thread(target=swapping, args=(here, outside, swaps, done))
    thread.start()
    with_tools("tool-filesystem", Workplace(here), work)
    thread.join()
    assert len(swaps) == SWAPS
    assert SECRET not in str(answers)
    assert everything(outside) == before
    # Both sides of the swap were met.
    assert {answer["read_file"] is None for answer in answers} == {True, False}


def bash(here: Path, command: str, timeout: float | None = None, **config: Any) -> str:
    return call("tool-bash", here, "bash", command, timeout, **config)


def test_a_link_that_a_command_made_is_not_followed(here: Path, outside: Path) -> None:
    bash(here, f"ln -s {outside} made; ln -s {outside}/secret.txt sub/made; mkfifo pipe")
    for path in ("made/secret.txt", "sub/made", "pipe"):
        answers = with_tools(
            "tool-filesystem", Workplace(here), lambda tools, path=path: attempts(tools, path)
        )
        assert set(answers.values()) == {None}
    assert (outside / "secret.txt").read_text() == SECRET


# A worker of its own, since what a process was started with is what others could read of it.
WORKER = """
import asyncio, json, os, pathlib, sys
from sessions_app.engine.tools.base import Workplace
from sessions_app.engine.registry import TOOLS

async def work():
    async with TOOLS.find("tool-bash").open({}, Workplace(pathlib.Path(sys.argv[1]))) as toolbox:
        bash = toolbox.tools[0].call
        commands = [each.replace("WORKER", str(os.getpid())) for each in json.loads(sys.argv[2])]
        print(json.dumps([await bash({"command": each, "timeout": 20}) for each in commands]))

asyncio.run(work())
"""
LEAKS = [
    *("env", "set", "export -p", "bash -lc env", "cat /proc/self/environ"),
    *("cat /proc/$PPID/environ /proc/$PPID/cmdline", "cat /proc/WORKER/environ"),
    *("cat /proc/WORKER/task/*/environ", "cat /proc/[0-9]*/environ", "ps eww -A"),
    *("grep -a canary /proc/WORKER/mem /proc/$PPID/mem", "cat /proc/WORKER/fd/* < /dev/null"),
    *("sudo -n cat /proc/WORKER/environ", "cat /proc/WORKER/cwd/../proc/WORKER/environ"),
]


@landlock
def test_no_command_sees_what_the_worker_was_started_with(here: Path) -> None:
    """Also as root, and also of the other processes that were started with the same."""
    worker = subprocess.run(
        [sys.executable, "-c", WORKER, str(here), json.dumps(LEAKS)],
        env={**os.environ, "API_KEY": SECRET},
        capture_output=True,
        check=True,
    )
    answers = json.loads(worker.stdout)
    assert len(answers) == len(LEAKS)
    assert [each for each in answers if SECRET in each] == []
    assert "PATH=" in answers[0]


CONCEALED = """
import os, subprocess, sys
from sessions_app.engine.tools.sandbox import conceal
if sys.argv[1] == "yes":
    conceal()
print(subprocess.run(["cat", f"/proc/{os.getpid()}/environ"], env={}, capture_output=True).stdout)
"""


@pytest.mark.parametrize("concealed", ["yes", "no"])
def test_a_concealed_process_hides_its_environment_from_its_own_user(concealed: str) -> None:
    if os.geteuid():
        python, options = sys.executable, {}
    elif python := shutil.which("python3", path="/usr/bin"):
        options = {"user": 65534, "group": 65534, "extra_groups": []}
    else:
        pytest.skip("root sees everything, and nobody else has a Python here")
    shown = subprocess.run(
        [python, "-B", "-c", CONCEALED, concealed],
        env={"PATH": config.PATH, "API_KEY": SECRET, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        check=True,
        **options,
    )
    assert (SECRET in shown.stdout.decode()) == (concealed == "no")


WRITES = [
    *("touch {outside}/new.txt", "echo x > {outside}/secret.txt", "echo x >> to_file"),
    *("rm -rf {outside}", "rm to_folder/secret.txt", "mv {outside}/secret.txt .", "mkdir ../new"),
    *("ln {outside}/secret.txt hard", "mv sub {outside}/", "truncate -s 0 {outside}/secret.txt"),
    *("cd .. && touch new.txt", "cp sub/../to_file ../copy", "echo x > /proc/self/cwd/../new.txt"),
    *("mount --bind sub {outside}", "unshare -Ur touch {outside}/new.txt"),
    *("dd if=/dev/zero of={outside}/secret.txt count=1", "mknod {outside}/zero c 1 5"),
]


@landlock
@pytest.mark.parametrize("command", WRITES)
def test_no_command_writes_outside(here: Path, outside: Path, command: str) -> None:
    before = everything(outside)
    bash(here, command.format(outside=outside), writable=[])
    assert everything(outside) == before


@landlock
@pytest.mark.parametrize("sign", ["KILL", "STOP", "TERM"])
def test_no_command_signals_what_is_outside(here: Path, sign: str) -> None:
    victim = subprocess.Popen(["sleep", "1000.5"])
    answer = bash(here, f"kill -{sign} {victim.pid}; kill -{sign} $PPID; sleep 0.2; echo on")
    assert "on\n[exit code 0; " in answer
    assert victim.poll() is None
    victim.kill()
    assert victim.wait() == -9


SURVIVORS = [
    *("sleep 1000.6 &", "nohup sleep 1000.6 >/dev/null 2>&1 &", "setsid sleep 1000.6 &"),
    *("(setsid -f sleep 1000.6)", "(sleep 1000.6 & disown) ; true", "sleep 1000.6 & kill -9 $$"),
    *("setsid bash -c 'trap \"\" TERM HUP; sleep 1000.6; sleep 1000.6' >&- 2>&- <&- &",),
    *("(((sleep 1000.6 &) &) &)", "sleep 1000.6 & kill -STOP $!", "exec setsid -f sleep 1000.6"),
]


@pytest.mark.parametrize("command", SURVIVORS)
def test_nothing_survives_the_command_that_started_it(here: Path, command: str) -> None:
    marker = f"1000.{os.getpid()}"
    assert "[exit code" in bash(here, command.replace("1000.6", marker))
    assert running(marker) == []


@pytest.mark.parametrize("command", ["cat", "read line", "head -1 /dev/stdin", "bash -s", "wc -c"])
def test_there_is_nothing_to_read_on_the_standard_input(here: Path, command: str) -> None:
    assert "time-out" not in bash(here, command, 30)


def test_a_command_inherits_no_descriptor(here: Path) -> None:
    answer = bash(here, "ls /proc/$$/fd; true")
    assert answer.splitlines()[:-1] == ["0", "1", "2"]


def test_an_ignored_signal_does_not_prolong_the_time(here: Path) -> None:
    answer = bash(here, "trap '' TERM INT HUP; sleep 1000.7 & wait; sleep 1000.7", 1)
    assert answer == "[exit code 137; stopped at its time-out of 1 s]"
    assert running("1000.7") == []


def test_a_fork_bomb_is_over_soon(here: Path) -> None:
    # It goes only so deep by itself, should nothing hold it up.
    twice = "bash bomb $(($1+1)) & " * 2
    (here / "bomb").write_text(f'[ "$1" -gt 7 ] || {{ {twice} }}\nsleep 1000.8\n')
    answer = bash(here, "bash bomb 0; wait", 60, processes=20)
    assert "killed: more than 20 processes" in answer or "Resource temporarily" in answer
    assert running("bash bomb") == running("sleep 1000.8") == []


@pytest.mark.parametrize("command", ["head -c 5000000 /dev/zero > big", "truncate -s 1T big"])
def test_a_file_does_not_grow_beyond_its_limit(here: Path, command: str) -> None:
    answer = bash(here, command, file_mb=1)
    assert "[exit code 0" not in answer
    assert (here / "big").stat().st_size <= 1024 * 1024


def test_memory_does_not_grow_beyond_its_limit(here: Path) -> None:
    answer = bash(here, "x=$(head -c 500000000 /dev/zero | tr '\\0' x); echo ${#x}", memory_mb=100)
    assert "500000000" not in answer


def test_a_busy_loop_ends_with_its_time_on_the_processor(here: Path) -> None:
    answer = bash(here, "while :; do :; done", 60, cpu_seconds=1)
    assert answer.startswith(("[exit code 137; ", "[exit code 152; "))
    assert "time-out" not in answer


def test_no_right_is_left_to_a_command(here: Path) -> None:
    answer = bash(here, "grep -E '^Cap(Eff|Prm|Bnd)|NoNewPrivs' /proc/self/status")
    values = dict(line.split(":\t") for line in answer.splitlines()[:-1])
    assert values["NoNewPrivs"] == "1"
    assert int(values["CapEff"], 16) == int(values["CapPrm"], 16) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_a_root_worker_becomes_nobody_where_the_directory_allows() -> None:
    directory = Path("/tmp", f"amplifierd-test-{os.getpid()}")
    directory.mkdir()
    try:
        assert bash(directory, "id -u").startswith("0\n")
        directory.chmod(0o777)
        answer = bash(directory, "id -u; id -G; touch made; cat made")
        assert answer.splitlines()[0] in {"65534", "1"}
        assert (directory / "made").stat().st_uid != 0
        os.chown(directory, 4321, 4321)
        assert bash(directory, "id -u").startswith("4321\n")
    finally:
        shutil.rmtree(directory)
