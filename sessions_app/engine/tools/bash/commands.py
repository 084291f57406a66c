"""A command of the shell, run under a launcher: started, listened to, stopped."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from codecs import getincrementaldecoder
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sessions_app.engine.tools.base import ToolError

# Seconds from SIGTERM to SIGKILL, and from then on until the launcher is given up: it has 30 to
# kill what it launched. As long it has to begin.
GRACE = 2.0
GIVEN_UP = 35.0
# Bytes of output after which a command is stopped; what is over the cap is passed over till then.
FLOOD = 64 * 1024 * 1024

_PIECE = 64 * 1024
_ROOT = str(Path(__file__).resolve().parents[4])
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from sessions_app.engine.tools.launcher import main; main()"
)


@dataclass(frozen=True)
class Launch:
    """What the launcher is told: JSON, as these names."""

    # The descriptor of the directory, for the command to begin in.
    directory: int
    shell: str
    # What it may write to beside the directory.
    writable: tuple[str, ...]
    # By the names of `resource`.
    limits: dict[str, int]
    # Processes at a time.
    processes: int
    # The user and the group that it becomes, where it changes.
    user: tuple[int, int] | None = None
    grace: float = GRACE


@dataclass
class Output:
    """The beginning and the end of what a command says, as many characters as fit."""

    limit: int
    # Bytes that came.
    size: int = 0
    head: str = ""
    tail: str = ""
    left_out: int = 0

    def __post_init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")(errors="replace")

    def add(self, piece: bytes) -> None:
        """Take a piece; nothing is kept beyond the limit."""
        self.size += len(piece)
        self._keep(self._decoder.decode(piece))

    def _keep(self, text: str) -> None:
        # NUL can be neither stored nor shown.
        text = text.replace("\0", "\ufffd")
        room = self.limit // 2 - len(self.head)
        self.head += text[:room]
        self.tail += text[max(room, 0) :]
        over = max(len(self.tail) - (self.limit - self.limit // 2), 0)
        self.tail = self.tail[over:]
        self.left_out += over

    def text(self) -> str:
        """Return all that is kept, with a line where something was left out."""
        self._keep(self._decoder.decode(b"", final=True))
        if not self.left_out:
            return self.head + self.tail
        return f"{self.head}\n[… {self.left_out} characters were left out …]\n{self.tail}"


@dataclass
class Running:
    """A command under way. Whoever ends it first says why."""

    process: asyncio.subprocess.Process
    output: Output
    reason: str = ""
    shell: int = 0
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    def end(self, reason: str) -> None:
        """Have the launcher stop the command: it sees the end of its input."""
        if not self.reason and self.process.stdin:
            self.reason = reason
            self.process.stdin.close()
            loop = asyncio.get_running_loop()
            self.timers.append(loop.call_later(GRACE + GIVEN_UP, self._give_up))

    async def ended(self, seconds: float) -> dict[str, Any]:
        """Return what the launcher says of the end; the command has `seconds` until then."""
        assert self.process.stderr  # noqa: S101
        listening = asyncio.create_task(self._listen())
        begun = await self._begun()
        loop = asyncio.get_running_loop()
        self.timers.append(loop.call_later(seconds, self.end, "time-out"))
        told = _parsed(await self.process.stderr.read())
        # The number of a shell that has ended may soon be another's.
        for timer in self.timers:
            timer.cancel()
        await self._close(listening, clean="code" in told)
        if not begun:
            raise ToolError("The shell could not be started.")
        return told

    async def _begun(self) -> bool:
        """Return once there is a shell; tell whether there is."""
        assert self.process.stderr  # noqa: S101
        with contextlib.suppress(TimeoutError):
            line = await asyncio.wait_for(self.process.stderr.readline(), GIVEN_UP)
            self.shell = _parsed(line).get("shell", 0)
        if not self.shell:
            self._give_up()
        return bool(self.shell)

    async def _listen(self) -> None:
        assert self.process.stdout  # noqa: S101
        while piece := await self.process.stdout.read(_PIECE):
            self.output.add(piece)
            if self.output.size > FLOOD:
                self.end("output")

    async def _close(self, listening: asyncio.Task[None], *, clean: bool) -> None:
        """Leave nothing open, also where the launcher was killed by what it launched."""
        if not clean:
            self._give_up()
        await self.process.wait()
        await asyncio.wait([listening], timeout=GRACE)
        listening.cancel()
        self.process._transport.close()  # type: ignore[attr-defined]

    def _give_up(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        if self.shell:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.shell, signal.SIGKILL)


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        return json.loads(line)
    except ValueError:
        return {}


async def start(
    launch: Launch, command: str, environment: dict[str, str], output: Output
) -> Running:
    """Start a command; raise ToolError where that cannot be done."""
    # Isolated: nothing of the environment or the folder has a say in what is imported.
    options = ["-I", "-S", "-B", "-c", _START, _ROOT, json.dumps(asdict(launch)), command]
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *options),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            pass_fds=[launch.directory],
            cwd="/",
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise ToolError(f"The command could not be started: {error}.") from None
    return Running(process, output)
