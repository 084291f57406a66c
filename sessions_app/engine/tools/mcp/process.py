"""The program of an MCP server: its own process group, gone when it is left, whatever it does."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from sessions_app.engine.base import EngineError
from sessions_app.engine.tools import sandbox
from sessions_app.engine.tools.mcp.config import Server

# Bytes of one line, and of what waits to be read by the program.
LINE_LIMIT = 4_000_000
# Bytes of its standard error that are kept, the last ones.
SAID_LIMIT = 2_000
# All that it inherits.
INHERITED = ("PATH", "HOME", "LANG")
# Seconds to leave in when its input ends, and again when it is told to.
GRACE = 0.5
# Seconds for the exit status of a program whose output has ended.
_SETTLING = 0.5


class Child:
    """A running program, which is sent lines and answers in lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        # What it was stopped for.
        self.fault = ""
        self._said = b""
        self._listener = asyncio.create_task(self._listen())

    async def line(self) -> bytes:
        """Return the next line of its output; nothing once that has ended, or is not heard."""
        if self.fault:
            return b""
        try:
            return await self.process.stdout.readline()
        except ValueError:
            self.stop(f"wrote a line of more than {LINE_LIMIT} bytes, and was stopped")
            return b""

    def write(self, line: bytes) -> None:
        """Send a line, without waiting for its being read; raise BrokenPipeError if none is."""
        stdin = self.process.stdin
        if stdin.transport.is_closing():
            raise BrokenPipeError
        if stdin.transport.get_write_buffer_size() > LINE_LIMIT:
            self.stop("did not read what it was sent, and was stopped")
            raise BrokenPipeError
        stdin.write(line)

    def stop(self, fault: str) -> None:
        """Kill the program for what it did, which is told after its name."""
        self.fault = fault
        self._signal(signal.SIGKILL)

    async def story(self) -> str:
        """Return what became of it, as the end of a sentence; nothing while it runs well."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), _SETTLING)
        code = self.process.returncode
        told = self.fault or ("" if code is None else f"has ended ({_status(code)})")
        said = self._said.decode(errors="replace").strip().splitlines()
        return f"{told}; it said: {said[-1]}" if told and said else told

    async def leave(self) -> None:
        """End the program: by the end of its input, then by SIGTERM, then all of it by SIGKILL."""
        try:
            self.process.stdin.close()
            if not await self._is_gone():
                self._signal(signal.SIGTERM)
                await self._is_gone()
        finally:
            self._signal(signal.SIGKILL)
            self._listener.cancel()
            await self._is_gone()
            # A process that has left the group may hold the pipes, which nothing public closes.
            self.process._transport.close()

    async def _is_gone(self) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), GRACE)
        return self.process.returncode is not None

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    async def _listen(self) -> None:
        while piece := await self.process.stderr.read(SAID_LIMIT):
            self._said = (self._said + piece)[-SAID_LIMIT:]


@asynccontextmanager
async def run_program(server: Server, directory: Path) -> AsyncIterator[Child]:
    """Start the program of a server in a directory, and end it.

    Raises EngineError `bad_tool` where it cannot be started.
    """
    child = Child(await _started(server, directory))
    try:
        yield child
    finally:
        await child.leave()


async def _started(server: Server, directory: Path) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *server.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=directory,
            env=_environment(server),
            start_new_session=True,
            # A worker that is killed closes nothing.
            preexec_fn=partial(sandbox.die_with_parent, signal.SIGKILL),
            limit=LINE_LIMIT,
        )
    except OSError as error:
        raise EngineError("bad_tool", _refusal(server, directory, error)) from None


def _environment(server: Server) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return inherited | dict(server.env)


def _refusal(server: Server, directory: Path, error: OSError) -> str:
    if not directory.is_dir():
        return f"{server} cannot start: the session's directory {directory.name!r} is not there."
    if isinstance(error, FileNotFoundError):
        return (
            f"{server} cannot start: there is no program {server.command[0]!r}. Install it where "
            "the worker runs, or correct `command`; what follows it belongs into `args`."
        )
    return f"{server} cannot start: {error.strerror or type(error).__name__}. Check `command`."


def _status(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"code {code}"
