"""Idempotency-Key: a retry gets the first answer, and has no second effect."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from sessions_app.models import IdempotencyKey, Message, Run, Session
from sessions_app.services import idempotency
from tests.conftest import Api
from tests.harness.racing import race


def test_a_retry_gets_the_first_answer_and_sends_once(api: Api, session: Session) -> None:
    path, body = f"/sessions/{session.id}/send-message", {"content": "once"}
    key = {"Idempotency-Key": "key-1"}
    first = api("post", path, body, **key)
    again = api("post", f"{path}/", body, **key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first
    assert (Message.objects.count(), Run.objects.count()) == (1, 1)


def test_an_answer_without_a_body_is_repeated_too(api: Api, make: Callable[..., Session]) -> None:
    session = make("created")
    answers = [
        api("post", f"/sessions/{session.id}/start", **{"Idempotency-Key": "s"}) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [204, 204]
    assert [answer.content for answer in answers] == [b"", b""]
    assert "Content-Type" not in answers[1]


@pytest.mark.parametrize(
    ("path", "body"),
    [("messages", {"content": "other"}), ("send-message", {"content": "one"})],
)
def test_the_same_key_with_another_request_is_refused(
    api: Api, session: Session, path: str, body: dict[str, Any]
) -> None:
    key = {"Idempotency-Key": "key-1"}
    assert api("post", f"/sessions/{session.id}/messages", {"content": "one"}, **key)
    refused = api("post", f"/sessions/{session.id}/{path}", body, **key)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_mismatch")
    assert Message.objects.count() == 1


def test_the_query_belongs_to_the_request(api: Api) -> None:
    key = {"Idempotency-Key": "key-1"}
    assert api("post", "/cache/update?force=false", {}, **key).status_code == 200
    assert api("post", "/cache/update/?force=false", {}, **key)["Idempotent-Replayed"] == "true"
    assert api("post", "/cache/update?force=true", {}, **key).status_code == 422


def test_a_refusal_is_not_kept(api: Api, make: Callable[..., Session]) -> None:
    session, key = make("created"), {"Idempotency-Key": "key-1"}
    path, body = f"/sessions/{session.id}/messages", {"content": "x"}
    assert api("post", path, body, **key).status_code == 409
    assert not IdempotencyKey.objects.exists()
    assert api("post", f"/sessions/{session.id}/start").status_code == 204
    assert api("post", path, body, **key).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
def test_a_key_that_is_none_is_refused(api: Api, session: Session, key: str) -> None:
    headers = {"Idempotency-Key": key}
    refused = api("post", f"/sessions/{session.id}/messages", {"content": "x"}, **headers)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid")
    assert not Message.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_request_that_is_still_being_carried_out_is_in_progress(
    make: Callable[..., Session],
) -> None:
    session = make("active")
    url = f"/api/v1/sessions/{session.id}/messages"

    def post() -> Any:
        headers = {"Idempotency-Key": "key-1"}
        return Client().post(
            url, {"content": "x"}, content_type="application/json", headers=headers
        )

    with transaction.atomic():
        assert idempotency.begin("key-1", b"") is None
        (refused,) = race([post])
        assert (refused.status_code, refused.json()["code"]) == (409, "in_progress")
    assert post().status_code == 201


@pytest.mark.django_db(transaction=True)
def test_32_equal_retries_have_one_effect(make: Callable[..., Session]) -> None:
    session = make("active")
    url = f"/api/v1/sessions/{session.id}/send-message"

    def post() -> int:
        headers = {"Idempotency-Key": "key-1"}
        return (
            Client()
            .post(url, {"content": "x"}, content_type="application/json", headers=headers)
            .status_code
        )

    codes = race([post] * 32)
    assert set(codes) <= {202, 409}
    assert 202 in codes
    assert (Message.objects.count(), Run.objects.count()) == (1, 1)
