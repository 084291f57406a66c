"""A session of 10,000 messages: read from its end to its beginning, in bounded memory."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.console import Console
from tests.browser.furnish import scene
from tests.harness.daemon import Daemon
from tests.harness.waiting import until

# Messages in the page, however long one scrolls.
MOST = 400
SHOWN = "() => [...document.querySelectorAll('[data-seq]')].map((one) => Number(one.dataset.seq))"


@pytest.fixture(scope="module")
def long(running: Daemon) -> str:
    """The session."""
    return scene(running, "long")["long"]


def shown(page: Page) -> list[int]:
    """Return the seqs that are in the page, which follow each other without a gap."""
    seqs = page.evaluate(SHOWN)
    assert seqs == list(range(seqs[0], seqs[-1] + 1))
    assert len(seqs) <= MOST
    return list(seqs)


def test_it_opens_at_its_end(console: Console, long: str) -> None:
    page = console.open_session(long)
    expect(page.get_by_text("message number 10000")).to_be_in_viewport()
    assert shown(page)[-1] == 10_000


def test_it_is_scrolled_up_without_an_end_and_down_again(console: Console, long: str) -> None:
    page = console.open_session(long)
    expect(page.get_by_text("message number 10000")).to_be_in_viewport()
    page.mouse.move(500, 400)

    def scroll(by: int) -> list[int]:
        page.mouse.wheel(0, by)
        return shown(page)

    until(lambda: scroll(-3000)[0] < 9_400, "older messages")
    assert shown(page)[-1] < 10_000
    until(lambda: scroll(3000)[-1] == 10_000, "the newest messages again")


def test_a_link_leads_to_a_message_in_the_middle(console: Console, long: str) -> None:
    page = console.open_session(long)
    page.goto(f"{page.url}?message=5000#message-5000")
    expect(page.get_by_text("message number 5000")).to_be_in_viewport()
    assert 5_000 in shown(page)


def test_its_beginning_is_a_link_away(console: Console, long: str) -> None:
    page = console.open_session(long)
    page.goto(f"{page.url}?messages_before=21")
    expect(page.get_by_text("message number 1", exact=True)).to_be_visible()


def test_what_comes_is_seen_at_the_end(console: Console, running: Daemon, long: str) -> None:
    page = console.open_session(long)
    expect(page.get_by_text("message number 10000")).to_be_in_viewport()
    running.ask("POST", f"/sessions/{long}/messages", {"content": "the latest of all"})
    expect(page.get_by_text("the latest of all")).to_be_in_viewport()
    shown(page)
