"""Errors that say which values there are, and which name was probably meant."""

from typing import Any

import pytest

from sessions_app.models import Approval, Message, Session
from sessions_app.services import sessions
from sessions_app.states import APPROVAL_STATUSES, Role, SessionStatus
from tests.conftest import Api
from tests.harness.parked import asked


def detail_of(answer: Any, field: str) -> str:
    """Return the detail of a 400, which both `detail` and `errors` have for the field."""
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (400, "invalid")
    (error,) = problem["errors"]
    assert error["field"] == field
    assert problem["detail"] == f"{field}: {error['detail']}"
    return error["detail"]


@pytest.mark.parametrize(
    ("path", "body", "field", "values"),
    [
        ("messages", {"role": "human"}, "role", Role.values),
        (
            "send-message",
            {"multitask_strategy": "wait"},
            "multitask_strategy",
            ["enqueue", "reject", "interrupt"],
        ),
    ],
)
def test_an_error_lists_the_allowed_values_of_a_body(
    api: Api, session: Session, path: str, body: dict[str, Any], field: str, values: list[str]
) -> None:
    answer = api("post", f"/sessions/{session.id}/{path}", {"content": "hello", **body})
    assert detail_of(answer, field) == f"{body[field]!r} is none of {', '.join(values)}."
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    ("path", "values"), [("/sessions/", SessionStatus.values), ("/approvals/", APPROVAL_STATUSES)]
)
def test_an_error_lists_the_allowed_values_of_a_query(
    api: Api, path: str, values: list[str]
) -> None:
    detail = detail_of(api("get", f"{path}?status=running"), "status")
    assert detail == f"'running' is none of {', '.join(values)}."


def test_it_says_which_value_was_probably_meant_and_what_else_to_do(api: Api) -> None:
    detail = detail_of(api("get", "/sessions/?status=actvie"), "status")
    assert detail.endswith(". Did you mean active?")
    detail = detail_of(api("post", "/sessions/cleanup", {"status": "active"}), "status")
    assert detail == (
        f"'active' is none of {', '.join(sessions.REMOVABLE)}. "
        "An active session is never removed: end it first."
    )


def test_a_wrong_value_is_repeated_only_in_part_and_on_one_line(api: Api) -> None:
    detail = detail_of(api("get", f"/sessions/?status=%0a{'x' * 1000}"), "status")
    assert detail.startswith(r"'\nxxx") and len(detail) < 200


def test_the_answers_to_an_approval_are_listed(api: Api, session: Session) -> None:
    approval = asked(session)
    path = f"/sessions/{session.id}/approval-response"
    answer = api("post", path, {"approval_id": approval.id, "response": "aprove"})
    assert detail_of(answer, "response") == (
        "This is none of approve, deny, always. Did you mean approve?"
    )
    assert Approval.objects.get().status == "pending"


def test_an_unknown_key_of_a_body_is_compared_with_the_known_ones(api: Api) -> None:
    answer = api("post", "/sessions/", {"profile_nmae": "foundation/test"})
    assert detail_of(answer, "profile_nmae").endswith(" Did you mean profile_name?")


MISSPELT = {
    "/sessions/": {
        "statsu": "status",
        "profile_nam": "profile_name",
        "profileNam": "profile_name",
        "ProfileName": "profile_name",
        "limt": "limit",
        "LIMIT": "limit",
        "parent-session-id": "parent_session_id",
    },
    "/sessions/active/list": {"curser": "cursor"},
    "/sessions/recent": {"limits": "limit"},
    "/approvals/": {"sesion_id": "session_id"},
    "/profiles/": {"Limit": "limit"},
    "/profiles/foundation/base/diff": {"form": "from"},
    "/modules/": {"tpye": "type"},
    "/directories/list": {"paht": "path"},
    "/sessions/{id}/transcript": {"bfore": "before"},
    "/sessions/{id}/events": {"includeChilden": "include_children"},
}


@pytest.mark.parametrize(
    ("path", "given", "meant"),
    [(path, *pair) for path, pairs in MISSPELT.items() for pair in pairs.items()],
)
def test_a_misspelt_parameter_is_refused(
    api: Api, session: Session, path: str, given: str, meant: str
) -> None:
    answer = api("get", f"{path.format(id=session.id)}?{given}=1")
    assert detail_of(answer, given) == f"There is no such parameter; did you mean {meant}?"
    assert answer.json()["errors"][0]["code"] == "unknown"


def test_nothing_is_sent_or_removed_with_a_misspelt_parameter(api: Api, session: Session) -> None:
    answer = api("post", f"/sessions/{session.id}/send-message?wiat=5", {"content": "hello"})
    assert detail_of(answer, "wiat").endswith("did you mean wait?")
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    "query",
    [
        "colour=blue",
        "_=1700000000",
        "utm_source=mail",
        "page=2",
        "state=active",
        "offset=5",
        "type=x",
        "statsu=",
        "metadata.statsu=active",
        "profileName=foundation%2Ftest",
        "&".join(f"name{n}=1" for n in range(500)),
    ],
)
def test_other_unknown_parameters_are_ignored(api: Api, session: Session, query: str) -> None:
    assert api("get", f"/sessions/?{query}").status_code == 200


@pytest.mark.parametrize("field", ["providers", "tools"])
def test_a_misspelt_module_is_refused_when_a_profile_is_saved(api: Api, field: str) -> None:
    wrong, meant = {
        "providers": ("provider-opnai", "provider-openai"),
        "tools": ("tool-bsh", "tool-bash"),
    }[field]
    answer = api("post", "/profiles/", {"name": "mine", field: [{"module": wrong}]})
    assert answer.status_code == 400
    assert f"Did you mean {meant}?" in answer.json()["detail"]
    assert api("get", "/profiles/local/mine").status_code == 404
