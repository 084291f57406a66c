"""A tool for commands of the shell, in the session's directory."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from sessions_app.engine.capabilities import ToolCapabilities
from sessions_app.engine.tools import confinement
from sessions_app.engine.tools.base import Toolbox, ToolError, ToolModule, Workplace
from sessions_app.engine.tools.bash import commands
from sessions_app.engine.tools.bash.config import (
    choose_user,
    make_environment,
    make_home,
    parse_settings,
    parse_writable,
)
from sessions_app.engine.tools.filesystem.inside import Inside
from sessions_app.engine.tools.functions import make_tool

# Bytes of a command; the kernel takes 128 KB in one argument.
COMMAND_LIMIT = 100_000

_REASONS = {
    "time-out": "stopped at its time-out of {limit:g} s",
    "output": "stopped: more than 64 MB of output",
    "processes": "killed: more than {processes} processes at a time",
}


class BashModule(ToolModule):
    """The tool for commands."""

    module = "tool-bash"
    capabilities = ToolCapabilities(executes_code=True, touches_files=True, reaches_network=True)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, config: dict[str, Any], workplace: Workplace) -> AsyncIterator[Toolbox]:
        """Open the tool, and hide this process's environment from its commands.

        Raises EngineError `bad_tool` for a config that cannot be used.
        """
        confinement.conceal()
        inside = await asyncio.to_thread(Inside, workplace.directory)
        try:
            shell = await asyncio.to_thread(Bash, config, inside)
            yield Toolbox([make_tool(shell.bash)], secrets=shell.secrets)
        finally:
            inside.close()


class Bash:
    """The tool."""

    def __init__(self, config: dict[str, Any], inside: Inside) -> None:
        self.settings = parse_settings(config)
        directory = inside.directory
        user = choose_user(directory, inside.root)
        home = make_home(directory, user)
        self.environment, self.secrets = make_environment(config, directory, home)
        self.launch = commands.Launch(
            directory=inside.root,
            shell="/bin/bash" if Path("/bin/bash").exists() else "/bin/sh",
            writable=(*parse_writable(config), str(home)),
            limits=self.settings.limits,
            processes=self.settings.processes,
            user=user,
        )
        # What is still being stopped, though nobody waits for it any more.
        self._stopping: set[asyncio.Task[str]] = set()

    async def bash(self, command: str, timeout: float | None = None) -> str:  # noqa: ASYNC109
        """Run a command with bash, and return its output and its exit code.

        It begins in the working directory, with an empty standard input and few environment
        variables; each call starts anew, so `cd` and variables do not last. The time that it may
        take, its memory, its processes and its output are limited, and whatever it leaves running
        is killed when it ends. Expect that it can write to the working directory and to /tmp only.

        Args:
            command: The command, or a script of several lines.
            timeout: Seconds until it is stopped.
        """
        _check(command)
        seconds, ended = self._seconds(timeout), asyncio.Event()
        task = asyncio.create_task(self._run(command, seconds, ended))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            ended.set()
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)
            await asyncio.wait([task])
            raise

    def _seconds(self, timeout: float | None) -> float:
        if timeout is None:
            return min(self.settings.timeout, self.settings.max_timeout)
        if not (math.isfinite(timeout) and timeout > 0):
            raise ToolError("`timeout` is a number of seconds above zero.")
        return min(timeout, self.settings.max_timeout)

    async def _run(self, command: str, seconds: float, ended: asyncio.Event) -> str:
        output = commands.Output(self.settings.max_output)
        begun = time.monotonic()
        running = await commands.start(self.launch, command, self.environment, output)
        waiting = asyncio.create_task(_when(ended, running))
        try:
            told = await running.ended(seconds)
        finally:
            waiting.cancel()
        reason = running.reason or told.get("reason") or ""
        took = f"{time.monotonic() - begun:.1f} s"
        said = _REASONS.get(reason, reason or took).format(
            limit=seconds, processes=self.settings.processes
        )
        return _answer(output.text(), told.get("code"), said)


def _answer(text: str, code: int | None, said: str) -> str:
    line_end = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{line_end}[exit code {'unknown' if code is None else code}; {said}]"


async def _when(ended: asyncio.Event, running: commands.Running) -> None:
    await ended.wait()
    running.end("cancelled")


def _check(command: str) -> None:
    try:
        size = len(command.encode())
    except UnicodeEncodeError:
        raise ToolError("The command has half of a surrogate pair in it.") from None
    if "\0" in command or size > COMMAND_LIMIT:
        raise ToolError(
            f"A command has no NUL characters and at most {COMMAND_LIMIT} bytes. Write a longer "
            "script to a file and run that."
        )
