"""Approvals in the console: answered on the session's page and in the inbox."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from amplifierd.common.redaction import MASK
from sessions_app.models import Approval, Run, Session, SubSessionCall
from sessions_app.services import attempts, pending_actions, runs, sub_sessions
from sessions_app.services.sub_sessions import SubSessionRequest
from tests.conftest import MOCK, say
from tests.harness.parked import asked, parked, wait

Make = Callable[..., Session]
INBOX = "/admin/sessions_app/approval/"


@pytest.fixture
def admin(admin_client: Client, catalogue: None) -> Client:
    """A superuser in the console."""
    return admin_client


def url_of(session: Session, tail: str = "change/") -> str:
    return f"/admin/sessions_app/session/{session.id.replace('_', '_5F')}/{tail}"


def text(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


def answer(client: Client, approval: Approval, response: str, **more: str) -> Any:
    """Answer as the page's scripts do."""
    fields = {"approval": approval.id, "response": response, **more}
    accept = {"Accept": "application/json"}
    return client.post(url_of(approval.session, "action/answer/"), fields, headers=accept)


def test_a_tool_that_asks_is_a_card_in_the_conversation(admin: Client, session: Session) -> None:
    approval = asked(session)
    page = text(admin, url_of(session))
    [card] = re.findall(rf'<section class="approval" id="{approval.id}".*?</section>', page, re.S)
    assert "write_file" in card
    assert "notes.md" in card
    assert re.findall(r'name="response" value="(\w+)"', card) == ["approve", "always", "deny"]
    assert "waits for an answer" in page
    assert "badge-parked" in page


@pytest.mark.parametrize(
    ("word", "status"), [("approve", "approved"), ("always", "approved"), ("deny", "denied")]
)
def test_it_is_answered_by_a_button_and_recorded_in_the_history(
    admin: Client, session: Session, word: str, status: str
) -> None:
    approval = asked(session)
    told = answer(admin, approval, word, reason="as you like")
    assert told.status_code == 200
    assert f"was {status}" in told.json()["message"]
    approval.refresh_from_db()
    assert (approval.status, approval.reason) == (status, "as you like")
    assert (approval.always, approval.answered_by) == (word == "always", "admin")
    assert approval.id in LogEntry.objects.get(object_id=session.id).change_message


def test_a_late_answer_gets_the_earlier_one(admin: Client, session: Session) -> None:
    approval = asked(session)
    pending_actions.answer(session.id, approval.id, "deny", by="notebook")
    refused = answer(admin, approval, "approve")
    assert (refused.status_code, refused.json()["code"]) == (409, "already_answered")
    assert "denied already by notebook" in refused.json()["detail"]
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("change", [{"response": "perhaps"}, {"approval": ""}])
def test_what_is_no_answer_changes_nothing(
    admin: Client, session: Session, change: dict[str, str]
) -> None:
    approval = asked(session)
    fields = {"approval": approval.id, "response": "approve", **change}
    accept = {"Accept": "application/json"}
    refused = admin.post(url_of(session, "action/answer/"), fields, headers=accept)
    assert refused.status_code == 400
    approval.refresh_from_db()
    assert approval.status == "pending"


def test_without_scripts_the_page_is_shown_again(
    admin: Client, session: Session, make: Make
) -> None:
    approval = asked(session)
    fields = {"approval": approval.id, "response": "approve"}
    shown = admin.post(url_of(session, "action/answer/"), fields, follow=True)
    assert shown.redirect_chain == [(url_of(session), 302)]
    assert "was approved" in shown.content.decode()
    other = asked(make("active"))
    fields = {"approval": other.id, "response": "approve", "inbox": "on"}
    again = admin.post(url_of(other.session, "action/answer/"), fields)
    assert again["Location"] == INBOX


def test_an_answered_card_shows_the_person_and_the_reason(admin: Client, session: Session) -> None:
    approval = asked(session)
    pending_actions.answer(session.id, approval.id, "deny", reason="<b>not there</b>", by="ada")
    page = text(admin, url_of(session))
    assert 'data-status="denied"' in page
    assert "by <bdi>ada</bdi>" in page
    assert "&lt;b&gt;not there&lt;/b&gt;" in page
    assert 'name="response"' not in page


def test_an_answer_stays_beside_the_messages_after_it(admin: Client, session: Session) -> None:
    approval = asked(session)
    pending_actions.answer(session.id, approval.id, "approve")
    attempt = attempts.claim(session.id, "worker-2")
    assert attempt is not None
    say(attempt, "Written.")
    attempts.succeed(attempt, "Written.", {})
    page = text(admin, url_of(session))
    assert f'id="{approval.id}"' in page
    assert "is void" not in page


def test_what_a_tool_is_given_is_inert_and_without_secrets(admin: Client, session: Session) -> None:
    given = {"html": "<script>alert(1)</script>", "api_key": "canary", "turn": "\u202egnp"}
    asked(session, wait("call_1", "<img src=x>", **given))
    for page in (text(admin, url_of(session)), text(admin, INBOX)):
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "\u202e" not in page
        assert "canary" not in page
        assert MASK in page


def test_a_piece_of_the_page_shows_the_status_of_a_run(admin: Client, session: Session) -> None:
    approval = asked(session)
    place = url_of(session, f"pending-actions/{approval.run_id}/")
    told = admin.get(place).json()
    assert (told["status"], told["waits_for"]) == ("parked", "waits for an answer")
    assert f'data-key="{approval.id}" data-status="pending"' in told["html"]
    pending_actions.answer(session.id, approval.id, "approve")
    told = admin.get(place).json()
    assert (told["status"], told["waits_for"]) == ("parked", "waits for a worker")
    attempts.claim(session.id, "worker-2")
    assert admin.get(place).json()["status"] == "running"
    assert admin.get(url_of(session, "pending-actions/run_none/")).status_code == 404


def test_a_task_leads_to_its_sub_session(admin: Client, session: Session) -> None:
    parked(session, SubSessionRequest("call_1", "delegate", {}, profile=MOCK, message="find it"))
    child = SubSessionCall.objects.get().sub_session
    page = text(admin, url_of(session))
    assert f'Given to <a href="{url_of(child)}">' in page
    assert "waits for a sub-session" in page


def test_a_task_without_a_sub_session_shows_the_reason(admin: Client, session: Session) -> None:
    parked(
        session, SubSessionRequest("call_1", "delegate", {}, profile="none/such", message="find it")
    )
    task = SubSessionCall.objects.get()
    assert sub_sessions.find_result(task).failed
    assert "Not given to a sub-session" in text(admin, url_of(session))


def test_the_inbox_has_what_waits_in_all_sessions(admin: Client, make: Make) -> None:
    first, second = (asked(make("active", name=name)) for name in ("one", "two"))
    pending_actions.answer(second.session_id, second.id, "approve")
    page = text(admin, INBOX)
    waiting, answered = page.split("Recently answered")
    assert f'data-row="{first.id}"' in waiting
    assert f'data-row="{second.id}"' in answered
    assert f"{url_of(first.session)}#{first.id}" in waiting
    assert 'name="inbox"' in waiting


def test_the_inbox_comes_in_pages(admin: Client, make: Make, monkeypatch: Any) -> None:
    monkeypatch.setattr("sessions_app.admin.pending_actions.PAGE", 2)
    made = [asked(make("active")).id for _ in range(3)]
    page = text(admin, INBOX)
    assert re.findall(r'data-row="(\w+)"', page) == made[:0:-1]
    [older] = re.findall(r'href="(\?after=\w+)"', page)
    assert re.findall(r'data-row="(\w+)"', text(admin, INBOX + older)) == made[:1]
    assert text(admin, f"{INBOX}?after=approval_none%00")


def test_an_approval_leads_to_its_session(admin: Client, session: Session) -> None:
    approval = asked(session)
    place = f"{INBOX}{approval.id.replace('_', '_5F')}/change/"
    assert admin.get(place)["Location"] == f"{url_of(session)}#{approval.id}"


def test_who_only_looks_has_no_buttons_and_may_not_answer(
    client: Client, session: Session, catalogue: None
) -> None:
    approval = asked(session)
    viewer = User.objects.create_user("viewer", is_staff=True)
    may = Permission.objects.filter(codename="view_session")
    viewer.user_permissions.add(may.get(content_type__app_label="sessions_app"))
    client.force_login(viewer)
    for page in (text(client, INBOX), text(client, url_of(session))):
        assert approval.id in page
        assert 'name="response"' not in page
    assert answer(client, approval, "approve").status_code == 403
    approval.refresh_from_db()
    assert approval.status == "pending"


def test_who_may_see_no_sessions_sees_no_approvals(
    client: Client, session: Session, catalogue: None
) -> None:
    asked(session)
    client.force_login(User.objects.create_user("nobody", is_staff=True))
    assert client.get(INBOX).status_code == 403


def test_the_dashboard_counts_what_waits(admin: Client, session: Session) -> None:
    assert "no tool waits" in text(admin, "/admin/")
    asked(session, wait("call_1"), wait("call_2"))
    page = text(admin, "/admin/")
    assert f'<a href="{INBOX}">2</a>' in page
    assert "1 parked" in page


def test_the_list_of_sessions_shows_which_are_parked(admin: Client, session: Session) -> None:
    asked(session)
    page = text(admin, "/admin/sessions_app/session/")
    assert '<span class="badge badge-parked">parked</span>' in page


def test_the_runs_say_how_long_they_were_parked_and_what_they_used(
    admin: Client, session: Session
) -> None:
    approval = asked(session)
    page = text(admin, url_of(session, "change/?tab=runs"))
    assert 'class="bar-parked"' in page
    assert "tokens 1,200 in, 80 out, 1,000 cached, 16 reasoning; requests 1; US$ 0.0042" in page
    pending_actions.answer(session.id, approval.id, "approve")
    attempts.claim(session.id, "worker-2")
    page = text(admin, url_of(session, "change/?tab=runs"))
    assert "attempt 1 was parked" in page
    assert "attempt 2 went on" in page


def test_the_facts_say_what_was_used(admin: Client, session: Session) -> None:
    attempt = parked(session)
    runs.cancel(session.id, attempt.run_id)
    assert Run.objects.get().status == "cancelled"
    page = text(admin, url_of(session))
    facts = dict(re.findall(r"<dt>([^<]+)</dt><dd><bdi>([^<]*)</bdi>", page))
    assert (facts["Tokens in"], facts["Tokens out"]) == ("1,200", "80")
    assert (facts["Cached"], facts["Reasoning"]) == ("1,000", "16")
    assert facts["Cost"] == "US$ 0.0042"
