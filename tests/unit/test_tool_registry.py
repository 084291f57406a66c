"""Which tool modules there are, what they say of themselves, and what it costs to ask."""

import subprocess
import sys
from pathlib import Path

import pytest

from sessions_app.engine.base import EngineError
from sessions_app.engine.registry import TOOLS
from sessions_app.engine.tools.base import Workplace, parse_approval


def test_every_module_says_what_it_can_do() -> None:
    able = {name: module.capabilities for name, module in TOOLS.list_modules().items()}
    assert list(able) == list(TOOLS.classes)
    assert [name for name, each in able.items() if each.executes_code] == ["tool-bash", "tool-mcp"]
    assert [name for name, each in able.items() if each.touches_files] == [
        *("tool-bash", "tool-filesystem", "tool-mcp")
    ]
    assert [name for name, each in able.items() if each.reaches_network] == [
        *("tool-bash", "tool-mcp", "tool-web")
    ]
    assert [name for name, each in able.items() if each.has_address] == ["tool-mcp", "tool-web"]


def test_a_module_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(EngineError) as caught:
        TOOLS.find("tool-nothing").open({}, Workplace(Path("/")))
    assert caught.value.code == "unknown_module"
    known = str(caught.value).partition("Known are: ")[2].strip(".").split(", ")
    assert {"tool-bash", "tool-filesystem"} <= set(known)


HEAVY = ("mcp", "httpx2", "pydantic", "regex", "wcmatch", "pathspec", "bs4", "markdownify")


def test_to_know_the_modules_loads_no_heavy_library() -> None:
    code = (
        "import django, sys; django.setup()\n"
        "from sessions_app.engine.registry import TOOLS\n"
        f"TOOLS.list_modules(); print([name for name in {HEAVY} if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert told.stdout == b"[]\n"


@pytest.mark.parametrize(
    ("asked", "parsed"),
    [
        (None, False),
        (True, True),
        (False, False),
        ("a", {"a"}),
        (["a", "b"], {"a", "b"}),
        ([], set()),
    ],
)
def test_who_asks_a_person_is_read_of_the_config(asked: object, parsed: object) -> None:
    assert parse_approval({"require_approval": asked}) == parsed


@pytest.mark.parametrize("asked", [1, {"a": True}, ["a", 1]])
def test_what_is_no_approval_is_an_error_of_the_tool(asked: object) -> None:
    with pytest.raises(EngineError) as caught:
        parse_approval({"require_approval": asked})
    assert caught.value.code == "bad_tool"
