"""tool-bash: runs commands of the shell in the session's directory, by a launcher process."""

import asyncio
import contextlib
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import time
from codecs import getincrementaldecoder
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings

from sessions_app.engine.base import bad_tool
from sessions_app.engine.capabilities import ToolCapabilities
from sessions_app.engine.tools import protection, sandbox
from sessions_app.engine.tools.base import Toolbox, ToolError, ToolModule, Workplace
from sessions_app.engine.tools.bash import config as configs
from sessions_app.engine.tools.filesystem.paths import WorkingDirectory
from sessions_app.engine.tools.functions import make_tool
from sessions_app.engine.tools.protection import Confinement, Layer

# Bytes of a command; the kernel takes 128 KB in one argument.
COMMAND_LIMIT = 100_000
# Bytes of output after which a command is stopped. Before that, what exceeds the limit is dropped.
FLOOD = 64 * 1024 * 1024
# Seconds from SIGTERM to SIGKILL, and then until the launcher itself is killed, which may need 30
# to kill its processes. It has the same time to start.
GRACE = 2.0
LAUNCHER_TIMEOUT = 35.0

SHELL = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
# Seconds after which bubblewrap is tried again if it did not work.
RETRY = 300.0
NO_SANDBOX = (
    "This daemon executes commands only in a sandbox, and this machine offers none. Install "
    "bubblewrap and allow user namespaces, or use Linux 6.12 or newer with Landlock; `doctor` "
    "shows what is missing. AMPLIFIERD_SANDBOX=auto executes them without one."
)
DATA_INSIDE = (
    "The session's directory contains the daemon's data folder, which commands must not reach. "
    "Use a directory below it for the session, or move the data folder (AMPLIFIERD_HOME)."
)
NOT_READ_ONLY = (
    "The tool bash is left out: the session's directory is shared read-only, and only bubblewrap, "
    "which is not in use here, keeps commands from changing it."
)

_PIECE = 64 * 1024
_ROOT = str(Path(__file__).resolve().parents[4])
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from sessions_app.engine.tools.sandbox import main; main()"
)
_REASONS = {
    "time-out": "stopped at its time-out of {limit:g} s",
    "output": "stopped: more than 64 MB of output",
    "processes": "killed: more than {processes} processes at a time",
    "disk": "killed: it left less than {free} MB of the disk free",
}


class BashModule(ToolModule):
    """The module of the tool `bash`."""

    module = "tool-bash"
    capabilities = ToolCapabilities(
        executes_code=True, touches_files=True, reaches_network=True, keeps_reach=True
    )

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, config: dict[str, Any], workplace: Workplace) -> AsyncIterator[Toolbox]:
        """Open the tool, and hide this process's environment from its commands.

        Raises EngineError `bad_tool` for a config that cannot be used.
        """
        sandbox.conceal()
        place = (workplace.directory, workplace.reach)
        directory = await asyncio.to_thread(WorkingDirectory, *place)
        try:
            shell = await asyncio.to_thread(
                Bash,
                config,
                directory,
                owner=workplace.owner,
                is_read_only=not workplace.reach.is_whole,
            )
            if shell.launch.confinement.keeps_read_only:
                yield Toolbox([make_tool(shell.bash)], secrets=shell.secrets)
            else:
                yield Toolbox(notes=[NOT_READ_ONLY])
        finally:
            directory.close()


@dataclass(frozen=True)
class Launch:
    """The parameters of the launcher, which gets them as JSON with these names."""

    # The descriptor of the directory in which the command begins.
    directory: int
    shell: str
    confinement: Confinement
    # By the names of `resource`.
    limits: dict[str, int]
    # Processes at a time.
    processes: int
    # Bytes of the disk that the command must leave free.
    free: int
    # The user and the group of the command, if they are not the worker's.
    user: tuple[int, int] | None = None
    grace: float = GRACE


def make_confinement(
    config: dict[str, Any],
    directory: Path,
    user: tuple[int, int] | None,
    *,
    owner: str,
    is_read_only: bool,
) -> Confinement:
    """Return what commands in a directory may reach; raise EngineError `bad_tool`."""
    sandbox, home = configs.parse_sandbox(config), os.path.realpath(settings.HOME)
    layer, program = (Layer.BASIC, "") if sandbox == "off" else find_layer(user)
    if sandbox == "required":
        if layer == Layer.BASIC:
            raise bad_tool(NO_SANDBOX)
        if Path(home).is_relative_to(directory):
            raise bad_tool(DATA_INSIDE)
    writable = configs.parse_folders(config, "writable")
    if layer == Layer.BASIC and config.get("writable") is None:
        writable = configs.TEMPORARY
    private = configs.make_private_folders(directory, user, owner)
    return Confinement(
        layer=layer,
        directory=str(directory),
        is_read_only=is_read_only,
        home=private[0],
        temporary=private[1],
        readable=configs.parse_folders(config, "readable"),
        writable=writable,
        hidden=tuple({home, os.path.realpath(settings.MODELS_DIR)}),
        network=configs.parse_network(config),
        program=program,
    )


# By user: whether bubblewrap works, and when that was tried.
_tried: dict[tuple[int, int] | None, tuple[bool, float]] = {}


def find_layer(user: tuple[int, int] | None) -> tuple[Layer, str]:
    """Return the strongest protection from commands of a user, and the program that it needs."""
    program = shutil.which("bwrap", path=configs.PATH)
    if program:
        works, when = _tried.get(user, (False, -RETRY))
        if not works and time.monotonic() - when >= RETRY:
            works = asyncio.run(can_use_bubblewrap(program, user))
            _tried[user] = (works, time.monotonic())
        if works:
            return Layer.BUBBLEWRAP, program
    return (Layer.LANDLOCK if protection.can_use_landlock() else Layer.BASIC), ""


async def can_use_bubblewrap(program: str, user: tuple[int, int] | None) -> bool:
    """Execute a command in bubblewrap, as any other one would be."""
    settings = configs.BashSettings()
    try:
        with tempfile.TemporaryDirectory(dir="/tmp" if user else None) as made:  # noqa: S108
            folder = str(await asyncio.to_thread(Path(made).resolve))
            os.chown(folder, *(user or (-1, -1)))
            directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                launch = Launch(
                    directory=directory,
                    shell=SHELL,
                    confinement=Confinement(
                        Layer.BUBBLEWRAP, folder, False, folder, folder, program=program
                    ),
                    limits=settings.limits,
                    processes=settings.processes,
                    free=0,
                    user=user,
                )
                running = await start_command(launch, "exit 42", {}, CommandOutput(1000))
                return (await running.wait(LAUNCHER_TIMEOUT)).get("code") == 42
            finally:
                os.close(directory)
    except (OSError, ToolError):
        return False


class Bash:
    """The tool, for one directory and one config."""

    def __init__(
        self,
        config: dict[str, Any],
        directory: WorkingDirectory,
        *,
        owner: str = "",
        is_read_only: bool = False,
    ) -> None:
        """Prepare the launch of commands; raise EngineError `bad_tool`. It may take a second."""
        self.settings = configs.parse_settings(config)
        user = configs.choose_user(directory.path, directory.root)
        confinement = make_confinement(
            config, directory.path, user, owner=owner, is_read_only=is_read_only
        )
        self.environment, self.secrets = configs.make_environment(
            config, directory.path, *confinement.folders
        )
        self.launch = Launch(
            directory=directory.root,
            shell=SHELL,
            confinement=confinement,
            limits=self.settings.limits,
            processes=self.settings.processes,
            free=self.settings.free_mb * configs.MEGABYTE,
            user=user,
        )
        # Tasks of cancelled calls, until their commands have ended.
        self._stopping: set[asyncio.Task[str]] = set()

    async def bash(self, command: str, timeout: float | None = None) -> str:  # noqa: ASYNC109
        """Run a command with bash, and return its output and its exit code.

        It begins in the working directory, with an empty standard input and few environment
        variables; each call starts anew, so `cd` and variables do not last. The time that it may
        take, its memory, its processes and its output are limited, and whatever it leaves running
        is killed when it ends. Expect that it has no network, and that it can write only to the
        working directory, $HOME and $TMPDIR.

        Args:
            command: The command, or a script of several lines.
            timeout: Seconds until it is stopped.
        """
        try:
            size = len(command.encode())
        except UnicodeEncodeError:
            raise ToolError("The command has half of a surrogate pair in it.") from None
        if "\0" in command or size > COMMAND_LIMIT:
            raise ToolError(
                f"A command has no NUL characters and at most {COMMAND_LIMIT} bytes. Write a "
                "longer script to a file and run that."
            )
        seconds = self.settings.timeout if timeout is None else timeout
        if not (math.isfinite(seconds) and seconds > 0):
            raise ToolError("`timeout` is a number of seconds above zero.")
        cancelled = asyncio.Event()
        limit = min(seconds, self.settings.max_timeout)
        task = asyncio.create_task(self._run(command, limit, cancelled))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled.set()
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)
            await asyncio.wait([task])
            raise

    async def _run(self, command: str, seconds: float, cancelled: asyncio.Event) -> str:
        output = CommandOutput(self.settings.max_output)
        started = time.monotonic()
        running = await start_command(self.launch, command, self.environment, output)

        async def stop_when_cancelled() -> None:
            await cancelled.wait()
            running.stop("cancelled")

        stopper = asyncio.create_task(stop_when_cancelled())
        try:
            report = await running.wait(seconds)
        finally:
            stopper.cancel()
        reason = running.reason or report.get("reason") or ""
        took = f"{time.monotonic() - started:.1f} s"
        outcome = _REASONS.get(reason, reason or took).format(
            limit=seconds, processes=self.settings.processes, free=self.settings.free_mb
        )
        text, code = output.text(), report.get("code")
        line_end = "" if not text or text.endswith("\n") else "\n"
        return f"{text}{line_end}[exit code {'unknown' if code is None else code}; {outcome}]"


@dataclass
class CommandOutput:
    """The beginning and the end of a command's output, within a limit of characters."""

    limit: int
    # Bytes of output so far.
    size: int = 0
    head: str = ""
    tail: str = ""
    left_out: int = 0

    def __post_init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")(errors="replace")

    def add(self, piece: bytes, *, is_last: bool = False) -> None:
        """Add a piece; keep only its part in the first or last half of the limit."""
        self.size += len(piece)
        # NUL cannot be stored or shown.
        text = self._decoder.decode(piece, final=is_last).replace("\0", "\ufffd")
        room = self.limit // 2 - len(self.head)
        self.head += text[:room]
        self.tail += text[max(room, 0) :]
        over = max(len(self.tail) - (self.limit - self.limit // 2), 0)
        self.tail = self.tail[over:]
        self.left_out += over

    def text(self) -> str:
        """Return the output; if some was left out, a line says how much."""
        self.add(b"", is_last=True)
        if not self.left_out:
            return self.head + self.tail
        return f"{self.head}\n[… {self.left_out} characters were left out …]\n{self.tail}"


@dataclass
class RunningCommand:
    """A command that runs. Its first stop gives the reason."""

    process: asyncio.subprocess.Process
    output: CommandOutput
    reason: str = ""
    shell: int = 0
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    def stop(self, reason: str) -> None:
        """Make the launcher stop the command, by closing the launcher's input."""
        if not self.reason and self.process.stdin:
            self.reason = reason
            self.process.stdin.close()
            loop = asyncio.get_running_loop()
            self.timers.append(loop.call_later(GRACE + LAUNCHER_TIMEOUT, self._kill))

    async def wait(self, seconds: float) -> dict[str, Any]:
        """Return the launcher's report on the end of the command, which may take `seconds`."""
        output, reports = self.process.stdout, self.process.stderr
        assert output and reports  # noqa: S101

        async def read_output() -> None:
            while piece := await output.read(_PIECE):
                self.output.add(piece)
                if self.output.size > FLOOD:
                    self.stop("output")

        reader = asyncio.create_task(read_output())
        with contextlib.suppress(TimeoutError):
            line = await asyncio.wait_for(reports.readline(), LAUNCHER_TIMEOUT)
            self.shell = _parse_report(line).get("shell", 0)
        has_started = bool(self.shell)
        if not has_started:
            self._kill()
        loop = asyncio.get_running_loop()
        self.timers.append(loop.call_later(seconds, self.stop, "time-out"))
        report = _parse_report(await reports.read())
        # The process id of a shell that has ended may soon be used again, so nothing may kill it.
        for timer in self.timers:
            timer.cancel()
        # Without a code, the command may have killed its launcher.
        if "code" not in report:
            self._kill()
        await self.process.wait()
        await asyncio.wait([reader], timeout=GRACE)
        reader.cancel()
        self.process._transport.close()  # type: ignore[attr-defined]
        if not has_started:
            raise ToolError("The shell could not be started.")
        return report

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        if self.shell:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.shell, signal.SIGKILL)


def _parse_report(line: bytes) -> dict[str, Any]:
    try:
        return json.loads(line)
    except ValueError:
        return {}


async def start_command(
    launch: Launch, command: str, environment: dict[str, str], output: CommandOutput
) -> RunningCommand:
    """Start the launcher with a command; raise ToolError if that fails."""
    # Isolated, so that neither the environment nor the folder changes what is imported.
    spec = asdict(launch) | {"confinement": launch.confinement._asdict()}
    options = ["-I", "-S", "-B", "-c", _START, _ROOT, json.dumps(spec), command]
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
    return RunningCommand(process, output)
