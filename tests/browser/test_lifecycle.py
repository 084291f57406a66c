"""A session's life by its buttons, and what they refuse."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.console import Console
from tests.harness.daemon import Daemon

REASON = "The disk is full."
REFUSED = "A session that is {} cannot become {}"


def session_in(running: Daemon, status: str) -> str:
    """Return a session in a status."""
    made = running.ask("POST", "/sessions/", {"profile_name": "foundation/test"})
    session_id = str(made["sessionId"])
    if status != "created":
        act(running, session_id, "start")
    return session_id


def act(running: Daemon, session_id: str, action: str) -> None:
    body = {"error_message": REASON} if action == "fail" else None
    running.ask("POST", f"/sessions/{session_id}/{action}", body)


def press(page: Page, action: str) -> None:
    """Press the button of an action, and say why where it asks."""
    if action == "fail":
        page.get_by_text("Fail…").click()
        page.get_by_label("Why has it failed?").fill(REASON)
        page.get_by_role("button", name="Fail the session").click()
    else:
        page.get_by_role("button", name=action.capitalize(), exact=True).click()


def badge(page: Page, status: str) -> None:
    """Expect that the page's head shows a status."""
    expect(page.get_by_role("main").locator(".badge").first).to_have_text(status)


LIFE = [
    ("start", "created", "active"),
    ("complete", "active", "completed"),
    ("fail", "active", "failed"),
    ("terminate", "active", "terminated"),
]


TARGETS = {action: after for action, _, after in LIFE}


@pytest.mark.parametrize("scripts", [True, False], ids=["scripted", "plain"])
@pytest.mark.parametrize(("action", "before", "after"), LIFE)
def test_a_button_leads_on(
    open_console: Open, running: Daemon, action: str, before: str, after: str, scripts: bool
) -> None:
    console = open_console(java_script_enabled=scripts)
    session_id = session_in(running, before)
    page = console.open_session(session_id)
    press(page, action)
    badge(page, after)
    shown = running.ask("GET", f"/sessions/{session_id}")
    assert shown["status"] == after
    assert shown["errorMessage"] == (REASON if action == "fail" else None)


@pytest.mark.parametrize(
    ("action", "before", "meanwhile", "status"),
    [
        ("start", "created", "start", "active"),
        ("complete", "active", "terminate", "terminated"),
        ("fail", "active", "complete", "completed"),
        ("terminate", "active", "fail", "failed"),
    ],
)
@pytest.mark.parametrize("scripts", [True, False], ids=["scripted", "plain"])
def test_a_button_that_comes_too_late_is_refused_with_the_reason(
    open_console: Open,
    running: Daemon,
    action: str,
    before: str,
    meanwhile: str,
    status: str,
    scripts: bool,
) -> None:
    console = deaf(open_console, scripts)
    session_id = session_in(running, before)
    page = console.open_session(session_id)
    act(running, session_id, meanwhile)
    press(page, action)
    expect(page.get_by_text(REFUSED.format(status, TARGETS[action]))).to_be_visible()
    assert running.ask("GET", f"/sessions/{session_id}")["status"] == status


def deaf(open_console: Open, scripts: bool) -> Console:
    """Return a console whose pages hear of no changes."""
    console = open_console(java_script_enabled=scripts)
    for ways_to_hear in ("**/stream?*", "**/head/*"):
        console.context.route(ways_to_hear, lambda route: route.abort())
    # What is refused has a status of its own, and browsers tell of those as of errors.
    console.watch.allow("net::ERR_FAILED", "status of 409")
    return console


@pytest.mark.parametrize("scripts", [True, False], ids=["scripted", "plain"])
def test_a_message_to_a_session_that_has_ended_is_refused_and_kept(
    open_console: Open, running: Daemon, scripts: bool
) -> None:
    console = deaf(open_console, scripts)
    session_id = session_in(running, "active")
    page = console.open_session(session_id)
    act(running, session_id, "complete")
    page.get_by_label("Message", exact=True).fill("Are you there?")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("is completed").first).to_be_visible()
    assert running.transcript(session_id) == []


def test_a_session_is_deleted_once_that_is_confirmed(console: Console, running: Daemon) -> None:
    session_id = session_in(running, "active")
    page = console.open_session(session_id)
    page.get_by_role("link", name="Delete…").click()
    expect(page.get_by_text("This cannot be undone.")).to_be_visible()
    page.get_by_role("link", name="Cancel").click()
    badge(page, "active")
    page.get_by_role("link", name="Delete…").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_text("was deleted.")).to_be_visible()
    assert running.api.get(f"/sessions/{session_id}").status_code == 404


def test_a_clone_has_the_whole_conversation(console: Console, running: Daemon) -> None:
    session_id = talked(running)
    page = console.open_session(session_id)
    page.get_by_role("button", name="Clone").click()
    badge(page, "created")
    expect(page.get_by_role("article")).to_have_count(4)


def test_a_fork_begins_at_a_message(console: Console, running: Daemon) -> None:
    session_id = talked(running)
    page = console.open_session(session_id)
    second = page.get_by_role("article").nth(1)
    second.hover()
    second.get_by_role("button", name="Fork from here").click()
    badge(page, "created")
    expect(page.get_by_role("article")).to_have_count(2)


def talked(running: Daemon) -> str:
    """Return a session of four messages."""
    session_id = session_in(running, "active")
    for role in ("user", "assistant", "user", "assistant"):
        body = {"content": f"said by {role}", "role": role}
        running.ask("POST", f"/sessions/{session_id}/messages", body)
    return session_id


def test_what_operators_did_is_in_the_history(console: Console, running: Daemon) -> None:
    session_id = session_in(running, "active")
    page = console.open_session(session_id)
    press(page, "complete")
    badge(page, "completed")
    page.get_by_role("link", name="Changes by operators").click()
    expect(page.get_by_text("Completed.")).to_be_visible()
