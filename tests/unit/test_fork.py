"""A child that goes on from its parent's memory has nothing else of the parent."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from amplifierd.supervisor.fork import Fork
from amplifierd.supervisor.supervisor import Child, Supervisor

TITLE = "manage.py run_web --fd 3"


def run(function: Callable[[], object], *pass_fds: int, **environment: str) -> int:
    """Return the exit code of a child that runs the function."""
    return Fork(function, TITLE, environment, pass_fds).wait(20)


def fail() -> None:
    raise ValueError("it broke")


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (lambda: None, 0),
        (lambda: sys.exit(), 0),
        (lambda: sys.exit(7), 7),
        (lambda: sys.exit("the reason"), 1),
        (fail, 1),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), -signal.SIGKILL),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), -signal.SIGTERM),
    ],
)
def test_the_exit_code_is_that_of_a_program(function: Callable[[], object], code: int) -> None:
    assert run(function) == code


def test_reasons_and_tracebacks_are_printed() -> None:
    code = """
import sys
from amplifierd.supervisor.fork import Fork
def fail():
    raise ValueError("it broke")
Fork(lambda: sys.exit("the reason"), "", {}).wait()
Fork(fail, "", {}).wait()
print("the parent goes on")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.startswith("the reason\nTraceback")
    assert done.stderr.endswith("ValueError: it broke\n")
    assert done.stdout == "the parent goes on\n"


def test_it_inherits_the_descriptors_that_it_is_given_and_no_others(tmp_path: Path) -> None:
    files = [(tmp_path / str(n)).open("w") for n in range(3)]
    given = files[1].fileno()
    found = tmp_path / "found"

    def look() -> None:
        links = list(Path("/proc/self/fd").iterdir())
        kept = {link.name: str(link.readlink()) for link in links if link.exists()}
        found.write_text(json.dumps(kept))

    assert run(look, given) == 0
    kept = json.loads(found.read_text())
    assert kept.pop("0") == os.devnull
    del kept["1"], kept["2"]
    assert kept == {str(given): str(tmp_path / "1")}
    for file in files:
        file.close()


def test_it_has_a_session_a_name_and_an_environment_of_its_own(tmp_path: Path) -> None:
    def stay() -> None:
        (tmp_path / os.environ["FILE"]).touch()
        time.sleep(60)

    child = Fork(stay, TITLE, {"FILE": "x"})
    try:
        while not (tmp_path / "x").exists():
            time.sleep(0.01)
        assert os.getsid(child.pid) == child.pid
        assert " ".join(psutil.Process(child.pid).cmdline()).strip() == TITLE
        assert "FILE" not in os.environ
        assert child.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.05)
    finally:
        child.terminate()
    assert child.wait(20) == -signal.SIGTERM
    # One that has ended can be asked to end again.
    child.kill()
    assert child.poll() == -signal.SIGTERM


def test_a_signal_in_the_first_moment_is_not_lost() -> None:
    for _ in range(20):
        child = Fork(lambda: time.sleep(60), TITLE, {})
        child.terminate()
        assert child.wait(20) == -signal.SIGTERM


def test_the_supervisor_keeps_such_a_child_running() -> None:
    said: list[str] = []
    supervisor = Supervisor([], said.append, drain_seconds=30)
    child = Child("child", ["true"], lambda: time.sleep(60))
    supervisor.children.append(child)
    supervisor.tick()
    first = child.process
    assert first
    first.kill()
    first.wait()
    supervisor.tick()
    time.sleep(child.delay)
    supervisor.tick()
    assert said == ["child was killed by SIGKILL; starting it again in 0.1 s"]
    assert child.process
    assert child.process.pid != first.pid
    assert supervisor.drain()
    assert child.process.returncode == -signal.SIGTERM
    supervisor.close()


def test_what_is_loaded_before_makes_no_thread_and_no_event_loop() -> None:
    code = """
import django, os, sys, threading
os.environ["DJANGO_SETTINGS_MODULE"] = "amplifierd.settings"
django.setup()
from amplifierd.supervisor.fork import can_fork, preload
preload()
assert can_fork(), threading.enumerate()
assert "twisted.internet.reactor" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_loaded_before_is_all_but_the_commands_and_the_reactor() -> None:
    code = """
import django, os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "amplifierd.settings"
django.setup()
from amplifierd.management.commands import serve
from amplifierd.supervisor.fork import preload
preload()
before = set(sys.modules)
from amplifierd.management.commands import run_web, run_worker
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = [f"amplifierd.management.commands.{name}" for name in ("run_web", "run_worker")]
    later = ["amplifierd.server.daphne", "daphne.server", "twisted.internet.reactor"]
    assert set(done.stdout.split()) == {*names, *later}
