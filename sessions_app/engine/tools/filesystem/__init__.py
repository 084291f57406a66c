"""tool-filesystem: tools for the files in the session's directory."""

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from sessions_app.engine.capabilities import ToolCapabilities
from sessions_app.engine.tools.base import Toolbox, ToolError, ToolModule, Workplace, shorten
from sessions_app.engine.tools.filesystem import search, text
from sessions_app.engine.tools.filesystem.paths import WorkingDirectory
from sessions_app.engine.tools.functions import make_tool


class FilesystemModule(ToolModule):
    """The module of the tools for files."""

    module = "tool-filesystem"
    capabilities = ToolCapabilities(
        executes_code=False, touches_files=True, reaches_network=False, keeps_reach=True
    )

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, config: dict[str, Any], workplace: Workplace) -> AsyncIterator[Toolbox]:
        """Open the tools and the directory, which stays the same if its path is replaced.

        Raises EngineError `bad_tool` if the directory does not exist.
        """
        place = (workplace.directory, workplace.reach)
        directory = await asyncio.to_thread(WorkingDirectory, *place)
        files = Files(directory)
        try:
            yield Toolbox(
                [
                    make_tool(files.read_file, idempotent=True),
                    make_tool(files.write_file, idempotent=True),
                    make_tool(files.edit_file),
                    make_tool(files.list_files, idempotent=True),
                    make_tool(files.search_files, idempotent=True),
                ]
            )
        finally:
            directory.close()


class Files:
    """The tools. They access the disk in threads."""

    def __init__(self, directory: WorkingDirectory) -> None:
        self.directory = directory
        # A model may call several tools at a time, and of two edits of a file none must be lost.
        self._writing = threading.Lock()

    async def read_file(
        self, path: str, offset: int = 1, limit: int = 2000, column: int = 1
    ) -> str:
        """Read a text file.

        The lines come as they are, without numbers; the last line of the answer, in brackets, says
        which lines they are, how to go on if there is more, and what is special about the file (its
        encoding and line ends are kept when you change it). Symbolic links are not followed.

        Args:
            path: The file, relative to the working directory.
            offset: The number of the first line to read, from 1.
            limit: How many lines to read at most.
            column: The number of the first character to read in that line, from 1: to go on within
                a line that is too long for one answer.
        """
        if min(offset, limit, column) < 1:
            raise ToolError("`offset`, `limit` and `column` are at least 1.")
        return await _finish(text.read_lines, self.directory, path, offset, limit, column)

    async def write_file(self, path: str, content: str) -> str:
        """Write a text file: a new one, or all of one that is there. Folders are made as needed.

        A file that is there keeps its byte order mark, and its line ends if they are all CRLF.

        Args:
            path: The file, relative to the working directory.
            content: All that is to be in the file.
        """
        return await _finish(self._write, text.write_text, path, content)

    async def edit_file(self, path: str, old: str, new: str, replace_all: bool = False) -> str:
        """Replace a piece of text in a file.

        Args:
            path: The file, relative to the working directory.
            old: The text to replace, character for character, with enough around it that it is
                in the file only once. A line end in it stands for whichever the file has.
            new: The text to put there.
            replace_all: Replace every occurrence, however many there are.
        """
        count = await _finish(self._write, text.edit_text, path, old, new, replace_all)
        return f"Replaced {count} in `{path}`."

    async def list_files(
        self,
        path: str = ".",
        pattern: str = "*",
        recursive: bool = False,
        include_ignored: bool = False,
    ) -> str:
        """List what is in a folder, hidden files too; folders end in `/`.

        Args:
            path: The folder, relative to the working directory.
            pattern: Which names to list, such as `*.py`, `*.{ts,tsx}` or `src/**/*.py`; one with
                folders in it is looked for in the folders below, too.
            recursive: List what is in the folders below, too (but not in `.git`).
            include_ignored: Look also into what `.gitignore` names, and into folders such as
                `node_modules`, which are passed over otherwise.
        """
        return await self._search(search.list_folder, path, pattern, recursive, include_ignored)

    async def search_files(
        self,
        pattern: str,
        path: str = ".",
        files: str = "*",
        ignore_case: bool = False,
        include_ignored: bool = False,
    ) -> str:
        """Search a text file, or those in a folder and below it, line by line.

        Each match is told as `path:number: line`, with the path from the folder. Binary files,
        `.git` and symbolic links are passed over.

        Args:
            pattern: The regular expression, as Python has them.
            path: The folder or file to search, relative to the working directory.
            files: Which files to search, such as `*.py`, `*.{ts,tsx}` or `src/**/*.py`.
            ignore_case: Whether upper and lower case are the same.
            include_ignored: Search also what `.gitignore` names, and folders such as
                `node_modules`, which are passed over otherwise.
        """
        return await self._search(search.search, pattern, path, files, ignore_case, include_ignored)

    def _write(self, work: Callable[..., Any], *arguments: Any) -> Any:
        with self._writing:
            return work(self.directory, *arguments)

    async def _search(self, work: Callable[..., str], *arguments: Any) -> str:
        budget = search.SearchBudget()
        return shorten(await _finish(work, self.directory, *arguments, budget, stop=budget.stop))


async def _finish(
    work: Callable[..., Any], *arguments: Any, stop: threading.Event | None = None
) -> Any:
    """Return the result of `work`, which runs in a thread.

    If this is cancelled, it sets `stop` and waits until the work has ended.
    """
    task = asyncio.ensure_future(asyncio.to_thread(functools.partial(work, *arguments)))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if stop:
            stop.set()
        await asyncio.wait([task])
        task.exception()
        raise
