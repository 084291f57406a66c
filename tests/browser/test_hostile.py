"""What people and models wrote is shown, and can do nothing."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.console import SESSIONS, Console, page_of
from tests.harness.daemon import Daemon

DOES = "window.hacked = 1"
HOSTILE = f"""<script>{DOES}</script> {{{{ 7|add:7 }}}} \x1b[31mred \u202egnp.exe
<img src=x onerror="{DOES}"> <svg onload="{DOES}"></svg> <style>body {{ display: none }}</style>
<iframe srcdoc="<script>top.hacked = 1</script>"></iframe> <base href="https://elsewhere.example/">
[a link](javascript:{DOES}) [another](data:text/html,<script>{DOES}</script>)
![a picture](https://elsewhere.example/p.png) </textarea></script>
<form action="//elsewhere.example"> <a href="https://elsewhere.example" onclick="{DOES}">x</a>
<details open ontoggle="{DOES}">
```html
<script>{DOES}</script>
```
"""
# What could do something, were it one of the page's own elements.
LIVE = (
    "main script:not([type='application/json']):not([src])",
    "main :is(iframe, base, style, object, embed)",
    "main [onerror], main [onload], main [onclick], main [ontoggle]",
    "main a[href^='javascript:'], main a[href^='data:'], main img[src*='elsewhere']",
    "main form[action*='elsewhere']",
)


@pytest.fixture(scope="module")
def hostile(running: Daemon) -> str:
    """A session full of it: name, messages, thinking, error; and a failed run."""
    body = {"profile_name": "foundation/test", "name": HOSTILE[:190].replace("\n", " ")}
    body["metadata"] = {"note": HOSTILE, HOSTILE[:60]: 1}
    session_id = str(running.ask("POST", "/sessions/", body)["sessionId"])
    running.ask("POST", f"/sessions/{session_id}/start")
    for role in ("user", "assistant", "system", "tool"):
        message = {"content": HOSTILE, "role": role, "agent": HOSTILE[:100]}
        running.ask("POST", f"/sessions/{session_id}/messages", message)
    running.send(session_id, HOSTILE)
    running.send(session_id, f"BENCH {HOSTILE}")
    return session_id


def paths(session_id: str) -> Iterator[str]:
    for tab in ("conversation", "runs", "journal", "plan"):
        yield f"{page_of(session_id)}?tab={tab}"
    yield page_of(session_id, "history/")
    yield page_of(session_id, "lifecycle/delete/")
    yield SESSIONS
    yield f"{SESSIONS}?q=gnp.exe"
    yield "/admin/sessions_app/run/"
    yield "/admin/"


def unharmed(page: Page) -> None:
    """Expect that the page does and has nothing but what is its own."""
    expect(page.get_by_role("main")).to_be_visible()
    assert page.evaluate("() => window.hacked") is None
    for selector in LIVE:
        assert page.locator(selector).count() == 0, page.locator(selector).first.evaluate(
            "(element) => element.outerHTML.slice(0, 300)"
        )
    text = page.locator("body").inner_text()
    assert "\u202e" not in text
    assert "\x1b" not in text


def test_hostile_content_is_inert_on_every_page(console: Console, hostile: str) -> None:
    for path in paths(hostile):
        unharmed(console.visit(path))


def test_hostile_content_is_shown(console: Console, hostile: str) -> None:
    page = console.open_session(hostile)
    expect(page.get_by_role("article").first).to_contain_text("window.hacked = 1")
    expect(page.get_by_role("article").first).to_contain_text("{{ 7|add:7 }}")
    expect(page.get_by_role("article").first).to_contain_text("⟨U+202E⟩")


def test_hostile_content_is_inert_as_it_comes(console: Console, running: Daemon) -> None:
    session_id = running.session()
    page = console.open_session(session_id)
    page.get_by_label("Message", exact=True).fill(HOSTILE)
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator("[data-seq]")).to_have_count(2)
    running.ask("PATCH", f"/sessions/{session_id}", {"name": HOSTILE[:190].replace("\n", " ")})
    expect(page.get_by_role("heading", level=1)).to_contain_text("<script>")
    running.ask("POST", f"/sessions/{session_id}/fail", {"error_message": HOSTILE})
    expect(page.get_by_role("complementary")).to_contain_text("Why it failed")
    unharmed(page)


def test_a_message_of_a_megabyte_is_shown_cut_and_read_whole(
    console: Console, running: Daemon
) -> None:
    session_id = running.session()
    content = "begin " + json.dumps(HOSTILE) + "x" * 1_000_000 + " end"
    running.ask("POST", f"/sessions/{session_id}/messages", {"content": content})
    page = console.open_session(session_id)
    article = page.get_by_role("article")
    expect(article).to_contain_text("begin")
    expect(article).not_to_contain_text(" end")
    article.get_by_role("link", name="Show all").click()
    expect(article).to_contain_text(" end")
    unharmed(page)
