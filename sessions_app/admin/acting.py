"""Acting on one session from its page: by forms, or by its scripts, which are answered in JSON."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    JsonResponse,
)
from django.urls import URLPattern, path

from amplifierd.common.problems import Problem, respond
from sessions_app.admin.acts import ACTS, Done
from sessions_app.admin.rendering import page_url, visible
from sessions_app.admin.steps import STEPS
from sessions_app.exceptions import SessionsError
from sessions_app.models import Session


class Refused(Exception):
    """What was asked for cannot be done; the sentence says why."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


class ActingAdmin:
    """The part of the sessions' admin that acts on one session."""

    def get_urls(self) -> list[URLPattern]:
        """Add the address of the acts."""
        view = self.admin_site.admin_view(self.act_view)
        act = path("<path:object_id>/act/<slug:name>/", view, name="sessions_app_session_act")
        return [act, *super().get_urls()]

    def step_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """Take a step; a script is told what came of it, everybody else shown the session."""
        step = STEPS.get(name)
        if step is None or request.method != "POST" or not _wants_json(request):
            return super().step_view(request, object_id, name)
        session = self._found(request, object_id, step.permission)

        def take(answers: dict[str, Any]) -> Done:
            step.take(session.id, **answers)
            return Done(f"The session was {step.done}.", f"{step.done.capitalize()}.")

        return self._answer(request, session, take, step.form or forms.Form)

    def act_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """Act on a session; then show it, or the copy that was made of it."""
        act = ACTS.get(name)
        if act is None:
            raise Http404("There is no such act.")
        session = self._found(request, object_id, "change")
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        by = request.user.get_username()

        def take(answers: dict[str, Any]) -> Done:
            return act.take(session, {**answers, "by": by})

        return self._answer(request, session, take, act.form)

    def _found(self, request: HttpRequest, object_id: str, permission: str) -> Session:
        session = self.get_object(request, unquote(object_id))
        if session is None:
            raise Http404("There is no such session.")
        if not getattr(self, f"has_{permission}_permission")(request, session):
            raise PermissionDenied
        return session

    def _answer(
        self,
        request: HttpRequest,
        session: Session,
        take: Callable[[dict[str, Any]], Done],
        form: type[forms.Form],
    ) -> HttpResponse:
        try:
            done = self._act(request, session, take, form(request.POST))
        except Refused as refused:
            return _told_refusal(request, session, refused)
        if _wants_json(request):
            return JsonResponse({"told": done.told, "url": done.url})
        messages.success(request, done.told)
        return HttpResponseRedirect(done.url or page_url("session", session.id))

    def _act(
        self,
        request: HttpRequest,
        session: Session,
        take: Callable[[dict[str, Any]], Done],
        form: forms.Form,
    ) -> Done:
        """Act, with an entry in the admin's history; raise Refused."""
        if not form.is_valid():
            faults = " ".join(error for errors in form.errors.values() for error in errors)
            raise Refused(HTTPStatus.BAD_REQUEST, "invalid", faults)
        try:
            with transaction.atomic():
                done = take(form.cleaned_data)
                if done.logged:
                    self.log_change(request, session, done.logged)
        except SessionsError as refusal:
            raise Refused(refusal.status, refusal.code, str(refusal)) from refusal
        return done


def _wants_json(request: HttpRequest) -> bool:
    return request.headers.get("Accept") == "application/json"


def _told_refusal(request: HttpRequest, session: Session, refused: Refused) -> HttpResponse:
    if _wants_json(request):
        return respond(Problem(refused.status, refused.code, str(refused)))
    messages.error(request, f"“{visible(str(session))}” was left as it is. {refused}")
    return HttpResponseRedirect(page_url("session", session.id))
