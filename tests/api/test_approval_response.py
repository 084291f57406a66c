"""POST /sessions/{id}/approval-response"""

from collections.abc import Callable
from typing import Any

import pytest

from sessions_app.models import Approval, Event, Session
from sessions_app.services import attempts
from tests.api.callers import Caller
from tests.conftest import Api, started
from tests.harness.parked import asked, wait


@pytest.fixture
def approval(session: Session) -> Approval:
    """A call of `write_file` that waits."""
    return asked(session)


def answer(api: Callable[..., Any], approval: Approval, response: Any, **more: Any) -> Any:
    body = {"approval_id": approval.id, "response": response, **more}
    return api("post", f"/sessions/{approval.session_id}/approval-response", body)


@pytest.mark.parametrize(
    ("word", "status", "always"),
    [
        ("approve", "approved", False),
        ("allow", "approved", False),
        ("Allow once", "approved", False),
        ("always", "approved", True),
        ("ALLOW ALWAYS", "approved", True),
        ("deny", "denied", False),
        ("Deny", "denied", False),
    ],
)
def test_an_answer_is_taken_in_the_words_of_every_client(
    api: Api, approval: Approval, word: str, status: str, always: bool
) -> None:
    response = answer(api, approval, word)
    told = response.json()
    assert response.status_code == 200
    assert (told["status"], told["always"]) == (status, always)
    assert told["approval_id"] == told["approvalId"] == approval.id
    approval.refresh_from_db()
    assert (approval.status, approval.always) == (status, always)


def test_a_reason_is_kept_and_told(api: Api, approval: Approval) -> None:
    told = answer(api, approval, "deny", reason="Not there.").json()
    assert told["reason"] == "Not there."
    event = Event.objects.in_session(approval.session_id).get(type="approval_resolved")
    assert event.data["approval_id"] == approval.id
    assert (event.data["status"], event.data["reason"]) == ("denied", "Not there.")


def test_the_run_goes_on_once_all_is_answered(api: Api, session: Session) -> None:
    first = asked(session, wait("call_1"), wait("call_2", "delete_file"))
    second = Approval.objects.exclude(pk=first.pk).get()
    answer(api, first, "approve")
    assert attempts.claim(session.id, "worker-2") is None
    answer(api, second, "deny")
    attempt = attempts.claim(session.id, "worker-2")
    assert attempt is not None
    assert (attempt.run_id, attempt.continues) == (first.run_id, True)


def test_always_answers_the_other_questions_about_the_tool(api: Api, session: Session) -> None:
    first = asked(session, wait("call_1"), wait("call_2"), wait("call_3", "delete_file"))
    answer(api, first, "always")
    statuses = Approval.objects.order_by("tool_call_id").values_list("status", flat=True)
    assert list(statuses) == ["approved", "approved", "pending"]


def test_a_second_answer_is_refused_with_what_the_first_one_was(
    api: Api, approval: Approval
) -> None:
    answer(api, approval, "approve")
    refused = answer(api, approval, "deny")
    assert (refused.status_code, refused.json()["code"]) == (409, "already_answered")
    assert "approved already" in refused.json()["detail"]
    approval.refresh_from_db()
    assert approval.status == "approved"


def test_it_says_whose_key_has_answered(api: Api) -> None:
    alice = Caller(api, "alice")
    session_id = alice.session()
    alice("post", f"/sessions/{session_id}/start")
    approval = asked(Session.objects.get(pk=session_id))
    assert answer(alice, approval, "approve").json()["answeredBy"] == "alice"
    assert "approved already by alice" in answer(alice, approval, "deny").json()["detail"]


def test_without_a_key_nobody_has_answered(api: Api, approval: Approval) -> None:
    assert answer(api, approval, "approve").json()["answeredBy"] is None


def test_a_key_that_only_reads_does_not_answer(api: Api) -> None:
    writer, reader = Caller(api, "alice"), Caller(api, "alice", scope="read")
    session_id = writer.session()
    writer("post", f"/sessions/{session_id}/start")
    approval = asked(Session.objects.get(pk=session_id))
    assert answer(reader, approval, "approve").status_code == 403
    approval.refresh_from_db()
    assert approval.status == "pending"


def test_the_same_idempotency_key_gives_the_first_answer_again(
    api: Api, approval: Approval
) -> None:
    path = f"/sessions/{approval.session_id}/approval-response"
    body, key = {"approvalId": approval.id, "response": "approve"}, {"Idempotency-Key": "one"}
    first, again = (api("post", path, body, **key) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert again["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()
    assert Event.objects.filter(type="approval_resolved").count() == 1


def test_an_approval_that_nothing_waits_for_is_404(api: Api, session: Session) -> None:
    body = {"approval_id": "approval_1", "response": "Allow"}
    response = api("post", f"/sessions/{session.id}/approval-response", body)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert "waits for the approval 'approval_1'" in response.json()["detail"]


def test_an_approval_of_another_session_is_404(
    api: Api, approval: Approval, make: Callable[..., Session]
) -> None:
    body = {"approval_id": approval.id, "response": "approve"}
    response = api("post", f"/sessions/{make('active').id}/approval-response", body)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    approval.refresh_from_db()
    assert approval.status == "pending"


def test_an_unknown_session_is_404(api: Api) -> None:
    body = {"approval_id": "approval_1", "response": "Allow"}
    response = api("post", "/sessions/session_none/approval-response", body)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "change",
    [
        {"response": "perhaps"},
        {"response": True},
        {"response": ""},
        {"response": None},
        {"approval_id": "a\0"},
        {"approval_id": 1},
        {"reason": ""},
        {"reason": "x" * 10_001},
        {"reason": 1},
        {"because": "typo"},
    ],
)
def test_an_answer_that_is_none_is_refused(
    api: Api, approval: Approval, change: dict[str, object]
) -> None:
    body = {"approval_id": approval.id, "response": "approve", **change}
    response = api("post", f"/sessions/{approval.session_id}/approval-response", body)
    assert (response.status_code, response.json()["code"]) == (400, "invalid")
    approval.refresh_from_db()
    assert approval.status == "pending"


@pytest.mark.parametrize("body", [{}, {"approval_id": "a"}, {"response": "allow"}, []])
def test_half_an_answer_is_refused(api: Api, session: Session, body: object) -> None:
    response = api("post", f"/sessions/{session.id}/approval-response", body)
    assert (response.status_code, response.json()["code"]) == (400, "invalid")


def test_an_answer_may_say_whose_it_is_where_no_key_does(api: Api, approval: Approval) -> None:
    assert answer(api, approval, "approve", answered_by="ada").json()["answeredBy"] == "ada"


def test_who_answers_with_a_key_goes_by_its_name(api: Api) -> None:
    caller = Caller(api, "ada")
    session = started(caller.session())
    approval = asked(session)
    assert answer(caller, approval, "approve", answered_by="eve").json()["answeredBy"] == "ada"
