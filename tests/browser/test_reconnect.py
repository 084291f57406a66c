"""A page's stream meets answers at which a browser gives up for good, and goes on all the same."""

import subprocess
import sys

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import Open
from tests.harness.daemon import ROOT, Daemon

ANSWERS = (502, 429, 503)


@pytest.mark.parametrize("status", ANSWERS)
def test_a_stream_is_opened_again_after_a_refusal(
    open_console: Open, running: Daemon, status: int
) -> None:
    console = open_console()
    console.watch.allow(f"status of {status}")
    session = running.session()
    asked: list[str] = []

    def refuse_twice(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) <= 2:
            route.fulfill(status=status, headers={"Retry-After": "1"}, body="not now")
        else:
            route.continue_()

    console.context.route("**/stream?*", refuse_twice)
    page = console.open_session(session)
    expect(page.get_by_role("main")).to_be_visible()
    running.send(session, "still there?")
    expect(page.get_by_role("main").get_by_text("still there?").first).to_be_visible()
    assert len(asked) >= 3
    # Each attempt begins where the page is, so that nothing is missed meanwhile.
    assert all("after=" in url for url in asked)


def test_a_page_is_loaded_again_when_the_database_was_set_back(
    open_console: Open, running: Daemon
) -> None:
    """A message that somebody has begun to write is kept."""
    console = open_console()
    session = running.session()
    page = console.open_session(session)
    page.get_by_label("Message").fill("not sent yet")
    command = [sys.executable, "manage.py", "new_epoch"]
    subprocess.run(command, cwd=ROOT, env=running.environment, check=True)
    expect(page.get_by_text("The database was set back to an earlier state")).to_be_visible()
    expect(page.get_by_label("Message")).to_have_value("not sent yet")
    running.send(session, "after the reset")
    expect(page.get_by_role("main").get_by_text("after the reset").first).to_be_visible()
