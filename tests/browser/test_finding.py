"""From words to the message that has them; by the keyboard alone."""

from playwright.sync_api import Page, expect

from tests.browser.console import SESSIONS, Console
from tests.harness.daemon import Daemon

# What the focused element looks like, to the last pixel that tells of the focus.
FOCUS = """() => {
    const style = getComputedStyle(document.activeElement);
    const outline = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
    return outline || style.boxShadow !== "none";
}"""


def test_a_search_leads_to_the_message(console: Console, scene: dict[str, str]) -> None:
    page = console.visit(SESSIONS)
    page.get_by_role("searchbox").fill("quadratic import")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("main").get_by_role("link", name="quadratic").first.click()
    message = page.locator("#message-2")
    expect(message).to_be_in_viewport()
    expect(message).to_contain_text("The import is quadratic")


def test_a_search_without_hits_shows_that(console: Console, scene: dict[str, str]) -> None:
    page = console.visit(f"{SESSIONS}?q=xylophone")
    expect(page.get_by_text("No session matches.")).to_be_visible()


def tab_to(page: Page, name: str, most: int = 60) -> None:
    """Press Tab until what has this name has the focus, which is to be seen everywhere."""
    for _ in range(most):
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUS), page.evaluate("() => document.activeElement.outerHTML")
        if page.locator(":focus").inner_text().strip() == name:
            return
    raise AssertionError(f"{most} times Tab did not lead to {name!r}")


def test_a_conversation_works_by_keyboard_alone(console: Console, running: Daemon) -> None:
    session_id = running.session()
    running.ask("PATCH", f"/sessions/{session_id}", {"name": "By keys"})
    page = console.visit("/admin/")
    tab_to(page, "Sessions")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="Sessions")).to_be_visible()
    tab_to(page, "By keys")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="By keys")).to_be_visible()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.name") == "content":
            break
    page.keyboard.type("Without a mouse")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("article").last).to_contain_text("Echo: Without a mouse")
