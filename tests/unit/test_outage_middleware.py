"""While the database is known to be away, the API refuses at once."""

from collections.abc import Iterator

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from amplifierd.common import outage
from amplifierd.server.health import OutageMiddleware


@pytest.fixture(autouse=True)
def present() -> Iterator[None]:
    """Begin and end with a database that is there."""
    outage._known_until = 0.0
    yield
    outage._known_until = 0.0


def status(path: str) -> int:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    return OutageMiddleware(view)(RequestFactory().get(path)).status_code


def test_the_api_is_refused_after_a_failed_attempt_and_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    assert status("/api/v1/sessions/") == 200
    outage.note_outage()
    assert status("/api/v1/sessions/") == 503
    now += outage.HOLD
    assert status("/api/v1/sessions/") == 200


def test_a_refusal_says_when_to_try_again() -> None:
    outage.note_outage()
    refusal = OutageMiddleware(lambda request: HttpResponse())(
        RequestFactory().get("/api/v1/sessions/")
    )
    assert refusal["Retry-After"] == "1"


def test_readiness_says_what_the_api_would_say() -> None:
    outage.note_outage()
    assert status("/readyz") == 503


def test_everything_else_finds_out_by_itself() -> None:
    outage.note_outage()
    assert status("/livez") == 200
    assert status("/admin/") == 200
