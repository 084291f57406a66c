"""The list of what is to be done: written, kept by the journal, read."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from sessions_app.engine.base import RunHost
from sessions_app.engine.registry import TOOLS
from sessions_app.engine.tools.base import ANSWER_LIMIT, ToolError, Workplace
from sessions_app.engine.tools.todo import Todo
from tests.harness.tools import call, schemas, with_tools


class Remembering(RunHost):
    """A host that recalls one answer, and notes for which tool it was asked."""

    def __init__(self, answer: str | None) -> None:
        self.answer, self.asked = answer, []

    async def find_response(self, tool: str) -> str | None:
        self.asked.append(tool)
        return self.answer


def update(*todos: Todo) -> str:
    return call("tool-todo", Path("/"), "update_todos", list(todos))


def read(host: RunHost) -> str:
    place = Workplace(Path("/"), host=host)
    return with_tools("tool-todo", place, lambda tools: tools["read_todos"]())


def test_the_answer_is_the_list() -> None:
    answer = update(Todo("Look — first"), Todo("Leap", "in_progress"))
    assert json.loads(answer) == [
        {"content": "Look — first", "status": "pending"},
        {"content": "Leap", "status": "in_progress"},
    ]
    assert "—" in answer


def test_several_in_progress_are_no_error() -> None:
    assert len(json.loads(update(*[Todo("x", "in_progress")] * 2))) == 2


def test_an_empty_list_clears_it() -> None:
    assert json.loads(update()) == []


def test_a_hundred_items_fit_and_no_more() -> None:
    assert len(json.loads(update(*[Todo("x")] * 100))) == 100
    with pytest.raises(ToolError, match="at most 100 items, not 101"):
        update(*[Todo("x")] * 101)


@pytest.mark.parametrize("content", ["", "  \n"])
def test_an_item_without_content_is_refused(content: str) -> None:
    with pytest.raises(ToolError, match="needs a `content`"):
        update(Todo("x"), Todo(content))


def test_a_list_that_could_not_be_told_whole_is_refused() -> None:
    with pytest.raises(ToolError, match="make it shorter"):
        update(Todo("x" * ANSWER_LIMIT))


def test_the_list_is_read_from_the_journal() -> None:
    host = Remembering('[{"content": "x", "status": "pending"}]')
    assert read(host) == host.answer
    assert host.asked == ["update_todos"]


def test_where_nothing_was_written_the_list_is_empty() -> None:
    assert read(Remembering(None)) == "[]"


def test_both_may_be_called_again_without_harm() -> None:
    async def run() -> list[bool]:
        async with TOOLS.find("tool-todo").open({}, Workplace(Path("/"))) as toolbox:
            return [tool.idempotent for tool in toolbox.tools]

    assert asyncio.run(run()) == [True, True]


def test_a_model_is_told_what_an_item_is() -> None:
    async def run() -> dict[str, Any]:
        async with TOOLS.find("tool-todo").open({}, Workplace(Path("/"))) as toolbox:
            return schemas(toolbox)

    told = asyncio.run(run())
    parameters = told["update_todos"]["parameters"]
    item = parameters["$defs"]["Todo"]["properties"]
    assert item["status"]["enum"] == ["pending", "in_progress", "completed"]
    assert "at most 100" in parameters["properties"]["todos"]["description"]
    assert told["read_todos"]["parameters"]["properties"] == {}
