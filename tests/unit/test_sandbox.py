"""Attempts of a command to get out of its sandbox, in each kind of sandbox that the machine has."""

import asyncio
import contextlib
import ctypes
import os
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.conf import settings

from profiles_app.access import Access, Reach
from sessions_app.engine.base import EngineError
from sessions_app.engine.registry import TOOLS
from sessions_app.engine.tools import bash as bash_tool
from sessions_app.engine.tools import protection, sandbox
from sessions_app.engine.tools.base import Workplace
from sessions_app.engine.tools.protection import Layer
from tests.harness.tools import by_name, call
from tests.unit.test_tool_bash import running

SECRET, ESCAPED = "sk-canary-0123456789", "ESC" + "APED"
MARKER = f"1234.{os.getpid()}"


def python(code: str) -> str:
    return f"python3 - <<'END'\nimport ctypes, os, socket\nlibc = ctypes.CDLL(None)\n{code}\nEND"


def talk(family: str, kind: str, address: str) -> str:
    return python(
        f"s = socket.socket(socket.{family}, socket.{kind})\ns.settimeout(2)\n"
        f"s.connect({address})\ns.send(b'hello')\nprint(s.recv(100))"
    )


def succeed(call: str) -> str:
    """Return a program that says so if a system call succeeds."""
    return python(f"print('ESC' + 'APED' if libc.{call} >= 0 else 'refused')")


# What a second owner's command would try. One has succeeded if its output has the secret or says
# so, or if anything outside has changed.
READS = {
    "the secret key": "cat {data}/secret_key",
    "the models": "cat {data}/models/secret.txt",
    "another owner's file": "cat {other}/secret.txt",
    "a relative path": "cat ../other/secret.txt",
    "the folder above": "cat ../*/secret.txt",
    "a planted link": "cat to_other/secret.txt",
    "a link of its own": "ln -s {other} made; cat made/secret.txt",
    "a hard link": "ln {other}/secret.txt hard && cat hard",
    "the root of its process": "cat /proc/self/root{other}/secret.txt",
    "the root of the first process": "cat /proc/1/root{other}/secret.txt",
    "the root of the worker": "cat /proc/{victim}/root{other}/secret.txt",
    "the folder of the worker": "cat /proc/{victim}/cwd/secret.txt",
    "a search of everything": "find {data} / -maxdepth 4 -name secret.txt -exec cat {{}} +",
    "an archive": "tar cf - -C / {other} | strings; tar xOf <(tar cf - {other})",
    "git": "git diff --no-index /dev/null {other}/secret.txt",
    "a module of Python": "python3 -c \"print(open('{other}/secret.txt').read())\"",
    "a descriptor and two dots": python(
        "d = os.open('.', os.O_RDONLY)\n"
        "print(os.read(os.open('../other/secret.txt', os.O_RDONLY, dir_fd=d), 100))"
    ),
    "temporary files of the machine": "cat {temporary}/secret.txt",
    "temporary files of another session": "cat {temporary}/amplifierd-session-*/tmp/secret.txt",
    "HOME as a link": "rm -rf $HOME; rmdir $HOME; ln -s {other} $HOME; cat $HOME/secret.txt",
    "TMPDIR as a link": "rm -rf $TMPDIR; ln -s {other} $TMPDIR; cat $TMPDIR/secret.txt",
    "an environment": "env; cat /proc/{victim}/environ",
    "all environments": "cat /proc/[0-9]*/environ",
    "the environment of the launcher": "cat /proc/$PPID/environ /proc/$PPID/cmdline",
    "the memory of the worker": "grep -a canary /proc/{victim}/mem",
    "command lines": "cat /proc/[0-9]*/cmdline",
    "a mount": "mkdir m; mount --bind {other} m && cat m/secret.txt",
    "a namespace": "mkdir m; unshare -Urm sh -c 'mount --bind {other} m && cat m/secret.txt'",
    "another root": succeed("chroot(b'/')"),
    "passwords of the machine": "grep -q root: /etc/shadow && echo ESC''APED",
}
NETWORK = {
    "TCP to loopback": "exec 3<>/dev/tcp/127.0.0.1/{tcp}; head -c 30 <&3",
    "TCP by name": talk("AF_INET", "SOCK_STREAM", "('localhost', {tcp})"),
    "TCP by IPv6": talk("AF_INET6", "SOCK_STREAM", "('::ffff:127.0.0.1', {tcp})"),
    "TCP to all addresses": talk("AF_INET", "SOCK_STREAM", "('0.0.0.0', {tcp})"),
    "UDP": talk("AF_INET", "SOCK_DGRAM", "('127.0.0.1', {udp})"),
    "the socket of PostgreSQL": talk("AF_UNIX", "SOCK_STREAM", "'{data}/.s.PGSQL.5432'"),
    "a socket of the machine": talk("AF_UNIX", "SOCK_STREAM", "'{temporary}/docker.sock'"),
    "an abstract socket": talk("AF_UNIX", "SOCK_STREAM", "'\\0{abstract}'"),
    "a pair of sockets": python(
        "s, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "s.connect('{temporary}/log.sock'); s.send(b'hello'); print('ESC' + 'APED')"
    ),
    "the host of a virtual machine": succeed("socket(40, 1, 0)"),
    "packets": succeed("socket(17, 3, 0)"),
}
WRITES = {
    "a new file": "touch {other}/new",
    "the secret key, overwritten": "echo x > {data}/secret_key",
    "another owner's file, appended to": "echo x >> {other}/secret.txt",
    "another owner's file, through a link": "echo x > to_other/secret.txt",
    "another owner's file, cut": "truncate -s 0 {other}/secret.txt",
    "another owner's file, moved": "mv {other}/secret.txt .",
    "another owner's file, removed": "rm -rf {other}",
    "its own directory, moved": "mv {here} {here}-moved; cd ..; mv here here-moved",
    "temporary files of the machine, made": "touch {temporary}/new",
    "shared memory of the machine": "touch /dev/shm/amplifierd-{victim} && ls /dev/shm",
    "the system": "touch /usr/new-{victim} /etc/new-{victim} /new-{victim}",
    "an exchange of names": python(
        "libc.renameat2(-100, b'{here}/sub', -100, b'{other}/secret.txt', 2)"
    ),
}
PROCESSES = {
    "the end of the worker": "kill -9 {victim}; kill -9 -{victim}; pkill -9 -f {marker}",
    "a stop of the worker": "kill -STOP {victim}",
    "a debugger": succeed("ptrace(16, {victim}, 0, 0)"),
    "the limits of the worker": "prlimit --pid {victim} --nofile=99:99 && echo ESC''APED",
    "the priority of the worker": "renice -n 19 -p {victim} && echo ESC''APED",
    "the priority of the user": "renice -n 19 -u $(id -u) && ps -o ni= -p {victim}",
    "the processors of the worker": "taskset -p 1 {victim} && echo ESC''APED",
    "another user": python("os.setuid(12345); print('ESC' + 'APED')"),
    "a set-uid program": "cp /bin/sleep s; chmod u+s s; chown 12345 s && echo ESC''APED",
    "sudo": "sudo -n cat {other}/secret.txt; su -c 'cat {other}/secret.txt' < /dev/null",
    "a device of the disk": "mknod disk b 254 0 && head -c 1 disk && echo ESC''APED",
    "keys of the kernel": succeed("syscall(250, 0, -3, 1)"),
    "a ring of calls": succeed("syscall(425, 8, ctypes.create_string_buffer(256))"),
    "programs of the kernel": succeed("syscall(321, 0, ctypes.create_string_buffer(128), 128)"),
    "a program left behind": "(setsid -f sleep {marker}); nohup sleep {marker} & disown",
    "a daemon": python(
        "if os.fork() == 0:\n os.setsid()\n os.closerange(0, 9)\n"
        " if os.fork() == 0: os.execvp('sleep', ['sleep', '{marker}'])"
    ),
}
ATTEMPTS = READS | NETWORK | WRITES | PROCESSES
END = "end-of-attempt"


@dataclass
class Scene:
    """A daemon's machine: its data folder, a directory of each of two owners, and services."""

    top: Path
    victim: subprocess.Popen[bytes]
    abstract: str
    ports: dict[str, int] = field(default_factory=dict)
    received: list[bytes] = field(default_factory=list)

    @property
    def data(self) -> Path:
        return self.top / "data"

    @property
    def here(self) -> Path:
        return self.data / "root/here"

    @property
    def other(self) -> Path:
        return self.data / "root/other"

    @property
    def temporary(self) -> Path:
        return self.top / "temporary"

    def fill_in(self, command: str) -> str:
        return command.format(
            **{name: getattr(self, name) for name in ("data", "here", "other", "temporary")},
            **self.ports,
            victim=self.victim.pid,
            abstract=self.abstract,
            marker=MARKER,
        )

    def snapshot(self) -> dict[str, str]:
        """Return what is outside the directory: each file with its content."""
        outside = (path for path in self.top.rglob("*") if self.here not in (path, *path.parents))
        return {
            str(path): path.read_text() if path.is_file() else "folder"
            for path in outside
            if not any(each.name.startswith("amplifierd-") for each in (path, *path.parents))
        }


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    # It is made now, not below the folder for temporary files that is set here.
    tmp_path_factory.getbasetemp()
    # The path of a Unix socket has 107 bytes at most.
    top = Path(tempfile.mkdtemp(prefix="scene-", dir="/tmp"))
    for name in ("data/root/here/sub", "data/root/other", "data/models", "temporary"):
        (top / name).mkdir(parents=True)
    victim = subprocess.Popen(
        [sys.executable, "-c", f"import time; time.sleep(600) # {SECRET}-{MARKER}"],
        env={"API_KEY": SECRET},
        cwd=top / "data/root/other",
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    made = Scene(top, victim, f"amplifierd-{os.getpid()}")
    session = made.temporary / "amplifierd-session-0-other/tmp"
    session.mkdir(parents=True)
    for folder in (made.other, made.data / "models", made.temporary, session):
        (folder / "secret.txt").write_text(SECRET)
    (made.data / "secret_key").write_text(SECRET)
    with listening(made), pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "HOME", made.data)
        patch.setattr(settings, "ROOT_DIR", made.data / "root")
        patch.setattr(settings, "MODELS_DIR", made.data / "models")
        patch.setattr(tempfile, "tempdir", str(made.temporary))
        yield made
    victim.kill()
    victim.communicate()
    shutil.rmtree(top)
    # `tool-bash` hides its process; other tests look into theirs.
    sandbox._prctl(sandbox._SET_DUMPABLE, 1)


@contextlib.contextmanager
def listening(scene: Scene) -> Iterator[None]:
    """Answer each connection, and each packet, with the secret."""
    unix, stream, packets = socket.AF_UNIX, socket.SOCK_STREAM, socket.SOCK_DGRAM
    bound: list[tuple[socket.AddressFamily, socket.SocketKind, Any]] = [
        (socket.AF_INET, stream, ("127.0.0.1", 0)),
        (socket.AF_INET, packets, ("127.0.0.1", 0)),
        (unix, stream, str(scene.data / ".s.PGSQL.5432")),
        (unix, stream, str(scene.temporary / "docker.sock")),
        (unix, stream, f"\0{scene.abstract}"),
        (unix, packets, str(scene.temporary / "log.sock")),
    ]
    selector, ended = selectors.DefaultSelector(), threading.Event()
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(socket.socket(family, kind)) for family, kind, _ in bound]
        for each, (_, kind, address) in zip(opened, bound, strict=True):
            each.bind(address)
            if kind == stream:
                each.listen()
            selector.register(each, selectors.EVENT_READ)
        scene.ports |= {"tcp": opened[0].getsockname()[1], "udp": opened[1].getsockname()[1]}

        def serve() -> None:
            while not ended.is_set():
                for key, _ in selector.select(0.1):
                    ready: Any = key.fileobj
                    if ready.type == stream:
                        accepted, _ = ready.accept()
                        scene.received.append(b"a connection")
                        with accepted, contextlib.suppress(OSError):
                            accepted.sendall(SECRET.encode())
                            # What is closed with something unread is reset.
                            accepted.settimeout(0.5)
                            accepted.recv(100)
                    else:
                        piece, sender = ready.recvfrom(100)
                        scene.received.append(piece)
                        if sender:
                            ready.sendto(SECRET.encode(), sender)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


find_layer = bash_tool.find_layer
LAYERS = [Layer.BUBBLEWRAP, Layer.LANDLOCK]


@contextlib.contextmanager
def protected_by(layer: Layer) -> Iterator[None]:
    """Have commands use this protection, or skip the test if the machine has it not."""
    found = find_layer(None)
    if layer == Layer.BUBBLEWRAP and found[0] != layer:
        pytest.skip("bubblewrap is not installed, or does not work here")
    if layer == Layer.LANDLOCK:
        if not protection.can_use_landlock():
            pytest.skip("the kernel has no Landlock that scopes signals")
        found = (layer, "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bash_tool, "find_layer", lambda user: found)
        yield


async def attempt_all(scene: Scene, config: dict[str, Any]) -> tuple[dict[str, str], list[Any]]:
    """Return what each attempt has answered, and what has changed outside the directory."""
    scripts = scene.here / "attempts"
    scripts.mkdir(exist_ok=True)
    for number, command in enumerate(ATTEMPTS.values()):
        (scripts / str(number)).write_text(scene.fill_in(command))
    link = scene.here / "to_other"
    link.unlink(missing_ok=True)
    link.symlink_to(scene.other)
    before = scene.snapshot()
    scene.received.clear()
    numbers = range(len(ATTEMPTS))
    if config == WITHOUT:
        # Without a sandbox the others would do harm.
        numbers = range(len(READS) + len(NETWORK))
    text = " ".join(map(str, numbers))
    command = f"for i in {text}; do timeout 5 bash attempts/$i; rm -rf made m; echo {END}; done"
    async with TOOLS.find("tool-bash").open(config, Workplace(scene.here)) as toolbox:
        answer = await by_name(toolbox)["bash"](f"exec 2>&1; {command}")
    changed: list[Any] = [*before.items() ^ scene.snapshot().items(), *scene.received]
    changed += running(f"sleep {MARKER}")
    assert scene.victim.poll() is None
    if psutil.Process(scene.victim.pid).status() == psutil.STATUS_STOPPED:
        changed.append("the worker was stopped")
    answers = answer.split(f"{END}\n")
    assert len(answers) == len(numbers) + 1
    return dict(zip(ATTEMPTS, answers[:-1], strict=False)), changed


COMMON = {"max_output": 1_000_000}
WITHOUT = {"sandbox": "off", **COMMON}
# Without a sandbox, commands have no capabilities, and Landlock keeps them from other processes.
KEPT_OUT_ANYWAY = {
    *("a mount", "a namespace", "another root", "packets", "an abstract socket"),
    *("an environment", "all environments", "the environment of the launcher"),
    *("the root of the first process", "the root of the worker", "the folder of the worker"),
    "the memory of the worker",
}


@pytest.fixture(scope="module", params=LAYERS)
def outcomes(
    request: pytest.FixtureRequest, scene: Scene
) -> Iterator[tuple[dict[str, str], list[Any]]]:
    with protected_by(request.param):
        yield asyncio.run(attempt_all(scene, {"sandbox": "required", **COMMON}))


@pytest.mark.parametrize("name", ATTEMPTS)
def test_no_attempt_gets_out(outcomes: tuple[dict[str, str], list[Any]], name: str) -> None:
    answer = outcomes[0][name]
    assert SECRET not in answer
    assert ESCAPED not in answer


def test_no_attempt_changes_or_reaches_what_is_outside(
    outcomes: tuple[dict[str, str], list[Any]],
) -> None:
    assert outcomes[1] == []


def test_the_attempts_succeed_without_a_sandbox(scene: Scene) -> None:
    """Otherwise they would show nothing."""
    answers, _ = asyncio.run(attempt_all(scene, WITHOUT))
    failed = {name for name, each in answers.items() if SECRET not in each and ESCAPED not in each}
    assert failed <= KEPT_OUT_ANYWAY
    for folder in scene.temporary.glob("amplifierd-session-*"):
        shutil.rmtree(folder)


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest, scene: Scene) -> Iterator[Layer]:
    with protected_by(request.param):
        yield request.param


def bash(here: Path, command: str, **config: Any) -> str:
    return call("tool-bash", here, "bash", command, **config)


WORK = [
    (
        "git init -q a && cd a && git commit -q --allow-empty -m x --author 'a <a@b>' && git log",
        "x",
    ),
    ("printf 'all:\\n\\techo done > out\\n' > Makefile && make -s && cat out", "done"),
    ("python3 -c 'import sqlite3, ssl, multiprocessing; print(6 * 7)'", "42"),
    ("python3 -m venv --without-pip v && v/bin/python -c 'print(6 * 7)'", "42"),
    ('node -e \'require("child_process").exec("echo $((6*7))", (e, o) => console.log(o))\'', "42"),
    ("echo x > $TMPDIR/a; echo y > $HOME/b; cat $(mktemp) $TMPDIR/a $HOME/b", "x\ny"),
    ("cat <(echo 42) - < /dev/null; nproc; date; getent passwd $(id -u)", "42"),
    ("echo 'int main(){return 42;}' > c.c && cc c.c -o c; ./c; echo $?", "42"),
    ("awk 'BEGIN { print 42 }' | tee /dev/stderr | sed s/4/4/ | sort | xargs", "42"),
    ("openssl version && curl --version | head -1 && ls /etc/ssl/certs | wc -l", "OpenSSL"),
]


@pytest.mark.parametrize("command", [each for each, _ in WORK])
def test_programs_work_in_a_sandbox(layer: Layer, scene: Scene, command: str) -> None:
    program = command.split()[0]
    if program in {"node", "git", "make"} and not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    variables = "GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b"
    answer = bash(scene.here, f"export {variables}; {command}")
    assert dict(WORK)[command] in answer
    assert "denied" not in answer


def test_paths_are_those_of_the_machine(layer: Layer, scene: Scene) -> None:
    assert bash(scene.here, "pwd; pwd -P; echo $OLDPWD").startswith(f"{scene.here}\n" * 2)
    bash(scene.here, "echo own > made-here; chmod +x made-here; ln -s made-here sub/link")
    assert (scene.here / "made-here").read_text() == "own\n"
    assert bash(scene.here, f"cat {scene.here}/made-here").startswith("own\n")


def test_temporary_files_last_from_command_to_command(layer: Layer, scene: Scene) -> None:
    bash(scene.here, "echo kept > $TMPDIR/kept; echo kept > ~/kept")
    assert bash(scene.here, "cat $TMPDIR/kept ~/kept").startswith("kept\nkept\n")


def test_a_read_only_directory_is_read_and_not_written(layer: Layer, scene: Scene) -> None:
    (scene.here / "own").write_text("own\n")
    (scene.here / "own").chmod(0o640)
    commands = "cat own; echo x > own; touch new own; rm own; mv own new; chmod 777 own; cat own"
    place = Workplace(scene.here, reach=Reach(access=Access.READ))

    async def run() -> str:
        async with TOOLS.find("tool-bash").open({}, place) as toolbox:
            if layer != Layer.BUBBLEWRAP:
                assert "only bubblewrap" in toolbox.notes[0]
                assert toolbox.tools == ()
                return ""
            return await by_name(toolbox)["bash"](f"{commands}; echo x > $TMPDIR/x && echo tmp")

    if answer := asyncio.run(run()):
        assert answer.startswith("own\n")
        assert "\ntmp\n" in answer
    assert (scene.here / "own").read_text() == "own\n"
    assert (scene.here / "own").stat().st_mode & 0o777 == 0o640
    assert not (scene.here / "new").exists()


def test_programs_are_opened_in_a_read_only_directory_only_if_they_keep_it() -> None:
    can = TOOLS.find("tool-bash").capabilities
    assert can.may_open(Reach(access=Access.READ))
    # Nothing could keep commands out of a part of the directory.
    assert not can.may_open(Reach(below={("other",): Access.NONE}))
    assert not TOOLS.find("tool-mcp").capabilities.may_open(Reach(access=Access.READ))


def test_owners_in_the_same_directory_have_private_folders_of_their_own(scene: Scene) -> None:
    async def run(owner: str, command: str) -> str:
        place = Workplace(scene.here, owner=owner)
        async with TOOLS.find("tool-bash").open({}, place) as toolbox:
            return await by_name(toolbox)["bash"](command)

    asyncio.run(run("alice", "echo alice > ~/of; echo alice > $TMPDIR/of"))
    assert "alice" not in asyncio.run(run("bob", "cat ~/of $TMPDIR/of"))
    assert asyncio.run(run("alice", "cat ~/of $TMPDIR/of")).startswith("alice\nalice\n")


def test_only_bubblewrap_keeps_the_modes_of_files_outside(layer: Layer, scene: Scene) -> None:
    """Landlock has no rule for them; `doctor` says so on a daemon that others use."""
    secret = scene.other / "secret.txt"
    secret.chmod(0o600)
    bash(scene.here, f"chmod 640 {secret}")
    assert secret.stat().st_mode & 0o777 == (0o600 if layer == Layer.BUBBLEWRAP else 0o640)


def test_folders_that_the_profile_lists_can_be_reached_but_never_the_data_folder(
    layer: Layer, scene: Scene
) -> None:
    added = scene.top / f"added-{layer}"
    added.mkdir(exist_ok=True)
    (added / "file").write_text("listed\n")
    command = f"cat {added}/file; touch {added}/new; cat {scene.data}/secret_key"
    answer = bash(scene.here, command, readable=[str(scene.top)])
    assert "listed" in answer
    assert SECRET not in answer
    assert not (added / "new").exists()
    answer = bash(scene.here, command, writable=[str(added), str(scene.data)])
    assert SECRET not in answer
    assert (added / "new").exists()


def test_the_network_is_there_if_the_profile_says_so(layer: Layer, scene: Scene) -> None:
    command = scene.fill_in(NETWORK["TCP to loopback"])
    assert SECRET in bash(scene.here, command, network=True)
    for name in ("the socket of PostgreSQL", "an abstract socket"):
        assert SECRET not in bash(scene.here, scene.fill_in(NETWORK[name]), network=True)


def test_a_program_can_be_a_server_for_itself(scene: Scene) -> None:
    with protected_by(Layer.BUBBLEWRAP):
        answer = bash(
            scene.here,
            "python3 -m http.server 8000 >/dev/null 2>&1 & sleep 0.5; "
            "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:8000\").status)'",
        )
    assert answer.startswith("200")


def test_no_swap_of_the_directory_for_a_link_leads_bubblewrap_out(scene: Scene) -> None:
    """A session in the folder above exchanges the directory with a link all the time."""
    here, link = scene.data / "root/swapped", scene.data / "root/swapped-link"
    here.mkdir()
    link.symlink_to(scene.other)
    libc, done = ctypes.CDLL(None), threading.Event()
    names = (-100, os.fsencode(here), -100, os.fsencode(link), 2)

    def swap() -> None:
        while not done.is_set():
            libc.renameat2(*names)

    async def run() -> list[str]:
        async with TOOLS.find("tool-bash").open({}, Workplace(here)) as toolbox:
            thread = threading.Thread(target=swap)
            thread.start()
            try:
                command = by_name(toolbox)["bash"]
                return [await command("cat secret.txt; touch new; exit 7") for _ in range(15)]
            finally:
                done.set()
                thread.join()

    with protected_by(Layer.BUBBLEWRAP):
        answers = asyncio.run(run())
    assert SECRET not in str(answers)
    assert not (scene.other / "new").exists()


def test_what_a_command_leaves_in_its_private_folders_is_not_followed(
    layer: Layer, scene: Scene
) -> None:
    bash(scene.here, f"cd /; rm -rf ~ $TMPDIR; ln -s {scene.other} ~; ln -s {scene.other} $TMPDIR")
    answer = bash(scene.here, "cat ~/secret.txt $TMPDIR/secret.txt; ls -la ~ $TMPDIR")
    assert SECRET not in answer


def test_shared_memory_is_limited_in_bubblewrap(scene: Scene) -> None:
    with protected_by(Layer.BUBBLEWRAP):
        answer = bash(
            scene.here, "head -c 100M /dev/zero > /dev/shm/big; echo; touch /new /dev/new"
        )
    assert "No space left" in answer
    assert answer.count("Read-only file system") == 2


def test_a_command_that_fills_the_disk_is_killed(layer: Layer, scene: Scene) -> None:
    free = shutil.disk_usage(scene.here).free // 1024**2
    fill = "for i in 1 2 3 4 5 6 7 8; do fallocate -l 64M $TMPDIR/big$i; sleep 0.2; done"
    try:
        answer = bash(scene.here, fill, free_mb=free + 1000)
        assert f"killed: it left less than {free + 1000} MB of the disk free" in answer
        assert "[exit code 0" in bash(scene.here, "rm $TMPDIR/big*", free_mb=free + 1000)
    finally:
        for path in scene.temporary.rglob("big*"):
            path.unlink()


def test_a_fork_bomb_ends_and_leaves_nothing(layer: Layer, scene: Scene) -> None:
    twice = "bash bomb $(($1+1)) & " * 2
    (scene.here / "bomb").write_text(f'[ "$1" -gt 7 ] || {{ {twice} }}\nsleep {MARKER}\n')
    answer = bash(scene.here, "bash bomb 0; wait", processes=20)
    assert "killed: more than 20 processes" in answer or "Resource temporarily" in answer
    assert running("bash bomb") == running(f"sleep {MARKER}") == []


def test_a_daemon_that_requires_a_sandbox_refuses_commands_without_one(
    scene: Scene, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SANDBOX = "required"
    with pytest.raises(EngineError, match=r"AMPLIFIERD_SANDBOX.*Remove `sandbox: off`"):
        bash(scene.here, "true", sandbox="off")
    monkeypatch.setattr(bash_tool, "find_layer", lambda user: (Layer.BASIC, ""))
    with pytest.raises(EngineError, match="Install bubblewrap") as caught:
        bash(scene.here, "true")
    assert caught.value.code == "bad_tool"
    settings.SANDBOX = "auto"
    assert bash(scene.here, "true").startswith("[exit code 0")
    with pytest.raises(EngineError, match="Install bubblewrap"):
        bash(scene.here, "true", sandbox="required")


def test_a_required_sandbox_refuses_a_directory_around_the_data_folder(
    layer: Layer, scene: Scene, settings: Any
) -> None:
    settings.ROOT_DIR = scene.top
    with pytest.raises(EngineError, match="contains the daemon's data folder"):
        bash(scene.top, "true", sandbox="required")


@pytest.mark.parametrize(
    "config",
    [{"sandbox": "maybe"}, {"sandbox": 1.5}, {"network": "yes"}, {"readable": ["relative"]}],
)
def test_a_config_that_cannot_be_used_is_refused(scene: Scene, config: dict[str, Any]) -> None:
    with pytest.raises(EngineError) as caught:
        bash(scene.here, "true", **config)
    assert caught.value.code == "bad_tool"


def test_bubblewrap_that_does_not_work_is_not_used(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bwrap").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setattr(bash_tool.configs, "PATH", f"{tmp_path}:{bash_tool.configs.PATH}")
    monkeypatch.setattr(bash_tool, "_tried", {})
    found, program = bash_tool.find_layer(None)
    assert (found != Layer.BUBBLEWRAP, program) == (True, "")
