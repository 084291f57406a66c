"""The profile editor: mistakes at their line, stale pages, versions, profiles that are tried."""

import re
from collections.abc import Iterator
from itertools import count

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.axe import violations
from tests.browser.conftest import Open
from tests.browser.console import Console
from tests.harness.daemon import Daemon

LIST = "/admin/profiles_app/profile/"
MOCK = {"module": "provider-mock", "config": {"temperature": 0.2}}
numbers = count(1)


@pytest.fixture
def name(running: Daemon) -> Iterator[str]:
    """A local profile of this test's own."""
    name = f"edited-{next(numbers)}"
    body = {"name": name, "description": "D.", "instruction": "Help.", "providers": [MOCK]}
    running.ask("POST", "/profiles/", body)
    yield name


def opened(console: Console, name: str) -> Page:
    """Open a profile's page from the list."""
    page = console.visit(f"{LIST}?q={name}")
    page.get_by_role("link", name=f"local/{name}", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(name))
    return page


def field(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Front matter and instruction")


def change(page: Page, before: str, after: str) -> None:
    """Have another text in the editor, as if it had been typed."""
    field(page).fill(field(page).input_value().replace(before, after))


def line(page: Page, number: int) -> Locator:
    return page.locator(".editor .line").nth(number - 1)


def saved(running: Daemon, name: str) -> dict[str, object]:
    return dict(running.ask("GET", f"/profiles/local/{name}"))


def test_a_mistake_is_shown_at_its_line_while_it_is_typed(console: Console, name: str) -> None:
    page = opened(console, name)
    expect(page.get_by_text("No mistakes found.")).to_be_visible()
    change(page, "temperature", "${KEY")
    change(page, "config:", "confg:")
    number = field(page).input_value().split("\n").index("  confg:") + 1
    expect(line(page, number)).to_have_class(re.compile("is-wrong"))
    expect(page.get_by_text("unknown key 'confg'")).to_be_visible()
    page.get_by_role("button", name=f"Line {number}").click()
    selected = field(page).evaluate("e => e.value.slice(e.selectionStart, e.selectionEnd)")
    assert selected == "  confg:"
    change(page, "confg:", "config:")
    change(page, "${KEY", "temperature")
    expect(page.get_by_text("No mistakes found.")).to_be_visible()
    expect(page.locator(".line.is-wrong")).to_have_count(0)


def test_keys_save_what_was_typed(console: Console, running: Daemon, name: str) -> None:
    page = opened(console, name)
    field(page).press("Control+End")
    page.keyboard.type("Be brief.")
    expect(page.locator(".editor .line").last).to_have_text("Be brief.")
    page.keyboard.press("Control+s")
    expect(page.get_by_text("Saved as version 2.")).to_be_visible()
    assert saved(running, name)["instruction"] == "Help.\nBe brief."


def test_the_lines_lie_exactly_behind_the_text(console: Console, name: str) -> None:
    page = opened(console, name)
    field(page).press("Control+End")
    page.keyboard.insert_text("words that go on and on, " * 60 + "\n\n" + "x" * 500)
    heights = page.evaluate(
        """() => {
            const box = document.querySelector(".editor-box");
            const [text, lines] = [box.querySelector("textarea"), box.querySelector(".lines")];
            return [text.scrollHeight, text.clientHeight, Math.round(lines.scrollHeight)];
        }"""
    )
    assert len(set(heights)) == 1


def test_the_caret_stays_in_view(console: Console, name: str) -> None:
    page = opened(console, name)
    change(page, "Help.", "Help.\n" * 300)
    field(page).press("Control+End")
    page.keyboard.type("end")
    last = page.locator(".editor .line").last
    expect(last).to_have_text("end")
    expect(last).to_be_in_viewport()


def test_a_stale_page_shows_the_difference_and_keeps_the_text(
    console: Console, running: Daemon, name: str
) -> None:
    page = opened(console, name)
    running.ask("PATCH", f"/profiles/local/{name}", {"instruction": "Help kindly."})
    change(page, "Help.", "Help quickly.")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("the profile was changed meanwhile")
    expect(page.locator("del")).to_have_text("kindly")
    expect(page.locator("ins")).to_have_text("quickly")
    expect(field(page)).to_have_value(re.compile("Help quickly"))
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved as version 3.")).to_be_visible()


def test_versions_are_compared_and_restored(console: Console, running: Daemon, name: str) -> None:
    running.ask("PATCH", f"/profiles/local/{name}", {"instruction": "Do not."})
    page = opened(console, name)
    page.get_by_role("button", name="Compare side by side").click()
    expect(page.locator(".parts ins")).to_have_text("Do not.")
    page.get_by_role("button", name="Restore version 1").click()
    expect(page.get_by_text("Version 1 restored as version 3.")).to_be_visible()
    assert saved(running, name)["instruction"] == "Help."


def test_a_profile_is_tried_and_the_answer_grows(
    console: Console, running: Daemon, name: str
) -> None:
    page = opened(console, name)
    box = page.get_by_role("textbox", name="Message")
    box.fill("What is new?")
    box.press("Enter")
    expect(page.locator(".try-question")).to_have_text("What is new?")
    expect(page.locator(".try-answer")).to_contain_text("What is new?")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    page.get_by_role("link", name="Open the session").click()
    expect(page).to_have_url(re.compile("/sessions_app/session/session_5F"))
    session_id = page.url.split("/")[-3].replace("_5F", "_")
    assert running.ask("GET", f"/sessions/{session_id}")["metadata"] == {"scratch": True}


def test_a_missing_key_is_told_where_it_is_tried(
    console: Console, running: Daemon, name: str
) -> None:
    config = {"api_key": "${NO_SUCH_KEY}"}
    providers = [{"module": "provider-openai", "config": config}]
    running.ask("PATCH", f"/profiles/local/{name}", {"providers": providers})
    page = opened(console, name)
    page.get_by_role("textbox", name="Message").fill("Hello")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".try-error")).to_contain_text("NO_SUCH_KEY")
    page.get_by_role("button", name="Discard").click()
    expect(page.locator(".try-question")).to_have_count(0)


def test_without_scripts_everything_is_there(open_console: Open, name: str) -> None:
    page = opened(open_console(java_script_enabled=False), name)
    change(page, "provider-mock", "provider mock")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".mistakes")).to_contain_text("must be the id of a module")
    change(page, "provider mock", "provider-mock")
    change(page, "Help.", "Help now.")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved as version 2.")).to_be_visible()


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 640, 390])
def test_everybody_can_use_the_pages(
    open_console: Open, running: Daemon, name: str, look: str, width: int
) -> None:
    running.ask("PATCH", f"/profiles/local/{name}", {"instruction": "Do " + "not" * 300})
    size = {"width": width, "height": 800}
    page = opened(open_console(color_scheme=look, viewport=size), name)
    here = page.url.removesuffix("change/").removeprefix(running.url)
    for path in ("change/", "versions/", "versions/1/", "versions/compare/", "delete/"):
        page.goto(f"{running.url}{here}{path}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
