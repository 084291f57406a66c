"""POST /sessions/"""

import re
from typing import Any

import pytest

from sessions_app.models import Session
from tests.conftest import Api


def test_a_new_session_is_created_and_says_all_of_itself(api: Api) -> None:
    body = {"amplified_dir": ".", "profile_name": "foundation/base"}
    response = api("post", "/sessions/", body)
    shown = response.json()
    assert response.status_code == 201
    assert re.fullmatch(r"session_[0-9a-f]+", shown.pop("sessionId"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", shown.pop("createdAt"))
    assert re.fullmatch(
        r"/api/v1/sessions/session_[0-9a-f]+/mount-plan", shown.pop("mountPlanPath")
    )
    assert shown == {
        "name": None,
        "parentSessionId": None,
        "amplifiedDir": ".",
        "profileName": "foundation/base",
        "status": "created",
        "startedAt": None,
        "endedAt": None,
        "duration": None,
        "messageCount": 0,
        "agentInvocations": 0,
        "tokenUsage": 0,
        "errorMessage": None,
        "errorDetails": None,
        "metadata": {},
        "usage": {},
        "activeRunId": None,
        "lastEventId": 0,
        "isUnread": True,
        "lastReadAt": None,
    }


@pytest.mark.parametrize("body", [None, {}])
def test_everything_is_optional(api: Api, body: Any) -> None:
    response = api("post", "/sessions/", body)
    assert response.status_code == 201
    assert response.json()["profileName"] == "foundation/base"


def test_keys_may_be_in_camel_case(api: Api) -> None:
    body = {"profileName": "foundation/test", "metadata": {"camelKey": {"innerKey": 1}}}
    shown = api("post", "/sessions/", body).json()
    assert shown["profileName"] == "foundation/test"
    assert shown["metadata"] == {"camelKey": {"innerKey": 1}}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"profile_name": "no/such"}, 404, "not_found"),
        ({"parent_session_id": "session_none"}, 404, "not_found"),
        ({"amplified_dir": "not/amplified"}, 400, "invalid"),
        ({"amplified_dir": "../up"}, 400, "invalid"),
        ({"amplified_dir": "/etc"}, 400, "invalid"),
        ({"amplified_dirr": "."}, 400, "invalid"),
        ({"profileName": "a", "profile_name": "b"}, 400, "invalid"),
        ({"name": 5}, 400, "invalid"),
        ({"name": "x" * 201}, 400, "invalid"),
        ({"name": "nul\0"}, 400, "invalid"),
        ({"metadata": []}, 400, "invalid"),
        ({"metadata": {"a": "nul\0"}}, 400, "invalid"),
        ({"metadata": {"a": "x" * 70_000}}, 400, "invalid"),
        ([], 400, "invalid"),
        ("text", 400, "invalid"),
    ],
)
def test_what_cannot_be_created_is_refused(api: Api, body: Any, status: int, code: str) -> None:
    response = api("post", "/sessions/", body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response["Content-Type"] == "application/problem+json"
    assert not Session.objects.exists()


def test_a_lone_surrogate_is_refused(api: Api) -> None:
    response = api.client.post(
        "/api/v1/sessions/", data=b'{"metadata": {"a": "\\ud800"}}', content_type="application/json"
    )
    assert response.status_code == 400


def test_broken_json_is_a_parse_error(api: Api) -> None:
    response = api.client.post(
        "/api/v1/sessions/", data=b'{"name": ', content_type="application/json"
    )
    assert (response.status_code, response.json()["code"]) == (400, "parse_error")


def test_json_nested_too_deeply_is_a_parse_error(api: Api) -> None:
    body = b'{"metadata": ' + b"[" * 200_000
    response = api.client.post("/api/v1/sessions/", data=body, content_type="application/json")
    assert (response.status_code, response.json()["code"]) == (400, "parse_error")


def test_a_parent_is_kept(api: Api, session: Session) -> None:
    shown = api("post", "/sessions/", {"parent_session_id": session.id}).json()
    assert shown["parentSessionId"] == session.id


def test_the_mount_plan_is_the_session_s_own_copy(api: Api) -> None:
    overrides = {"providers": [{"module": "provider-mock", "config": {"temperature": 0.5}}]}
    body = {"profile_name": "foundation/test", "settings_overrides": overrides}
    shown = api("post", "/sessions/", body).json()
    plan = api("get", shown["mountPlanPath"].removeprefix("/api/v1")).json()
    (provider,) = plan["providers"].values()
    assert provider["metadata"] == {"module": "provider-mock", "config": {"temperature": 0.5}}
