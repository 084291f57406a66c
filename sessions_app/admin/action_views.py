"""The views of the actions: on one session from its page or row, on many from the list."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

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
from django.urls import reverse

from sessions_app.admin.actions import (
    LIFECYCLE_ACTIONS,
    PAGE_ACTIONS,
    ActionResult,
    LifecycleAction,
)
from sessions_app.admin.listing import ListingAdmin
from sessions_app.admin.rendering import page_url, visible
from sessions_app.exceptions import SessionsError
from sessions_app.models import Session
from sessions_app.models.querysets import SessionQuerySet
from sessions_app.services import sessions

# Sessions that one action of the list changes at most, that its question names, and that a message
# names.
AT_ONCE, NAMED_IN_QUESTION, NAMED_IN_MESSAGE = 500, 50, 10
# Actions of the list that run without a question: they end nothing.
UNASKED = ("start",)
# A button of a row: `one=terminate:session_…`.
ONE, ALL = "one", "select_across"
FOLDER = "admin/sessions_app/session"


@dataclass(frozen=True)
class Mark:
    """A read mark that the list sets or removes."""

    name: str
    label: str
    done: str
    run: Callable[[str], Any]


MARKS = (
    Mark("read", "Mark as read", "marked as read", sessions.mark_read),
    Mark("unread", "Mark as unread", "marked as unread", sessions.mark_unread),
)


class SessionActionsAdmin(ListingAdmin):
    """The part of the sessions' admin that changes sessions, only through services."""

    # POST runs an action, GET shows its form.
    pages = {
        "<path:object_id>/lifecycle/<slug:name>/": "lifecycle",
        "<path:object_id>/action/<slug:name>/": "action",
    }

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list, or run an action; the button of a row is an action on this row only."""
        if request.method == "POST":
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
            # The stubs want a QueryDict that cannot be changed, which has no class of its own.
            request.POST = posted  # type: ignore[assignment]
        return super().changelist_view(request, extra_context)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Delete through the service, which does not load all rows."""
        return self.lifecycle_view(request, object_id, "delete")

    def lifecycle_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """Run a lifecycle action on one session, or ask first; then show the session.

        A script gets the result as JSON.
        """
        action = LIFECYCLE_ACTIONS.get(name)
        if action is None:
            raise Http404("There is no such action.")
        session = self.find_session(request, object_id, action.permission)
        if request.method == "POST" and _wants_json(request):

            def run(answers: dict[str, Any]) -> ActionResult:
                action.run(session.id, **answers)
                return ActionResult(
                    f"The session was {action.done}.", f"{action.done.capitalize()}."
                )

            return self.run_page_action(request, session, run, action.form or forms.Form)
        form = action.make_form(request)
        if form is not None and not form.is_valid():
            context = {
                "title": f"{action.label} this session?",
                "action": action,
                "form": form,
                "session": session,
                "back": page_url("session", session.id),
            }
            return self.render_page(request, f"{FOLDER}/ask.html", context)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self.run_on_all(request, action, [session], form)
        gone = not Session.objects.filter(pk=session.pk).exists()
        sessions_url = reverse("admin:sessions_app_session_changelist")
        return HttpResponseRedirect(sessions_url if gone else page_url("session", session.id))

    def action_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """Run an action of the session's page; then show the page, or the new copy."""
        action = PAGE_ACTIONS.get(name)
        if action is None:
            raise Http404("There is no such action.")
        session = self.find_session(request, object_id, "change")
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        by = request.user.get_username()

        def run(answers: dict[str, Any]) -> ActionResult:
            return action.run(session, {**answers, "by": by})

        return self.run_page_action(request, session, run, action.form)

    def find_session(self, request: HttpRequest, object_id: str, permission: str) -> Session:
        """Return the session; raise Http404, and PermissionDenied without the permission."""
        session = self.get_object(request, unquote(object_id))
        if session is None:
            raise Http404("There is no such session.")
        if not getattr(self, f"has_{permission}_permission")(request, session):
            raise PermissionDenied
        return session

    def list_actions(self, request: HttpRequest, session: Session) -> list[LifecycleAction]:
        """Return the lifecycle actions that the session's status and the user's rights allow."""
        return [
            action
            for action in LIFECYCLE_ACTIONS.values()
            if action.suits(session)
            and getattr(self, f"has_{action.permission}_permission")(request, session)
        ]

    def run_page_action(
        self,
        request: HttpRequest,
        session: Session,
        run: Callable[[dict[str, Any]], ActionResult],
        form_class: type[forms.Form],
    ) -> HttpResponse:
        """Run an action, with an entry in the admin's history; answer with a page or JSON."""
        form = form_class(request.POST)
        status: int = HTTPStatus.BAD_REQUEST
        code, detail = "invalid", ""
        if form.is_valid():
            try:
                with transaction.atomic():
                    result = run(form.cleaned_data)
                    if result.logged:
                        self.log_change(request, session, result.logged)
            except SessionsError as error:
                status, code, detail = error.status, error.code, str(error)
            else:
                if _wants_json(request):
                    return JsonResponse({"message": result.message, "url": result.url})
                messages.success(request, result.message)
                return HttpResponseRedirect(result.url or page_url("session", session.id))
        else:
            detail = " ".join(str(error) for errors in form.errors.values() for error in errors)
        if _wants_json(request):
            problem = {"status": status, "code": code, "detail": detail}
            kind = "application/problem+json"
            return JsonResponse(problem, status=status, content_type=kind)
        messages.error(request, f"“{visible(str(session))}” was left as it is. {detail}")
        return HttpResponseRedirect(page_url("session", session.id))

    def run_selected(
        self, request: HttpRequest, action: LifecycleAction, selected: QuerySet[Session]
    ) -> HttpResponse | None:
        """Run a confirmed action on each selected session; None: show the list."""
        rows, more = self.choose(request, selected)
        form = action.make_form(request)
        is_valid = form is None or form.is_valid()
        if action.name in UNASKED or ("confirmed" in request.POST and is_valid):
            self.run_on_all(request, action, rows, form)
            return None
        unfit = Counter(session.status for session in rows if not action.suits(session))
        count = len(rows) - unfit.total()
        context = {
            "title": f"{action.label} {_count_sessions(len(rows))}?",
            "action": action,
            "form": form if form is not None and form.fields else None,
            "count": _count_sessions(count),
            "nothing_fits": not count,
            "unfit": [(_count_sessions(n), status) for status, n in unfit.items()],
            "more": more,
            "at_once": AT_ONCE,
            "ids": [session.id for session in rows],
            "action_name": action_name(action.name),
            "sessions": [(session, action.suits(session)) for session in rows[:NAMED_IN_QUESTION]],
            "unnamed": max(0, len(rows) - NAMED_IN_QUESTION),
            "back": request.get_full_path(),
        }
        return self.render_page(request, f"{FOLDER}/ask_many.html", context)

    def mark_selected(self, request: HttpRequest, mark: Mark, selected: QuerySet[Session]) -> None:
        """Set or remove the read mark of each selected session, with an entry in the history."""
        rows, _ = self.choose(request, selected)
        done = 0
        for session in rows:
            try:
                with transaction.atomic():
                    self.log_change(request, session, f"{mark.done.capitalize()}.")
                    mark.run(session.id)
                done += 1
            except SessionsError:
                # The session was deleted meanwhile.
                continue
        self.message_user(request, f"{_count_sessions(done)} {mark.done}.", messages.SUCCESS)

    def choose(
        self, request: HttpRequest, selected: QuerySet[Session]
    ) -> tuple[list[Session], bool]:
        """Return the sessions that an action is about, and whether there are more of them.

        Once it has asked they are those that it asked about, whatever the filters find by now.
        """
        if request.POST.get(ALL) in ("", "0", None):
            ids = request.POST.getlist(ACTION_CHECKBOX_NAME)
            known = [one for one in ids if "\0" not in one]
            selected = self.get_queryset(request).filter(pk__in=known)
        # The stubs do not know that an admin begins with the model's own manager.
        rows = list(cast("SessionQuerySet", selected).newest_first()[: AT_ONCE + 1])
        return rows[:AT_ONCE], len(rows) > AT_ONCE

    def run_on_all(
        self,
        request: HttpRequest,
        action: LifecycleAction,
        rows: list[Session],
        form: forms.Form | None,
    ) -> None:
        """Run an action on each session, with entries in the history; report errors by reason."""
        details = form.cleaned_data if form else {}
        # The names of the sessions by error; those without one have "".
        outcomes: dict[str, list[str]] = {"": []}
        for session in rows:
            error = ""
            try:
                with transaction.atomic():
                    if action.permission == "delete":
                        # Django accepts any list of rows; the stubs require a queryset.
                        self.log_deletions(request, [session])  # type: ignore[arg-type]
                    else:
                        self.log_change(request, session, f"{action.done.capitalize()}.")
                    action.run(session.id, **details)
            except SessionsError as failure:
                error = str(failure)
            outcomes.setdefault(error, []).append(f"“{visible(str(session))}”")
        for error, names in outcomes.items():
            if not names:
                continue
            more = len(names) - NAMED_IN_MESSAGE
            listed = ", ".join(names[:NAMED_IN_MESSAGE]) + (f" and {more} more" if more > 0 else "")
            verb = "was" if len(names) == 1 else "were"
            if error:
                text = f"{listed} {verb} not {action.done}. {error}"
                self.message_user(request, text, messages.ERROR)
            else:
                self.message_user(request, f"{listed} {verb} {action.done}.", messages.SUCCESS)


def make_list_action(
    action: LifecycleAction | Mark, label: str, permission: str, run: Callable[..., Any]
) -> Callable[..., Any]:
    """Return an action for Django's list; the one for `delete` replaces Django's own."""

    @admin.action(description=label, permissions=[permission])
    def run_list_action(page: Any, request: HttpRequest, selected: QuerySet[Session]) -> Any:
        return run(page, request, action, selected)

    run_list_action.__name__ = action_name(action.name)
    return run_list_action


def action_name(name: str) -> str:
    return f"{name}_selected"


ACTIONS = (
    *(
        make_list_action(
            action, f"{action.label}…", action.permission, SessionActionsAdmin.run_selected
        )
        for action in LIFECYCLE_ACTIONS.values()
    ),
    *(
        make_list_action(mark, mark.label, "change", SessionActionsAdmin.mark_selected)
        for mark in MARKS
    ),
)


def _wants_json(request: HttpRequest) -> bool:
    return request.headers.get("Accept") == "application/json"


def _count_sessions(count: int) -> str:
    return "1 session" if count == 1 else f"{count:,} sessions"
