"""Steps with many sessions at once: asked first, with how many they concern; then one by one."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from sessions_app.admin.lists.pages import ListingAdmin
from sessions_app.admin.rendering import badge, short, visible
from sessions_app.admin.stepping import SteppingAdmin
from sessions_app.admin.steps import STEPS, Step
from sessions_app.exceptions import SessionsError
from sessions_app.models import Session
from sessions_app.services import read_state

# Sessions that one action takes on, and those of them that the question names.
AT_ONCE, NAMED = 500, 50
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
    Mark("read", "Mark as read", "marked as read", read_state.mark_read),
    Mark("unread", "Mark as unread", "marked as unread", read_state.mark_unread),
)


class BulkAdmin(ListingAdmin, SteppingAdmin):
    """The part of the sessions' admin that acts on many of them."""

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list, or act on it: a row's own button is an action on this row alone."""
        if request.method == "POST":
            request.POST = _as_action(request)
        return super().changelist_view(request, extra_context)

    def take_selected(
        self, request: HttpRequest, step: Step, selected: QuerySet[Session]
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
        step: Step,
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
            "unfit": [(_sessions(number), badge(status)) for status, number in unfit.items()],
            "more": more,
            "at_once": AT_ONCE,
            "ids": [session.id for session in rows],
            "action": action_name(step.name),
            "sessions": [_named(session, step) for session in rows[:NAMED]],
            "unnamed": max(0, len(rows) - NAMED),
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


def step_action(step: Step) -> Callable[..., Any]:
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
    *(step_action(STEPS[name]) for name in OFFERED),
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


def _named(session: Session, step: Step) -> dict[str, Any]:
    return {
        "name": visible(str(session)),
        "short": short(session.id),
        "badge": badge(session.status),
        "fits": step.suits(session),
    }


def _sessions(count: int) -> str:
    return "1 session" if count == 1 else f"{count:,} sessions"
