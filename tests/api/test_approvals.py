"""GET /approvals/, GET /approvals/{id}, GET /sessions/{id}/approvals"""

from collections.abc import Callable

import pytest

from amplifierd.common.redaction import MASK
from sessions_app.models import Approval, Run, Session
from sessions_app.services import pending_actions, runs
from tests.api.callers import Caller
from tests.conftest import Api
from tests.harness.parked import USAGE, asked, parked, wait


@pytest.fixture
def approval(session: Session) -> Approval:
    """A call of `write_file` that waits."""
    return asked(session)


def test_an_approval_says_what_is_asked(api: Api, approval: Approval) -> None:
    told = api("get", f"/approvals/{approval.id}").json()
    assert told["approvalId"] == approval.id
    assert told["sessionId"] == approval.session_id
    assert told["runId"] == approval.run_id
    assert (told["toolCallId"], told["toolName"]) == ("call_1", "write_file")
    assert told["toolInput"] == {"path": "notes.md", "content": "Paris"}
    assert (told["prompt"], told["options"]) == (
        "Allow write_file? notes.md, 1 line, 5 bytes",
        ["approve", "deny", "always"],
    )
    assert (told["status"], told["reason"], told["always"]) == ("pending", None, False)
    assert told["createdAt"] < told["expiresAt"]
    assert (told["answeredAt"], told["answeredBy"]) == (None, None)


def test_a_secret_in_the_input_of_a_tool_is_masked(api: Api, session: Session) -> None:
    approval = asked(session, wait(headers={"Authorization": "Bearer canary"}, path="a"))
    told = api("get", f"/approvals/{approval.id}").json()
    assert told["toolInput"] == {"headers": {"Authorization": MASK}, "path": "a"}


def test_the_inbox_has_what_is_pending_in_all_sessions_newest_first(
    api: Api, make: Callable[..., Session]
) -> None:
    first, second, third = (asked(make("active")) for _ in range(3))
    pending_actions.answer(second.session_id, second.id, "approve")
    inbox = api("get", "/approvals/?status=pending")
    assert [row["approvalId"] for row in inbox.json()] == [third.id, first.id]
    assert inbox["X-Total-Count"] == "2"
    assert api("get", "/approvals/")["X-Total-Count"] == "3"
    one = api("get", f"/approvals/?status=pending&session_id={first.session_id}").json()
    assert [row["approvalId"] for row in one] == [first.id]


def test_pages_follow_each_other_without_gap_or_double(
    api: Api, make: Callable[..., Session]
) -> None:
    made = [asked(make("active")).id for _ in range(5)]
    url, found = "/approvals/?status=pending&limit=2", []
    while url:
        page = api("get", url)
        found += [row["approvalId"] for row in page.json()]
        assert page["X-Total-Count"] == "5"
        link = page.get("Link", "")
        url = link.partition("/api/v1")[2].partition(">")[0]
    assert found == made[::-1]


def test_a_session_lists_its_own(api: Api, session: Session, make: Callable[..., Session]) -> None:
    asked(make("active"))
    first = asked(session, wait("call_1"), wait("call_2"))
    pending_actions.answer(session.id, first.id, "deny", reason="no")
    listed = api("get", f"/sessions/{session.id}/approvals")
    assert listed["X-Total-Count"] == "2"
    assert [row["toolCallId"] for row in listed.json()] == ["call_2", "call_1"]
    pending = api("get", f"/sessions/{session.id}/approvals?status=pending").json()
    assert [row["toolCallId"] for row in pending] == ["call_2"]


def test_what_is_cancelled_no_longer_waits(api: Api, approval: Approval) -> None:
    runs.cancel(approval.session_id, approval.run_id)
    assert api("get", "/approvals/?status=pending").json() == []
    assert api("get", f"/approvals/{approval.id}").json()["status"] == "withdrawn"


def test_a_message_instead_of_an_answer_denies(api: Api, approval: Approval) -> None:
    api("post", f"/sessions/{approval.session_id}/send-message", {"content": "do not"})
    told = api("get", f"/approvals/{approval.id}").json()
    assert told["status"] == "denied"
    assert "new message" in told["reason"]


@pytest.mark.parametrize("path", ["/approvals/approval_none", "/sessions/session_none/approvals"])
def test_what_is_unknown_is_404(api: Api, path: str) -> None:
    response = api("get", path)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("query", ["status=waiting", "limit=0", "cursor=x"])
def test_what_is_asked_wrongly_is_refused(api: Api, query: str) -> None:
    assert api("get", f"/approvals/?{query}").status_code == 400


def test_an_owner_sees_only_what_ones_own_sessions_ask(api: Api) -> None:
    alice, bob = (Caller(api, name) for name in ("alice", "bob"))
    root = Caller(api, "root", scope="admin")
    session_id = alice.session()
    alice("post", f"/sessions/{session_id}/start")
    approval = asked(Session.objects.get(pk=session_id))
    for caller, count in ((alice, 1), (bob, 0), (root, 1)):
        listed = caller("get", "/approvals/")
        assert (len(listed.json()), listed["X-Total-Count"]) == (count, str(count))
        shown = caller("get", f"/approvals/{approval.id}")
        assert shown.status_code == (200 if count else 404)
    nowhere = bob("get", "/approvals/approval_0").json()["detail"]
    hers = bob("get", f"/approvals/{approval.id}").json()["detail"]
    assert hers.replace(approval.id, "approval_0") == nowhere


def test_a_parked_run_says_so_and_what_it_has_used(api: Api, session: Session) -> None:
    attempt = parked(session)
    told = api("get", f"/sessions/{session.id}/runs/{attempt.run_id}").json()
    assert (told["status"], told["interruptions"]) == ("parked", 0)
    assert told["usage"] == USAGE
    assert api("get", f"/sessions/{session.id}").json()["activeRunId"] == attempt.run_id


def test_a_session_says_what_its_settled_runs_have_used(api: Api, session: Session) -> None:
    attempt = parked(session)
    assert api("get", f"/sessions/{session.id}").json()["usage"] == {}
    runs.cancel(session.id, attempt.run_id)
    told = api("get", f"/sessions/{session.id}").json()
    assert (told["usage"], told["tokenUsage"]) == (USAGE, 1280)
    assert Run.objects.get().status == "cancelled"


def test_the_inbox_by_the_beginning_of_an_id(api: Api, session: Session) -> None:
    approval = asked(session)
    [found] = api("get", f"/approvals/?id_prefix={approval.id[:-2]}").json()
    assert found["approvalId"] == approval.id
    assert api("get", "/approvals/?id_prefix=%25").json() == []
