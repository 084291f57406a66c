"""The example of docs/extending.md: installed as a package, and run."""

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from amplifierd.common.program import BASE_DIR

EXAMPLE = BASE_DIR / "extras/example"
PAGE = BASE_DIR / "docs/extending.md"

RUN = """
import asyncio, json, pathlib, sys
import django
django.setup()
from profiles_app import modules
from sessions_app.engine.base import Turn
from sessions_app.engine.engines import get_engine

async def run(prompt, **plan):
    events = []
    emit = lambda kind, data: events.append((kind, data))
    turn = Turn(plan, prompt, directory=pathlib.Path(sys.argv[1]))
    outcome = await get_engine().run(turn, emit, asyncio.Event())
    return [outcome.content, outcome.model, events]

rolled = asyncio.run(run(
    "Roll.",
    providers=[{"module": "provider-rhyme", "config": {"word": "sun"}}],
    tools=[{"module": "tool-dice", "config": {"sides": 1}}],
))
repeated = asyncio.run(run("Pretty Polly", session={"engine": "parrot"}))
known = {kind: modules.locate(kind, name) for kind, name in
         (("provider", "provider-rhyme"), ("tool", "tool-dice"), ("engine", "parrot"))}
print(json.dumps([rolled, repeated, known]))
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    pip = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder)]
    subprocess.run([*pip, str(EXAMPLE)], check=True)
    run = subprocess.run(
        [sys.executable, "-c", RUN, str(folder)],
        cwd=BASE_DIR,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        check=True,
    )
    return json.loads(run.stdout)


def test_the_provider_calls_the_tool_and_answers(result: Any) -> None:
    content, model, events = result[0]
    assert (content, model) == ("You rolled 1 and 1, under the sun.", "rhyme-1")
    (post,) = [data["hook_data"] for kind, data in events if kind == "hook:tool:post"]
    assert (post["tool_name"], post["tool_input"]) == ("roll_dice", {"count": 2})
    assert post["tool_response"] == "1 and 1"
    pieces = [data["content"] for kind, data in events if kind == "content"]
    assert len(pieces) == 8 and "".join(pieces) == content


def test_the_engine_answers_by_itself(result: Any) -> None:
    assert result[1] == [
        "Pretty Polly",
        "parrot-1",
        [["content", {"content": "Pretty"}], ["content", {"content": " Polly"}]],
    ]


def test_profiles_know_where_the_modules_come_from(result: Any) -> None:
    assert set(result[2].values()) == {"package:amplifierd-example 1.0"}


def test_the_page_shows_the_files_of_the_example() -> None:
    shown = dict(re.findall(r"`([\w./]+)`:\n\n```\w+\n(.*?)```\n", PAGE.read_text(), re.DOTALL))
    files = [path for path in EXAMPLE.rglob("*") if path.suffix in (".py", ".toml")]
    there = {str(path.relative_to(EXAMPLE)): path.read_text() for path in files}
    there.pop("amplifierd_example/__init__.py")
    assert shown == there
