import logging
from collections.abc import Iterator
from typing import Any

import psycopg
import psycopg_pool
import pytest
from django.contrib import admin
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.core.exceptions import ValidationError as ModelError
from django.db import DataError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path
from rest_framework import exceptions as drf
from rest_framework import serializers
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common import problems
from amplifierd.common.problems import problem_of
from profiles_app.exceptions import ProfileNotFound
from sessions_app.exceptions import InvalidTransition, SessionNotFound, TooManyRuns


class Member(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=3)


class Group(serializers.Serializer[Any]):
    title = serializers.CharField()
    members = Member(many=True, required=False)

    def validate_title(self, title: str) -> str:
        if title == "taken":
            raise serializers.ValidationError("This title is taken.", code="unique")
        return title

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["title"] == "empty":
            raise serializers.ValidationError("A group needs members.", code="no_members")
        return attrs


@api_view(["POST"])
def groups(request: Request) -> Response:
    Group(data=request.data).is_valid(raise_exception=True)
    return Response({})


@api_view(["GET"])
def broken(request: Request) -> Response:
    raise KeyError("secret")


@api_view(["GET"])
def unrenderable(request: Request) -> Response:
    return Response({"value": object()})


def refused(request: HttpRequest) -> HttpResponse:
    raise RequestDataTooBig("too big")


def forbidden(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied


def failing(request: HttpRequest) -> HttpResponse:
    raise KeyError("secret")


def disconnected(request: HttpRequest) -> HttpResponse:
    raise OperationalError("the connection is closed")


VIEWS = {
    "groups": groups,
    "broken": broken,
    "unrenderable": unrenderable,
    "refused": refused,
    "forbidden": forbidden,
    "failing": failing,
    "disconnected": disconnected,
}
urlpatterns = [
    *(path(f"api/{name}", view) for name, view in VIEWS.items()),
    *(path(f"pages/{name}", view) for name, view in VIEWS.items()),
    # Pages of errors lead there.
    path("admin/", admin.site.urls),
]
handler400 = problems.bad_request
handler403 = problems.permission_denied
handler404 = problems.not_found
handler500 = problems.server_error


@pytest.fixture
def client() -> Iterator[Client]:
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]):
        yield Client(raise_request_exception=False)


def post(client: Client, body: Any, content_type: str = "application/json") -> Any:
    return client.post("/api/groups", body, content_type=content_type)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (SessionNotFound(), 404, "not_found"),
        (ProfileNotFound(), 404, "not_found"),
        (TooManyRuns(), 429, "too_many"),
        (Http404(), 404, "not_found"),
        (drf.NotFound(), 404, "not_found"),
        (drf.ParseError(), 400, "parse_error"),
        (drf.NotAuthenticated(), 401, "not_authenticated"),
        (drf.AuthenticationFailed(), 401, "not_authenticated"),
        (drf.PermissionDenied(), 403, "permission_denied"),
        (PermissionDenied(), 403, "permission_denied"),
        (drf.MethodNotAllowed("PUT"), 405, "method_not_allowed"),
        (drf.NotAcceptable(), 406, "not_acceptable"),
        (drf.UnsupportedMediaType("text/plain"), 415, "unsupported_media_type"),
        (drf.Throttled(), 429, "too_many"),
        (drf.ValidationError("no"), 400, "invalid"),
        (ModelError("no"), 400, "invalid"),
        (RequestDataTooBig(), 400, "invalid"),
        (DataError("NUL"), 400, "invalid"),
        (OperationalError("gone"), 503, "unavailable"),
        (InterfaceError("gone"), 503, "unavailable"),
        (psycopg_pool.PoolTimeout("busy"), 503, "unavailable"),
        (KeyError("bug"), 500, "internal"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_every_exception_has_its_status_and_code(error: Exception, status: int, code: str) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.code) == (status, code)
    assert problem.detail


def test_a_full_disk_is_told_as_one() -> None:
    wrapped = OperationalError("could not extend file")
    wrapped.__cause__ = psycopg.errors.DiskFull("could not extend file")
    for error in (wrapped, wrapped.__cause__):
        problem = problem_of(error)
        assert (problem.status, problem.code) == (503, "unavailable")
        assert "disk is full" in problem.detail
        assert "disk" not in problem_of(OperationalError("gone")).detail


def test_body_has_the_members_of_rfc_9457_and_our_own() -> None:
    assert problem_of(InvalidTransition.between("completed", "active")).body == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": "A session that is completed cannot become active; "
        "it can become nothing: it has ended.",
        "code": "invalid_transition",
        "from": "completed",
        "to": "active",
        "allowed": [],
    }


def test_what_passes_says_when_to_try_again() -> None:
    assert problem_of(OperationalError()).headers == {"Retry-After": "1"}
    assert problem_of(TooManyRuns()).headers == {"Retry-After": "1"}
    assert problem_of(drf.Throttled(wait=7)).headers == {"Retry-After": "7"}
    assert problem_of(KeyError()).headers == {}


def test_challenge_of_an_authentication_is_passed_on() -> None:
    error = drf.NotAuthenticated()
    error.auth_header = "Bearer"
    assert problem_of(error).headers == {"WWW-Authenticate": "Bearer"}


def test_validation_names_each_field_as_the_client_sends_it(client: Client) -> None:
    answer = post(client, {"members": [{"name": "Ann"}, {"name": "Anna"}]})
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "invalid"
    assert answer.json()["detail"] == "title: This field is required. (1 more in errors)"
    assert answer.json()["errors"] == [
        {"field": "title", "code": "required", "detail": "This field is required."},
        {
            "field": "members.1.name",
            "code": "max_length",
            "detail": "Ensure this field has no more than 3 characters.",
        },
    ]


def test_validation_keeps_the_codes_of_serializers(client: Client) -> None:
    assert post(client, {"title": "taken"}).json()["errors"] == [
        {"field": "title", "code": "unique", "detail": "This title is taken."}
    ]


def test_error_of_the_whole_body_has_no_field(client: Client) -> None:
    answer = post(client, {"title": "empty"}).json()
    assert answer["detail"] == "A group needs members."
    assert answer["errors"] == [
        {"field": None, "code": "no_members", "detail": "A group needs members."}
    ]


def test_json_that_cannot_be_read_is_a_parse_error(client: Client) -> None:
    answer = post(client, "{")
    assert (answer.status_code, answer.json()["code"]) == (400, "parse_error")


def test_another_media_type_is_refused_with_the_right_one(client: Client) -> None:
    answer = post(client, "title: x", content_type="text/yaml")
    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"]


def test_another_method_is_refused_with_the_right_ones(client: Client) -> None:
    answer = client.delete("/api/groups")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert "POST" in answer["Allow"]


@pytest.mark.parametrize(
    ("name", "debug"), [("broken", False), ("broken", True), ("unrenderable", False)]
)
def test_bug_is_logged_and_not_shown(
    client: Client, name: str, debug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with override_settings(DEBUG=debug):
        answer = client.get(f"/api/{name}")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert b"secret" not in answer.content
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("/api/nothing", 404, "not_found"),
        ("/api/refused", 400, "invalid"),
        ("/api/forbidden", 403, "permission_denied"),
        ("/api/disconnected", 503, "unavailable"),
    ],
)
def test_what_django_refuses_under_api_is_a_problem(
    client: Client, url: str, status: int, code: str
) -> None:
    answer = client.get(url)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer["Content-Type"] == "application/problem+json"


PAGES = [
    ("/nothing", 404, "Page not found"),
    ("/pages/refused", 400, "This request cannot be answered"),
    ("/pages/forbidden", 403, "You may not do this"),
    ("/pages/failing", 500, "Something failed here"),
    ("/pages/disconnected", 503, "Not available at the moment"),
]


@pytest.mark.parametrize(("url", "status", "title"), PAGES)
def test_what_django_refuses_elsewhere_is_a_page_with_a_way_back(
    client: Client, url: str, status: int, title: str
) -> None:
    answer = client.get(url)
    assert answer.status_code == status
    text = answer.content.decode()
    assert f"<h1>{title}</h1>" in text
    assert "sessions_app/admin.css" in text
    assert 'href="/admin/">To the console' in text
    assert ("Try again" in text) == (status >= 500)
    assert "secret" not in text


@pytest.mark.parametrize(("url", "status", "title"), PAGES)
def test_scripts_get_problems_instead_of_pages(
    client: Client, url: str, status: int, title: str
) -> None:
    answer = client.get(url, headers={"Accept": "application/json"})
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
    assert answer.json()["status"] == status


@pytest.mark.parametrize(
    ("before", "is_shown"),
    [
        ("http://testserver/admin/", True),
        ("http://testserver/nothing", False),
        ("http://elsewhere.example/", False),
        ("javascript:alert(1)", False),
        ("", False),
    ],
)
def test_a_page_leads_back_to_where_somebody_came_from_here(
    client: Client, before: str, is_shown: bool
) -> None:
    text = client.get("/nothing", headers={"Referer": before}).content.decode()
    assert (f'href="{before}">Back' in text) == is_shown
    assert (">Back<" in text) == is_shown


def test_absent_database_is_no_bug_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    error = OperationalError("connection refused")
    problems.log_failure(problem_of(error), error, "GET /")
    problems.log_failure(problem_of(SessionNotFound()), SessionNotFound(), "GET /")
    assert [(record.levelno, record.exc_info) for record in caplog.records] == [
        (logging.WARNING, None)
    ]
