"""Tools for the files in the session's directory, and nowhere else."""

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from sessions_app.engine.tools import text_files, walking
from sessions_app.engine.tools.base import Tool, Toolbox, ToolError, Workplace, shortened
from sessions_app.engine.tools.inside import Inside


@contextlib.asynccontextmanager
async def open_tools(config: dict[str, Any], workplace: Workplace) -> AsyncIterator[Toolbox]:
    """Give the tools for files; they hold the directory open, whatever is put in its place.

    Raises EngineError `bad_tool` where the directory is not there.
    """
    inside = await asyncio.to_thread(Inside, workplace.directory)
    files = Files(inside)
    try:
        yield Toolbox(
            [
                Tool(files.read_file, idempotent=True),
                Tool(files.write_file, idempotent=True),
                Tool(files.edit_file),
                Tool(files.list_files, idempotent=True),
                Tool(files.search_files, idempotent=True),
            ]
        )
    finally:
        inside.close()


class Files:
    """The tools. The disk is waited for in threads."""

    def __init__(self, inside: Inside) -> None:
        self.inside = inside
        # A model may call several tools at a time; two edits of a file must not lose one.
        self._writing = threading.Lock()

    async def read_file(self, path: str, offset: int = 1, limit: int = 2000) -> str:
        """Read a text file in UTF-8.

        The lines come as they are, without numbers; the last line of the answer, in brackets, says
        which lines they are, and with which offset to go on if there are more. Symbolic links are
        not followed.

        Args:
            path: The file, relative to the working directory.
            offset: The number of the first line to read, from 1.
            limit: How many lines to read at most.
        """
        if offset < 1 or limit < 1:
            raise ToolError("`offset` and `limit` are at least 1.")
        return await _finished(text_files.read, self.inside, path, offset, limit)

    async def write_file(self, path: str, content: str) -> str:
        """Write a text file: a new one, or all of one that is there. Folders are made as needed.

        Args:
            path: The file, relative to the working directory.
            content: All that is to be in the file.
        """
        size = await _finished(self._alone, text_files.write, path, content)
        return f"Wrote {size} bytes to `{path}`."

    async def edit_file(self, path: str, old: str, new: str, replace_all: bool = False) -> str:
        """Replace a piece of text in a file.

        Args:
            path: The file, relative to the working directory.
            old: The text to replace, character for character, with enough around it that it is
                in the file only once.
            new: The text to put there.
            replace_all: Replace every occurrence, however many there are.
        """
        count = await _finished(self._alone, text_files.edit, path, old, new, replace_all)
        return f"Replaced {count} in `{path}`."

    async def list_files(self, path: str = ".", pattern: str = "*", recursive: bool = False) -> str:
        """List what is in a folder, hidden files too; folders end in `/`.

        Args:
            path: The folder, relative to the working directory.
            pattern: Which names to list, such as `*.py`; `*` stands for anything.
            recursive: List what is in the folders below, too (but not in `.git`).
        """
        return await self._looked(walking.listing, path, pattern, recursive)

    async def search_files(
        self, pattern: str, path: str = ".", files: str = "*", ignore_case: bool = False
    ) -> str:
        """Search a text file, or those in a folder and below it, line by line.

        Each match is told as `path:number: line`, with the path from the folder. Binary files,
        `.git` and symbolic links are passed over.

        Args:
            pattern: The regular expression, as Python has them.
            path: The folder or file to search, relative to the working directory.
            files: Which files to search, such as `*.py`.
            ignore_case: Whether upper and lower case are the same.
        """
        return await self._looked(walking.search, pattern, path, files, ignore_case)

    def _alone(self, work: Callable[..., int], *arguments: Any) -> int:
        with self._writing:
            return work(self.inside, *arguments)

    async def _looked(self, work: Callable[..., str], *arguments: Any) -> str:
        budget = walking.Budget()
        answer = await _finished(work, self.inside, *arguments, budget, stop=budget.stop)
        return shortened(answer)


async def _finished(
    work: Callable[..., Any], *arguments: Any, stop: threading.Event | None = None
) -> Any:
    """Return what the work returns, done in a thread; once cancelled, wait until it has ended."""
    task = asyncio.ensure_future(asyncio.to_thread(functools.partial(work, *arguments)))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if stop:
            stop.set()
        await asyncio.wait([task])
        task.exception()
        raise
