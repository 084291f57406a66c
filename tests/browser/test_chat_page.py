"""The page of docs/chat-page.md, as written there, on an origin of its own."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.console import PATIENCE, manage
from tests.harness.daemon import Daemon, daemon, free_port
from tests.harness.snippets import find_blocks

DAEMON, ORIGIN = "http://127.0.0.1:8420", "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def origin(folder: Path) -> Iterator[str]:
    """Where the page is served, as it says."""
    port = str(free_port())
    blocks = find_blocks("docs/chat-page.md", "sh", {"8000": port})
    [command] = [each for each in blocks if "http.server" in each]
    folder.joinpath("page").mkdir()
    with subprocess.Popen(
        shlex.split(command), cwd=folder / "page", stderr=subprocess.DEVNULL
    ) as server:
        yield ORIGIN.replace("8000", port)
        server.kill()


@pytest.fixture(scope="module")
def allowing(folder: Path, origin: str) -> Iterator[Daemon]:
    """A daemon that is started as the page says."""
    [start] = [each for each in find_blocks("docs/chat-page.md", "sh") if "make run" in each]
    name, _, value = start.split()[0].partition("=")
    assert value == ORIGIN
    with daemon(folder / "home", AMPLIFIERD_WEB="1", **{name: origin}) as own:
        yield own


@pytest.fixture
def page(browser: Browser, folder: Path, origin: str, allowing: Daemon) -> Iterator[Page]:
    """The page, which its reader has just opened."""
    changes = {DAEMON: allowing.url, "foundation/base": "foundation/test"}
    [html] = find_blocks("docs/chat-page.md", "html", changes)
    (folder / "page" / "chat.html").write_text(html)
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    opened.goto(f"{origin}/chat.html")
    yield opened
    context.close()


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def lines(page: Page) -> list[str]:
    return page.locator("main p").all_inner_texts()


def test_the_page_has_50_lines_of_javascript() -> None:
    [html] = find_blocks("docs/chat-page.md", "html")
    script = re.findall(r"<script[^>]*>\n(.*?)</script>", html, re.DOTALL)[0]
    assert len([line for line in script.splitlines() if line]) <= 50


def test_the_page_talks_and_shows_everything_once_whatever_happens(
    page: Page, allowing: Daemon
) -> None:
    """It is reloaded, its web process dies, and the database is set back."""
    answers = page.locator("main .assistant")
    say(page, "hello there")
    expect(answers).to_have_text([re.compile("hello there")])
    expect(page.get_by_label("Message")).to_have_value("")
    page.reload()
    expect(answers).to_have_text([re.compile("hello there")])

    allowing.kill("run_web")
    session = page.url.partition("#")[2]
    allowing.send(session, "while it was away")
    expect(answers).to_have_text([re.compile("hello there"), re.compile("while it was away")])
    expect(page.locator("main .user")).to_have_text(["hello there", "while it was away"])

    with page.expect_navigation():
        manage(allowing, "new_epoch")
    say(page, "after the reset")
    expect(answers).to_have_count(3)
    expect(page.locator("main .user").last).to_have_text("after the reset")
    assert len(lines(page)) == 6

    allowing.ask("POST", f"/sessions/{session}/complete")
    expect(page.locator("main .error")).to_have_text(["The session has ended."])


def test_with_a_key_the_stream_is_read_by_fetch(page: Page, allowing: Daemon) -> None:
    [snippet] = find_blocks("docs/chat-page.md", "js")
    say(page, "hello there")
    expect(page.locator("main .assistant")).to_have_text([re.compile("hello there")])
    session = page.url.partition("#")[2]
    epoch = allowing.api.get(f"/sessions/{session}").headers["Journal-Epoch"]
    # So that the stream ends.
    allowing.ask("POST", f"/sessions/{session}/complete")
    created = manage(allowing, "apikeys", "create", "page", "--scope", "admin")
    [key] = re.findall(r"amp_\S+", created)
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    given = {"API": f"{allowing.url}/api/v1", "id": session, "cursor": 0, "epoch": epoch}
    names = "{ API, id, cursor, epoch, apiKey }"
    page.evaluate(f"async ({names}) => {{ {snippet} }}", {**given, "apiKey": key})
    text = "".join(told)
    assert "hello there" in text
    assert "event: session_ended" in text
