"""What an operator can do to sessions: one table for a page's buttons and the list's actions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import HttpRequest

from sessions_app.models import Session
from sessions_app.services import sessions
from sessions_app.states import SESSION_TRANSITIONS, SessionStatus


class FailForm(forms.Form):
    """Why a session has failed."""

    error_message = forms.CharField(
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="What went wrong, for those who read the session later.",
    )


@dataclass(frozen=True)
class Step:
    """Something to be done to a session, by a service.

    `done` goes on after "was". A step with a form asks first; the form's values go to the service.
    """

    name: str
    label: str
    done: str
    take: Callable[..., Any]
    # None: possible in any state.
    target: SessionStatus | None = None
    permission: str = "change"
    form: type[forms.Form] | None = None
    warning: str = ""

    def suits(self, session: Session) -> bool:
        """Tell whether the session's status allows the step, as far as is known."""
        return self.target is None or self.target in SESSION_TRANSITIONS[session.status]

    def answers(self, request: HttpRequest) -> forms.Form | None:
        """Return the form, with the answers if there are any; None where nothing is asked."""
        if self.form is None:
            return None
        return self.form(request.POST if "confirmed" in request.POST else None)


STEPS = {
    step.name: step
    for step in (
        Step("start", "Start", "started", sessions.start, SessionStatus.ACTIVE),
        Step("complete", "Complete", "completed", sessions.complete, SessionStatus.COMPLETED),
        Step(
            "fail",
            "Fail",
            "failed",
            sessions.fail,
            SessionStatus.FAILED,
            form=FailForm,
            warning="Its open runs are cancelled, and it takes no more messages.",
        ),
        Step("terminate", "Terminate", "terminated", sessions.terminate, SessionStatus.TERMINATED),
        Step(
            "delete",
            "Delete",
            "deleted",
            sessions.delete,
            permission="delete",
            form=forms.Form,
            warning="Its transcript, runs and journal go with it. This cannot be undone.",
        ),
    )
}
