"""While the database is known to be away, the API refuses at once."""

from collections.abc import Iterator

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from amplifierd import absence
from amplifierd.refusal import AbsenceMiddleware


@pytest.fixture(autouse=True)
def present() -> Iterator[None]:
    """Begin and end with a database that is there."""
    absence._known_until = 0.0
    yield
    absence._known_until = 0.0


def status(path: str) -> int:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    return AbsenceMiddleware(view)(RequestFactory().get(path)).status_code


def test_the_api_is_refused_after_a_failed_attempt_and_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    assert status("/api/v1/sessions/") == 200
    absence.noticed()
    assert status("/api/v1/sessions/") == 503
    now += absence.HOLD
    assert status("/api/v1/sessions/") == 200


def test_a_refusal_says_when_to_try_again() -> None:
    absence.noticed()
    refusal = AbsenceMiddleware(lambda request: HttpResponse())(
        RequestFactory().get("/api/v1/sessions/")
    )
    assert refusal["Retry-After"] == "1"


def test_readiness_says_what_the_api_would_say() -> None:
    absence.noticed()
    assert status("/readyz") == 503


def test_everything_else_finds_out_by_itself() -> None:
    absence.noticed()
    assert status("/livez") == 200
    assert status("/admin/") == 200
