"""A test of the protection from commands: a command that tries to get out of its directory."""

import asyncio
import contextlib
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from sessions_app.engine.tools.bash import Bash
from sessions_app.engine.tools.filesystem.paths import WorkingDirectory
from sessions_app.engine.tools.protection import Layer

# Each attempt prints a number if it succeeds.
ATTEMPTS = {
    "read files of the machine": "grep -q {canary} {outside}/file && echo {canary}-0",
    "write outside": "echo {canary} > {outside}/new && echo {canary}-1",
    "connect to services of this machine": "exec 3<>/dev/tcp/127.0.0.1/{port} && echo {canary}-2",
    "read environments of other processes": "cat /proc/{pid}/environ && echo {canary}-3",
}


async def find_escapes() -> tuple[Layer, list[str]]:
    """Return what protects from commands in this process, and what one could do nevertheless.

    Raises EngineError `bad_tool` if commands are refused.
    """
    canary = secrets.token_hex(8)
    with _make_folders() as (inside, outside):
        (outside / "file").write_text(canary)
        directory = WorkingDirectory(inside)
        try:
            shell = await asyncio.to_thread(Bash, {}, directory)
            async with _listen() as port, _start_process() as pid:
                names = {"canary": canary, "outside": outside, "port": port, "pid": pid}
                tries = (f"({each.format(**names)}) 2>/dev/null" for each in ATTEMPTS.values())
                answer = await shell.bash("; ".join(tries))
        finally:
            directory.close()
        done = [text for number, text in enumerate(ATTEMPTS) if f"{canary}-{number}" in answer]
        return Layer(shell.launch.confinement.layer), done


@contextlib.contextmanager
def _make_folders() -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory(prefix="amplifierd-probe-") as made:
        top = Path(made).resolve()
        for name in ("inside", "outside"):
            (top / name).mkdir()
        yield top / "inside", top / "outside"


@contextlib.asynccontextmanager
async def _listen() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def _start_process() -> AsyncIterator[int]:
    """Start a process of this user that waits; it is killed at the end."""
    process = await asyncio.create_subprocess_exec("sleep", "60", env={"PATH": os.defpath})
    try:
        yield process.pid
    finally:
        process.kill()
        await process.wait()
