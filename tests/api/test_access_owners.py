"""Two owners: what belongs to one is not there for the other, whatever is asked."""

from typing import Any

import pytest
from django.db.models import Model

from sessions_app.models import Approval, Event, IdempotencyKey, Message, Run, Session
from tests.api.callers import Caller, Endpoint, endpoints
from tests.conftest import Api
from tests.harness.parked import asked, wait

OF_A_SESSION = [endpoint for endpoint in endpoints() if "<session_id>" in endpoint.path]


@pytest.fixture
def root(api: Api) -> Caller:
    return Caller(api, "root", scope="admin")


@pytest.fixture
def hers(alice: Caller) -> str:
    """A session of Alice's, with a run that waits for her word."""
    session_id = alice.session(name="invoices of alice")
    alice("post", f"/sessions/{session_id}/start")
    asked(Session.objects.get(pk=session_id), wait(path="invoices of alice"))
    return session_id


def everything() -> list[object]:
    """Return all that a request might change."""
    models: list[type[Model]] = [Session, Message, Run, Event, Approval]
    return [list(model.objects.order_by("pk").values()) for model in models]


def test_the_matrix_has_what_is_known() -> None:
    paths = {endpoint.path for endpoint in OF_A_SESSION}
    assert {"/sessions/<session_id>", "/sessions/<session_id>/runs/<run_id>/cancel"} <= paths
    assert len(OF_A_SESSION) >= 20


@pytest.mark.parametrize("endpoint", OF_A_SESSION, ids=lambda endpoint: "-".join(endpoint))
def test_a_session_of_somebody_else_is_not_there(
    endpoint: Endpoint, hers: str, bob: Caller
) -> None:
    run_id = Run.objects.get(session_id=hers).id
    before = everything()
    answer = bob(endpoint.method, endpoint.url(session_id=hers, run_id=run_id), {})
    nowhere = bob(endpoint.method, endpoint.url(session_id="session_0", run_id=run_id), {})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.json()["detail"].replace(hers, "session_0") == nowhere.json()["detail"]
    assert everything() == before


@pytest.mark.parametrize(
    "endpoint",
    [endpoint for endpoint in OF_A_SESSION if endpoint.method == "get"],
    ids=lambda endpoint: endpoint.path,
)
def test_her_own_session_is_there(endpoint: Endpoint, hers: str, alice: Caller) -> None:
    run_id = Run.objects.get(session_id=hers).id
    answer = alice("get", endpoint.url(session_id=hers, run_id=run_id))
    assert answer.status_code == 200


def test_lists_counts_and_search_show_only_ones_own(
    hers: str, alice: Caller, bob: Caller, root: Caller
) -> None:
    his = bob.session()
    seen = {"alice": {hers}, "bob": {his}, "root": {hers, his}}
    for caller in (alice, bob, root):
        listed = caller("get", "/sessions/")
        expected = seen[caller.made.owner]
        assert {row["sessionId"] for row in listed.json()} == expected
        assert listed["X-Total-Count"] == str(len(expected))
    assert len(bob("get", "/sessions/active/list").json()) == 0
    assert len(bob("get", "/sessions/?q=invoices").json()) == 0
    assert len(alice("get", "/sessions/?q=invoices").json()) == 1
    assert bob("get", f"/sessions/?parent_session_id={hers}").json() == []


@pytest.mark.parametrize(
    "endpoint",
    [each for each in endpoints() if each.method == "get" and each not in OF_A_SESSION],
    ids=lambda endpoint: endpoint.path,
)
def test_no_list_names_a_session_of_somebody_else(
    endpoint: Endpoint, hers: str, alice: Caller, bob: Caller
) -> None:
    approval_id = Approval.objects.get(session_id=hers).id
    said = bob("get", endpoint.url(approval_id=approval_id)).content.decode()
    assert hers not in said
    assert "invoices of alice" not in said
    if endpoint.path == "/sessions/unread-counts":
        assert said != alice("get", endpoint.url()).content.decode()


def test_a_copy_belongs_to_whose_the_original_is(hers: str, alice: Caller, root: Caller) -> None:
    for caller in (alice, root):
        copy = caller("post", f"/sessions/{hers}/clone", {}).json()["sessionId"]
        assert Session.objects.get(pk=copy).owner == "alice"


def test_a_page_names_no_session_of_somebody_else(alice: Caller, bob: Caller) -> None:
    for _ in range(2):
        alice.session()
    link = alice("get", "/sessions/?limit=1")["Link"]
    cursor = link.partition("cursor=")[2].partition(">")[0].partition("&")[0]
    assert bob("get", f"/sessions/?limit=1&cursor={cursor}").json() == []


def test_a_parent_of_somebody_else_is_not_there(hers: str, bob: Caller, root: Caller) -> None:
    refused = bob("post", "/sessions/", {"parent_session_id": hers})
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert Session.objects.filter(owner="bob").count() == 0
    assert root.session(parent_session_id=hers)


def test_who_sees_all_makes_sessions_of_its_own(root: Caller) -> None:
    assert Session.objects.get(pk=root.session()).owner == "root"


def test_keys_of_one_owner_share_their_sessions(api: Api, hers: str) -> None:
    other = Caller(api, "alice", scope="read")
    assert other("get", f"/sessions/{hers}").status_code == 200


def test_what_was_made_without_a_key_belongs_to_nobody(api: Api, bob: Caller) -> None:
    made = api("post", "/sessions/", {"profile_name": "foundation/test"}).json()["sessionId"]
    assert Session.objects.get(pk=made).owner == ""
    assert bob("get", f"/sessions/{made}").status_code == 404


def test_cleanup_leaves_the_sessions_of_others(hers: str, alice: Caller, bob: Caller) -> None:
    alice("post", f"/sessions/{hers}/complete")
    answer = bob("post", "/sessions/cleanup", {"older_than_days": 0})
    assert (answer.status_code, answer.json()["removed_count"]) == (200, 0)
    assert Session.objects.filter(pk=hers).exists()


def test_the_same_idempotency_key_of_another_owner_is_another_key(
    alice: Caller, bob: Caller
) -> None:
    body, key = {"profile_name": "foundation/test"}, {"Idempotency-Key": "one"}
    first, second = (who("post", "/sessions/", body, **key) for who in (alice, bob))
    again = alice("post", "/sessions/", body, **key)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["sessionId"] != second.json()["sessionId"]
    assert again.json() == first.json()
    assert again["Idempotent-Replayed"] == "true"
    assert IdempotencyKey.objects.count() == 2


def test_a_first_answer_is_for_those_alone_who_might_ask(
    api: Api, alice: Caller, settings: Any
) -> None:
    body, key = {"profile_name": "foundation/test"}, {"Idempotency-Key": "one"}
    made = api("post", "/sessions/", body, **key)
    settings.REQUIRE_KEYS = True
    again = api("post", "/sessions/", body, **key)
    assert (made.status_code, again.status_code) == (201, 401)
    assert "Idempotent-Replayed" not in alice("post", "/sessions/", body, **key)
    reader = Caller(api, "alice", scope="read")
    assert reader("post", "/sessions/", body, **key).status_code == 403
