"""Tools that ask: cards that come, are answered, and are answered by somebody else."""

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Open
from tests.browser.console import Console
from tests.browser.furnish import scene
from tests.harness.daemon import Daemon

INBOX = "/admin/sessions_app/approval/"


def ask(running: Daemon, session_id: str) -> None:
    """Have two tools of a session ask: `write_file`, then `run_command`."""
    scene(running, "ask", session_id)


def card(page: Page | Locator, tool: str = "write_file") -> Locator:
    return page.get_by_role("region", name=f"Approval of {tool}")


def asked(running: Daemon, session_id: str, tool: str = "write_file") -> str:
    """Return the id of the approval that a tool waits for."""
    found = running.ask("GET", f"/sessions/{session_id}/approvals?status=pending")
    return next(str(one["approvalId"]) for one in found if one["toolName"] == tool)


def answer(running: Daemon, session_id: str, response: str, **more: str) -> None:
    """Answer from elsewhere."""
    body = {"approval_id": asked(running, session_id), "response": response, **more}
    running.ask("POST", f"/sessions/{session_id}/approval-response", body)


def test_a_card_comes_is_answered_and_the_run_goes_on(console: Console, running: Daemon) -> None:
    session_id = running.session()
    page = console.open_session(session_id)
    ask(running, session_id)
    expect(card(page)).to_contain_text("site/decisions.md")
    expect(card(page)).not_to_contain_text("not to be seen")
    expect(page.get_by_text("waits for an answer")).to_be_visible()
    expect(page.get_by_role("article").last).to_contain_text("parked")
    card(page).get_by_role("button", name="Approve").click()
    expect(card(page)).to_contain_text("Approved by admin")
    card(page, "run_command").get_by_label("Reason").fill("Keep the drafts.")
    card(page, "run_command").get_by_role("button", name="Deny").click()
    expect(card(page, "run_command")).to_contain_text("Keep the drafts.")
    # The worker takes the run, and the answer takes the place of what was live.
    expect(page.locator("[data-seq]")).to_have_count(2)
    expect(page.locator(".is-live")).to_have_count(0)
    expect(card(page)).to_contain_text("Approved by admin")


def test_an_answer_from_elsewhere_takes_the_buttons_away(console: Console, running: Daemon) -> None:
    session_id = running.session()
    page = console.open_session(session_id)
    ask(running, session_id)
    card(page, "run_command").get_by_label("Reason").fill("half a thought")
    answer(running, session_id, "deny", reason="Not there.")
    expect(card(page)).to_contain_text("Not there.")
    expect(card(page).get_by_role("button")).to_have_count(0)
    expect(card(page, "run_command").get_by_label("Reason")).to_have_value("half a thought")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripted", "plain"])
def test_a_late_answer_gets_the_earlier_one(
    open_console: Open, running: Daemon, scripts: bool
) -> None:
    session_id = running.session()
    ask(running, session_id)
    console = open_console(java_script_enabled=scripts)
    # Nobody tells the page.
    console.context.route("**/stream*", lambda route: route.abort())
    console.watch.allow("net::ERR_FAILED", "status of 409")
    page = console.open_session(session_id)
    answer(running, session_id, "approve")
    card(page).get_by_role("button", name="Deny").click()
    expect(page.get_by_text("This approval is approved already")).to_be_visible()


def test_the_inbox_is_live_and_answers(console: Console, running: Daemon) -> None:
    session_id = running.session()
    page = console.visit(INBOX)
    ask(running, session_id)
    waiting = page.locator("[data-rows=pending]")
    row = waiting.locator(f"[data-row={asked(running, session_id)}]")
    expect(row).to_contain_text("write_file")
    row.get_by_label("Reason").fill("Not there.")
    row.get_by_role("button", name="Deny").click()
    expect(page.get_by_text("was denied")).to_be_visible()
    expect(row).to_have_count(0)
    expect(page.locator("[data-rows=answered]")).to_contain_text("Not there.")
    expect(page).to_have_url(f"{running.url}{INBOX}")
