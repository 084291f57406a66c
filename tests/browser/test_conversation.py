"""A session's page while it is at work: its answer grows, is cancelled, survives the daemon."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.console import Console, add_superuser
from tests.browser.watch import SERVER_GONE
from tests.harness.daemon import Daemon, daemon
from tests.harness.waiting import until


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that tests may break, and whose runs are soon taken from workers that died."""
    with daemon(tmp_path_factory.mktemp("breakable") / "home", AMPLIFIERD_LEASE="3") as own:
        add_superuser(own)
        yield own


def answer(page: Page) -> str:
    """Return what the page shows as the newest answer."""
    return page.get_by_role("article").last.inner_text()


def tokens(text: str) -> list[int]:
    """Return the numbers of the mock's pieces that are in a text, in their order."""
    return [int(number) for number in re.findall(r"\btok(\d+)\b", text)]


def send(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_role("button", name="Send", exact=True).click()


def test_an_answer_grows_token_by_token(console: Console, running: Daemon) -> None:
    session_id = running.session()
    page = console.open_session(session_id)
    send(page, "BENCH tokens=60 delay_ms=60 think=5")
    expect(page.get_by_text("tok0", exact=False).last).to_be_visible()
    sizes = set()

    def is_whole() -> bool:
        sizes.add(len(tokens(answer(page))))
        return 60 in sizes

    until(is_whole, "the whole answer")
    assert len(sizes) > 10
    expect(page.locator("[data-seq]")).to_have_count(2)
    assert tokens(answer(page)) == list(range(60))
    assert running.transcript(session_id)[-1]["content"] == "".join(f" tok{n}" for n in range(60))


def test_what_is_sent_elsewhere_is_seen_as_well(console: Console, running: Daemon) -> None:
    session_id = running.session()
    page = console.open_session(session_id)
    running.send(session_id, "Hello from **elsewhere**")
    expect(page.get_by_role("article")).to_have_count(2)
    expect(page.get_by_role("article").last).to_contain_text("Echo: Hello from elsewhere")
    expect(page.get_by_role("article").last.locator("strong")).to_have_text("elsewhere")


def test_a_run_is_cancelled_and_its_output_stays(console: Console, running: Daemon) -> None:
    session_id = running.session()
    page = console.open_session(session_id)
    send(page, "BENCH tokens=5000 delay_ms=20")
    expect(page.get_by_role("article").last).to_contain_text("tok5")
    page.get_by_role("button", name="Cancel run").click()
    expect(page.get_by_role("article").last.get_by_text("cancelled").first).to_be_visible()
    expect(page.get_by_role("button", name="Cancel run")).to_be_hidden()
    said = tokens(answer(page))
    assert said == list(range(len(said)))
    assert running.ask("GET", f"/sessions/{session_id}/runs")[0]["status"] == "cancelled"


def test_a_failed_run_shows_its_reason(console: Console, running: Daemon) -> None:
    page = console.open_session(running.session())
    send(page, "BENCH tokens=9 fail_after=3")
    expect(
        page.get_by_text(re.compile("BENCH fails after 3 tokens|provider")).first
    ).to_be_visible()
    expect(page.get_by_label("Message", exact=True)).to_be_enabled()


def test_nothing_is_missing_or_double_when_web_is_killed_meanwhile(
    opened: Open, breakable: Daemon
) -> None:
    console = opened(breakable)
    console.watch.allow(*SERVER_GONE)
    console.sign_in()
    page = console.open_session(breakable.session())
    send(page, "BENCH tokens=600 delay_ms=15")
    for seen in (20, 200):
        until(lambda seen=seen: len(tokens(answer(page))) > seen, f"{seen} tokens")
        breakable.kill("run_web")
    expect(page.get_by_role("article").last).to_contain_text("tok599")
    expect(page.locator("[data-seq]")).to_have_count(2)
    assert tokens(answer(page)) == list(range(600))


def test_nothing_is_missing_or_double_when_everything_is_killed_and_started_again(
    opened: Open, breakable: Daemon
) -> None:
    console = opened(breakable)
    console.watch.allow(*SERVER_GONE)
    console.sign_in()
    page = console.open_session(breakable.session())
    send(page, "BENCH tokens=200 delay_ms=20")
    until(lambda: len(tokens(answer(page))) > 20, "the beginning of the answer")
    breakable.kill_everything()
    expect(page.get_by_text("Reconnecting")).to_be_visible()
    breakable.start()
    expect(page.locator("[data-seq]")).to_have_count(2, timeout=60_000)
    expect(page.get_by_role("article").last.locator(".message-text")).to_contain_text("tok199")
    said = page.get_by_role("article").last.locator(".message-text").inner_text()
    assert tokens(said) == list(range(200))
    send(page, "Still there?")
    expect(page.get_by_role("article").last).to_contain_text("Echo: Still there?")
    expect(page.locator("[data-seq]")).to_have_count(4)
