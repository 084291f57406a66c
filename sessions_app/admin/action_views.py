"""The views that act on sessions: one from its page or row, many from the list, or by scripts."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    JsonResponse,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from amplifierd.common.problems import Problem, respond
from sessions_app.admin.actions import (
    LIFECYCLE_ACTIONS,
    PAGE_ACTIONS,
    ActionResult,
    LifecycleAction,
)
from sessions_app.admin.listing import ConsoleAdmin, ListingAdmin
from sessions_app.admin.rendering import page_url, render_badge, shorten_id, visible
from sessions_app.exceptions import SessionsError
from sessions_app.models import Session
from sessions_app.services import sessions

# Sessions that a message names.
NAMED_IN_MESSAGE = 10


class LifecycleAdmin(ConsoleAdmin):
    """The part of the sessions' admin that changes sessions, by the services' steps only."""

    def get_urls(self) -> list[URLPattern]:
        """Add the page of a step: POST takes it, GET asks what it needs to know."""
        view = self.admin_site.admin_view(self.step_view)
        step = path("<path:object_id>/step/<slug:name>/", view, name="sessions_app_session_step")
        return [step, *super().get_urls()]

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Delete through the service: collecting the rows here would take all of them in."""
        return self.step_view(request, object_id, "delete")

    def step_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """Take a step with one session, or ask first what it asks; then show the session."""
        step, session = LIFECYCLE_ACTIONS.get(name), self.get_object(request, unquote(object_id))
        if step is None or session is None:
            raise Http404("There is no such session, or no such step.")
        if not self.may(request, step, session):
            raise PermissionDenied
        form = step.answers(request)
        if form is not None and not form.is_valid():
            return self._ask(request, step, [session], form, page_url("session", session.id))
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self._take_all(request, step, [session], form)
        gone = not Session.objects.filter(pk=session.pk).exists()
        return HttpResponseRedirect(_list_url() if gone else page_url("session", session.id))

    def may(self, request: HttpRequest, step: LifecycleAction, session: Session) -> bool:
        """Tell whether the user may take this step with this session."""
        return getattr(self, f"has_{step.permission}_permission")(request, session)

    def _ask(
        self,
        request: HttpRequest,
        step: LifecycleAction,
        rows: list[Session],
        form: forms.Form,
        back: str,
    ) -> HttpResponse:
        """Return the page that asks; what it sends comes back here with `confirmed`."""
        many = "this session" if len(rows) == 1 else f"{len(rows)} sessions"
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{step.label} {many}?",
            "step": step,
            "form": form,
            "sessions": [
                (visible(str(row)), shorten_id(row.id), render_badge(row.status)) for row in rows
            ],
            "back": back,
        }
        return TemplateResponse(request, "admin/sessions_app/session/ask.html", context)

    def _take_all(
        self,
        request: HttpRequest,
        step: LifecycleAction,
        rows: list[Session],
        form: forms.Form | None,
    ) -> None:
        """Take a step with each session, and tell what became of them: refusals by their reason."""
        details = form.cleaned_data if form else {}
        fates: dict[str, list[str]] = {}
        for session in rows:
            refusal = self._take(request, step, session, details)
            fates.setdefault(refusal, []).append(f"“{visible(str(session))}”")
        if done := fates.pop("", []):
            verb = "was" if len(done) == 1 else "were"
            self.message_user(request, f"{_names(done)} {verb} {step.done}.", messages.SUCCESS)
        for refusal, names in fates.items():
            verb = "was" if len(names) == 1 else "were"
            text = f"{_names(names)} {verb} not {step.done}. {refusal}"
            self.message_user(request, text, messages.ERROR)

    def _take(
        self, request: HttpRequest, step: LifecycleAction, session: Session, details: dict[str, Any]
    ) -> str:
        """Take a step, with its entry in the admin's history; return why not, else nothing."""
        try:
            with transaction.atomic():
                if step.permission == "delete":
                    self.log_deletions(request, [session])
                else:
                    self.log_change(request, session, f"{step.done.capitalize()}.")
                step.take(session.id, **details)
        except SessionsError as refusal:
            return str(refusal)
        return ""


def _list_url() -> str:
    return reverse("admin:sessions_app_session_changelist")


def _names(names: list[str]) -> str:
    """Return the first few names, and how many follow."""
    more = len(names) - NAMED_IN_MESSAGE
    return ", ".join(names[:NAMED_IN_MESSAGE]) + (f" and {more} more" if more > 0 else "")


class ActionError(Exception):
    """What was asked for cannot be done; the sentence says why."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


class PageActionsAdmin:
    """The part of the sessions' admin that acts on one session."""

    def get_urls(self) -> list[URLPattern]:
        """Add the address of the acts."""
        view = self.admin_site.admin_view(self.act_view)
        act = path("<path:object_id>/act/<slug:name>/", view, name="sessions_app_session_act")
        return [act, *super().get_urls()]

    def step_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """Take a step; a script is told what came of it, everybody else shown the session."""
        step = LIFECYCLE_ACTIONS.get(name)
        if step is None or request.method != "POST" or not _wants_json(request):
            return super().step_view(request, object_id, name)
        session = self._found(request, object_id, step.permission)

        def take(answers: dict[str, Any]) -> ActionResult:
            step.take(session.id, **answers)
            return ActionResult(f"The session was {step.done}.", f"{step.done.capitalize()}.")

        return self._answer(request, session, take, step.form or forms.Form)

    def act_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """Act on a session; then show it, or the copy that was made of it."""
        act = PAGE_ACTIONS.get(name)
        if act is None:
            raise Http404("There is no such act.")
        session = self._found(request, object_id, "change")
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        by = request.user.get_username()

        def take(answers: dict[str, Any]) -> ActionResult:
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
        take: Callable[[dict[str, Any]], ActionResult],
        form: type[forms.Form],
    ) -> HttpResponse:
        try:
            done = self._act(request, session, take, form(request.POST))
        except ActionError as refused:
            return _report_error(request, session, refused)
        if _wants_json(request):
            return JsonResponse({"told": done.told, "url": done.url})
        messages.success(request, done.told)
        return HttpResponseRedirect(done.url or page_url("session", session.id))

    def _act(
        self,
        request: HttpRequest,
        session: Session,
        take: Callable[[dict[str, Any]], ActionResult],
        form: forms.Form,
    ) -> ActionResult:
        """Act, with an entry in the admin's history; raise Refused."""
        if not form.is_valid():
            faults = " ".join(error for errors in form.errors.values() for error in errors)
            raise ActionError(HTTPStatus.BAD_REQUEST, "invalid", faults)
        try:
            with transaction.atomic():
                done = take(form.cleaned_data)
                if done.logged:
                    self.log_change(request, session, done.logged)
        except SessionsError as refusal:
            raise ActionError(refusal.status, refusal.code, str(refusal)) from refusal
        return done


def _wants_json(request: HttpRequest) -> bool:
    return request.headers.get("Accept") == "application/json"


def _report_error(request: HttpRequest, session: Session, refused: ActionError) -> HttpResponse:
    if _wants_json(request):
        return respond(Problem(refused.status, refused.code, str(refused)))
    messages.error(request, f"“{visible(str(session))}” was left as it is. {refused}")
    return HttpResponseRedirect(page_url("session", session.id))


# Sessions that one action takes on, and those of them that the question names.
AT_ONCE, NAMED_IN_QUESTION = 500, 50
# What is offered for many; nothing of it happens unasked but what ends nothing.
OFFERED = ("start", "complete", "fail", "terminate", "delete")
UNASKED = ("start",)
# A button of a row: `one=terminate:session_…`.
ONE, ALL = "one", "select_across"


@dataclass(frozen=True)
class Mark:
    """What the list can do about having been read."""

    name: str
    label: str
    done: str
    take: Callable[[str], Any]


MARKS = (
    Mark("read", "Mark as read", "marked as read", sessions.mark_read),
    Mark("unread", "Mark as unread", "marked as unread", sessions.mark_unread),
)


class BulkAdmin(ListingAdmin, LifecycleAdmin):
    """The part of the sessions' admin that acts on many of them."""

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list, or act on it: a row's own button is an action on this row alone."""
        if request.method == "POST":
            request.POST = _as_action(request)
        return super().changelist_view(request, extra_context)

    def take_selected(
        self, request: HttpRequest, step: LifecycleAction, selected: QuerySet[Session]
    ) -> HttpResponse | None:
        """Take a step with each selected session, once it is confirmed; None: show the list."""
        rows, more = self.chosen(request, selected)
        form = step.answers(request)
        is_settled = form is None or form.is_valid()
        if step.name in UNASKED or ("confirmed" in request.POST and is_settled):
            self._take_all(request, step, rows, form)
            return None
        return self._ask_many(request, step, rows, form, more)

    def mark_selected(self, request: HttpRequest, mark: Mark, selected: QuerySet[Session]) -> None:
        """Set or remove the read mark of each selected session."""
        rows, _ = self.chosen(request, selected)
        gone = sum(not self._marked(request, mark, session) for session in rows)
        done = len(rows) - gone
        self.message_user(request, f"{_sessions(done)} {mark.done}.", messages.SUCCESS)

    def chosen(
        self, request: HttpRequest, selected: QuerySet[Session]
    ) -> tuple[list[Session], bool]:
        """Return the sessions that an action is about, and whether there are more of them.

        Once it has asked they are those that it asked about, whatever the filters find by now.
        """
        if request.POST.get(ALL) in ("", "0", None):
            ids = request.POST.getlist(ACTION_CHECKBOX_NAME)
            known = [one for one in ids if "\0" not in one]
            selected = self.get_queryset(request).filter(pk__in=known)
        rows = list(selected.newest_first()[: AT_ONCE + 1])
        return rows[:AT_ONCE], len(rows) > AT_ONCE

    def _ask_many(
        self,
        request: HttpRequest,
        step: LifecycleAction,
        rows: list[Session],
        form: forms.Form | None,
        more: bool,
    ) -> HttpResponse:
        """Return the page that says how many sessions this concerns, and how many it cannot."""
        unfit = Counter(session.status for session in rows if not step.suits(session))
        count = len(rows) - unfit.total()
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{step.label} {_sessions(len(rows))}?",
            "step": step,
            "form": form if form is not None and form.fields else None,
            "count": _sessions(count),
            "nothing_fits": not count,
            "unfit": [
                (_sessions(number), render_badge(status)) for status, number in unfit.items()
            ],
            "more": more,
            "at_once": AT_ONCE,
            "ids": [session.id for session in rows],
            "action": action_name(step.name),
            "sessions": [_named(session, step) for session in rows[:NAMED_IN_QUESTION]],
            "unnamed": max(0, len(rows) - NAMED_IN_QUESTION),
            "back": request.get_full_path(),
        }
        return TemplateResponse(request, "admin/sessions_app/session/ask_many.html", context)

    def _marked(self, request: HttpRequest, mark: Mark, session: Session) -> bool:
        """Set a mark, with its entry in the admin's history; False where the session is gone."""
        try:
            with transaction.atomic():
                self.log_change(request, session, f"{mark.done.capitalize()}.")
                mark.take(session.id)
        except SessionsError:
            return False
        return True


def step_action(step: LifecycleAction) -> Callable[..., Any]:
    """Return the list's action that takes this step; that of `delete` replaces Django's own."""

    @admin.action(description=f"{step.label}…", permissions=[step.permission])
    def act(page: BulkAdmin, request: HttpRequest, selected: QuerySet[Session]) -> Any:
        return page.take_selected(request, step, selected)

    act.__name__ = action_name(step.name)
    return act


def mark_action(mark: Mark) -> Callable[..., Any]:
    """Return the list's action that sets or removes read marks."""

    @admin.action(description=mark.label, permissions=["change"])
    def act(page: BulkAdmin, request: HttpRequest, selected: QuerySet[Session]) -> Any:
        return page.mark_selected(request, mark, selected)

    act.__name__ = action_name(mark.name)
    return act


def action_name(name: str) -> str:
    """Return what the list's action is called."""
    return f"{name}_selected"


ACTIONS = (
    *(step_action(LIFECYCLE_ACTIONS[name]) for name in OFFERED),
    *(mark_action(mark) for mark in MARKS),
)


def _as_action(request: HttpRequest) -> Any:
    """Return what was posted, as Django's list takes it."""
    posted = request.POST.copy()
    name, _, session_id = posted.get(ONE, "").partition(":")
    if session_id:
        posted.update({"index": "0"})
        posted.setlist("action", [action_name(name)])
        posted.setlist(ACTION_CHECKBOX_NAME, [session_id])
        posted.setlist(ALL, ["0"])
    elif posted.get(ALL) == "1":
        # Django wants to see a row that is selected.
        posted.setlistdefault(ACTION_CHECKBOX_NAME, ["all"])
    return posted


def _named(session: Session, step: LifecycleAction) -> dict[str, Any]:
    return {
        "name": visible(str(session)),
        "short": shorten_id(session.id),
        "badge": render_badge(session.status),
        "fits": step.suits(session),
    }


def _sessions(count: int) -> str:
    return "1 session" if count == 1 else f"{count:,} sessions"
