"""Problem details (RFC 9457): how a client is told of every error.

`problem_of` is the only place where exceptions become problems. REST framework, Django's own error
views, the streams and the ASGI layers all answer with it.
"""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self

import psycopg
from django.contrib import admin
from django.core.exceptions import DisallowedHost, PermissionDenied, SuspiciousOperation
from django.core.exceptions import ValidationError as ModelError
from django.db import DataError
from django.http import Http404, HttpRequest, HttpResponse
from django.middleware.csrf import REASON_NO_CSRF_COOKIE
from django.template.loader import render_to_string
from django.utils.http import url_has_allowed_host_and_scheme
from rest_framework import exceptions as drf
from rest_framework.response import Response
from rest_framework.serializers import as_serializer_error
from rest_framework.settings import api_settings
from rest_framework.views import set_rollback

from amplifierd.common import migrations
from amplifierd.common.asgi import Send
from amplifierd.common.errors import DATABASE_UNAVAILABLE, ServiceError, is_unavailable
from amplifierd.common.program import command

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
# What REST framework names otherwise than our contract.
CODES = {"authentication_failed": "not_authenticated", "throttled": "too_many"}
# What to do about it, where REST framework's message does not say.
HINTS = {
    "method_not_allowed": "The Allow header names the methods of this URL.",
    "not_acceptable": "Accept application/json.",
    "unsupported_media_type": "Send application/json.",
}
# Statuses that pass by themselves: the answer says in how many seconds to try again.
PASSING = {429, 503}


@dataclass(frozen=True)
class Problem:
    """What a client gets in place of an answer; `detail` is a sentence that it can act on."""

    status: int
    code: str
    detail: str
    # Further members of the body, beside the standard ones.
    extra: dict[str, Any] = field(default_factory=dict)
    retry_after: int = 1
    more_headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def unavailable(cls, detail: str, retry_after: int = 1) -> Self:
        """Return the problem of what passes by itself, in about so many seconds."""
        return cls(503, "unavailable", detail, retry_after=retry_after)

    @property
    def headers(self) -> dict[str, str]:
        retry = {"Retry-After": str(self.retry_after)} if self.status in PASSING else {}
        return {**self.more_headers, **retry}

    @property
    def body(self) -> dict[str, Any]:
        return {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            **self.extra,
        }


INTERNAL = Problem(500, "internal", "The server failed; its log says why.")
UNAVAILABLE = Problem.unavailable("The database does not answer; try again in a moment.")
DISK_FULL = Problem.unavailable("The database's disk is full; make room on it, then try again.")
TOO_SLOW = Problem.unavailable(
    "The query took too long and was stopped; ask for less, by a limit or a filter, or raise"
    " AMPLIFIERD_STATEMENT_TIMEOUT.",
)
NOT_MIGRATED = Problem.unavailable(
    f"The database does not have its tables yet; run `{command('migrate')}`, or start `serve`.",
    retry_after=5,
)
# What a statement meets that is ahead of the migrations.
MISSING = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
)
READ_ONLY = Problem.unavailable(
    "The database takes no writes at the moment (it is read-only or in recovery); reading works, so"
    " try again in a moment.",
    retry_after=5,
)
# The database is there, and has a reason of its own.
NOT_AWAY: dict[type[BaseException], Problem] = {
    psycopg.errors.DiskFull: DISK_FULL,
    psycopg.errors.QueryCanceled: TOO_SLOW,
    psycopg.errors.ReadOnlySqlTransaction: READ_ONLY,
}
NOT_FOUND = Problem(404, "not_found", "There is nothing at this URL.")
# What was typed is still in the page before, as browsers keep it.
OLD_FORM = (
    "It was opened before you signed in or out, or not on a page of this daemon. Go back, copy what"
    " you have written, load the page again, and send it once more."
)
NO_COOKIE = (
    "The browser sent no cookie with it. Allow cookies for this address, load the page again, and"
    " send the form once more."
)
# The page that shows a problem to people, and its titles; others are those of HTTP.
PAGE = "problem.html"
TITLES = {
    400: "This request cannot be answered",
    403: "You may not do this",
    404: "Page not found",
    429: "Too many requests",
    500: "Something failed here",
    503: "Not available at the moment",
}


def problem_of(error: BaseException) -> Problem:
    """Return the problem that tells of an exception; what is not foreseen is `internal`."""
    if isinstance(error, ServiceError):
        return Problem(
            error.status, error.code, str(error), error.extra, error.retry_after, error.headers
        )
    # Django puts an error of its own around that of psycopg.
    cause = error.__cause__ or error
    if is_unavailable(error):
        return NOT_AWAY.get(type(cause), UNAVAILABLE)
    if isinstance(cause, MISSING):
        is_migrated = False
        # Nobody knows if the database does not say.
        with suppress(*DATABASE_UNAVAILABLE):
            is_migrated = migrations.is_migrated()
        if not is_migrated:
            return NOT_MIGRATED
    if isinstance(error, DataError):
        # The value passed our checks but PostgreSQL cannot hold it: a NUL, a number too large.
        return Problem(400, "invalid", "The database cannot store one of the values sent.")
    if isinstance(error, SuspiciousOperation):
        return Problem(400, "invalid", "The request was refused; check its headers and size.")
    # What Django and its models raise, as REST framework has it.
    if isinstance(error, Http404):
        error = drf.NotFound(*error.args)
    elif isinstance(error, PermissionDenied):
        error = drf.PermissionDenied(*error.args)
    elif isinstance(error, ModelError):
        error = drf.ValidationError(as_serializer_error(error))
    return _convert_api_error(error) if isinstance(error, drf.APIException) else INTERNAL


def _convert_api_error(error: drf.APIException) -> Problem:
    if isinstance(error.detail, (dict, list)):
        errors = list(_flatten(error.detail))
        detail = "The request is not valid."
        if errors:
            field, first = errors[0]["field"], errors[0]["detail"]
            more = f" ({len(errors) - 1} more in errors)" if errors[1:] else ""
            detail = (f"{field}: {first}" if field else first) + more
        return Problem(error.status_code, "invalid", detail, {"errors": errors})
    code = error.detail.code or error.default_code
    code = CODES.get(code, code)
    challenge = getattr(error, "auth_header", None)
    return Problem(
        error.status_code,
        code,
        f"{error.detail} {HINTS.get(code, '')}".rstrip(),
        retry_after=getattr(error, "wait", None) or 1,
        more_headers={"WWW-Authenticate": challenge} if challenge else {},
    )


def _flatten(detail: Any, path: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """Yield one error per message; the field is dotted, and null if it is the whole body."""
    if isinstance(detail, dict):
        for key, value in detail.items():
            whole = key == api_settings.NON_FIELD_ERRORS_KEY
            yield from _flatten(value, path if whole else (*path, str(key)))
    elif isinstance(detail, list):
        for index, value in enumerate(detail):
            nested = isinstance(value, (dict, list))
            yield from _flatten(value, (*path, str(index)) if nested else path)
    else:
        yield {"field": ".".join(path) or None, "code": detail.code, "detail": str(detail)}


def log_failure(problem: Problem, error: BaseException, where: str) -> None:
    """Log what is the server's fault, with a traceback if it is a bug."""
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        logger.warning("%s: %s", where, error)
    elif problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("%s failed", where, exc_info=error)


def exception_handler(error: Exception, context: dict[str, Any]) -> Response:
    """Answer any exception of an API view; REST framework's hook."""
    set_rollback()
    problem = problem_of(error)
    if request := context.get("request"):
        log_failure(problem, error, f"{request.method} {request.path}")
    return Response(problem.body, problem.status, headers=problem.headers, content_type=MEDIA_TYPE)


def respond(problem: Problem) -> HttpResponse:
    return HttpResponse(
        json.dumps(problem.body),
        status=problem.status,
        content_type=MEDIA_TYPE,
        headers=problem.headers,
    )


async def send_problem(send: Send, problem: Problem) -> None:
    body = json.dumps(problem.body).encode()
    fields = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), **problem.headers}
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer what Django rejects before a view is reached."""
    return _respond_or_page(request, problem_of(exception))


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _respond_or_page(request, problem_of(exception))


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _respond_or_page(request, NOT_FOUND)


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a form without the right token: it is old, or not from one of our pages."""
    problem = Problem(
        403, "csrf_failed", NO_COOKIE if reason == REASON_NO_CSRF_COOKIE else OLD_FORM
    )
    return _respond_or_page(request, problem, title="The form was not accepted")


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer an exception outside API views; Django has logged it."""
    problem = problem_of(sys.exc_info()[1] or RuntimeError())
    if _wants_json(request):
        return respond(problem)
    # Without the request: what it needs may be what failed.
    return page(problem, retry=request.get_full_path() if request.method == "GET" else "")


def _respond_or_page(request: HttpRequest, problem: Problem, **context: str) -> HttpResponse:
    """Answer with the problem below /api/ and to scripts, and with a page elsewhere."""
    if _wants_json(request):
        return respond(problem)
    return page(problem, request, back=_find_page_before(request), **context)


def _wants_json(request: HttpRequest) -> bool:
    types = ["text/html", "application/json"]
    is_api = request.path_info.startswith("/api/")
    return is_api or request.get_preferred_type(types) == "application/json"


def _find_page_before(request: HttpRequest) -> str:
    """Return the page of ours on which somebody followed a link or sent a form; empty if none."""
    before = request.META.get("HTTP_REFERER", "")
    with suppress(DisallowedHost):
        is_ours = url_has_allowed_host_and_scheme(before, {request.get_host()})
        if is_ours and before != request.build_absolute_uri():
            return before
    return ""


def page(problem: Problem, request: HttpRequest | None = None, **context: str) -> HttpResponse:
    """Return the problem as a page of the console, with ways back.

    `context` may have a `title`, and the URLs `back` and `retry`. With the request of somebody who
    is signed in, the page has the navigation; without a request it needs no database either.
    """
    context = {"title": TITLES.get(problem.status, problem.body["title"]), **context}
    if request is not None and hasattr(request, "user"):
        # Nobody knows who it is if the database does not say.
        with suppress(*DATABASE_UNAVAILABLE):
            frame = {**admin.site.each_context(request), **context, "problem": problem}
            return _render(problem, render_to_string(PAGE, frame, request))
    return _render(problem, render_to_string(PAGE, {**context, "problem": problem}))


def _render(problem: Problem, text: str) -> HttpResponse:
    return HttpResponse(text, status=problem.status, headers=problem.headers)
