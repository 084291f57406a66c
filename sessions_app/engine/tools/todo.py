"""tool-todo: a list of tasks, kept in the journal."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sessions_app.engine.capabilities import ToolCapabilities
from sessions_app.engine.tools.base import ANSWER_LIMIT, Toolbox, ToolError, ToolModule, Workplace
from sessions_app.engine.tools.functions import make_tool

ITEMS = 100


@dataclass(frozen=True)
class Todo:
    """An item of the list."""

    content: str
    status: Literal["pending", "in_progress", "completed"] = "pending"


class TodoModule(ToolModule):
    """The module of `update_todos` and `read_todos`."""

    module = "tool-todo"
    capabilities = ToolCapabilities(executes_code=False, touches_files=False, reaches_network=False)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, config: dict[str, Any], workplace: Workplace) -> AsyncIterator[Toolbox]:
        """Open the tools; there is nothing to close."""
        todos = Todos(workplace)
        functions = (todos.update_todos, todos.read_todos)
        yield Toolbox([make_tool(function, idempotent=True) for function in functions])


class Todos:
    """The tools. The list is the newest result of `update_todos`; it is stored nowhere else."""

    def __init__(self, workplace: Workplace) -> None:
        self.host = workplace.host

    async def update_todos(self, todos: list[Todo]) -> str:
        """Replace the list of what is to be done, and return it.

        Keep such a list for work of several steps: write it down first, keep one item in progress
        at a time, and mark each as completed as soon as it is.

        Args:
            todos: All items, in their order, also those that stay as they are; at most 100. An
                empty list clears it.
        """
        if len(todos) > ITEMS:
            raise ToolError(f"A list has at most {ITEMS} items, not {len(todos)}.")
        if not all(todo.content.strip() for todo in todos):
            raise ToolError("Each item needs a `content` that says what is to be done.")
        text = json.dumps([asdict(todo) for todo in todos], indent=2, ensure_ascii=False)
        if len(text) > ANSWER_LIMIT:
            raise ToolError(f"The list has more than {ANSWER_LIMIT} characters: make it shorter.")
        return text

    async def read_todos(self) -> str:
        """Return the list of what is to be done, as it was last written."""
        return await self.host.find_response("update_todos") or "[]"
