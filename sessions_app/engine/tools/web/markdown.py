"""HTML as Markdown, made by a process of its own.

A page is written by strangers, and can be built so that whoever parses it needs minutes or
gigabytes. The process has a limit of both, and can be stopped at any moment.
"""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from sessions_app.engine.tools.base import ToolError

_PROGRAM = Path(__file__).with_name("converter.py")


async def markdown(html: bytes, charset: str, url: str) -> str:
    """Return a page's text as Markdown, its links absolute by the page's URL.

    Raises ToolError for a page that takes more than the process may use.
    """
    # Isolated and with an empty environment: it knows nothing that a page could ask for.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", str(_PROGRAM), charset, url),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={},
    )
    try:
        text, _ = await process.communicate(html)
    finally:
        await _stop(process)
    if process.returncode:
        raise ToolError("The page is built in a way that cannot be read here.")
    return text.decode()


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()
