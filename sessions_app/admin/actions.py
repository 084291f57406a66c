"""The actions on a session: one table for the buttons of its page and of the lists."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import HttpRequest
from django.urls import reverse

from amplifierd.common.callers import Everyone
from sessions_app.admin.rendering import page_url, visible
from sessions_app.models import Run, Session
from sessions_app.services import clone_fork, pending_actions, runs, sessions
from sessions_app.services.runs import Strategy
from sessions_app.states import SESSION_TRANSITIONS, Answer, SessionStatus


class FailForm(forms.Form):
    """Why a session has failed."""

    error_message = forms.CharField(
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="What went wrong, for those who read the session later.",
    )


@dataclass(frozen=True)
class LifecycleAction:
    """A change of a session's status, or its deletion, by a service.

    `done` goes on after "was". An action with a form asks first; the service gets its values.
    """

    name: str
    label: str
    done: str
    run: Callable[..., Any]
    # None: possible in any state.
    target: SessionStatus | None = None
    permission: str = "change"
    form: type[forms.Form] | None = None
    warning: str = ""

    def suits(self, session: Session) -> bool:
        """Whether the session's status allows the action, as far as is known."""
        return self.target is None or self.target in SESSION_TRANSITIONS[session.status]

    def make_form(self, request: HttpRequest) -> forms.Form | None:
        if self.form is None:
            return None
        return self.form(request.POST if "confirmed" in request.POST else None)


LIFECYCLE_ACTIONS = {
    step.name: step
    for step in (
        LifecycleAction("start", "Start", "started", sessions.start, SessionStatus.ACTIVE),
        LifecycleAction(
            "complete", "Complete", "completed", sessions.complete, SessionStatus.COMPLETED
        ),
        LifecycleAction(
            "fail",
            "Fail",
            "failed",
            sessions.fail,
            SessionStatus.FAILED,
            form=FailForm,
            warning="Its open runs are cancelled, and it accepts no more messages.",
        ),
        LifecycleAction(
            "terminate", "Terminate", "terminated", sessions.terminate, SessionStatus.TERMINATED
        ),
        LifecycleAction(
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


class SendForm(forms.Form):
    """A message to be executed."""

    content = forms.CharField(
        strip=False,
        label="Message",
        widget=forms.Textarea(attrs={"rows": 2, "placeholder": "Send a message", "dir": "auto"}),
    )
    strategy = forms.ChoiceField(
        label="While a run is open",
        choices=[
            (Strategy.ENQUEUE, "wait for it"),
            (Strategy.INTERRUPT, "cancel it first"),
            (Strategy.REJECT, "do not send"),
        ],
        required=False,
    )

    def clean_content(self) -> str:
        """Return the message; raise ValidationError for one of nothing but blanks."""
        if not self.cleaned_data["content"].strip():
            raise forms.ValidationError("Write a message first.")
        return self.cleaned_data["content"]


class ForkForm(forms.Form):
    """The message after which a fork begins."""

    after = forms.IntegerField(min_value=0, max_value=2**31 - 1, required=False)


class AnswerForm(forms.Form):
    """The answer to an approval."""

    approval = forms.CharField(max_length=64)
    response = forms.ChoiceField(choices=[(word, word) for word in Answer.values])
    reason = forms.CharField(max_length=10_000, required=False)
    # Sent by the inbox, which is shown again.
    inbox = forms.BooleanField(required=False)


@dataclass(frozen=True)
class ActionResult:
    """The result of an action: a message, and the next page if it is another one.

    `logged` is the entry of the admin's history; without one it is empty.
    """

    message: str
    logged: str = ""
    url: str = ""


@dataclass(frozen=True)
class PageAction:
    """An action on a session's page: it calls a service with the values of a form.

    `by` is among the answers: the name of the user.
    """

    run: Callable[[Session, dict[str, Any]], ActionResult]
    form: type[forms.Form] = forms.Form


def send(session: Session, answers: dict[str, Any]) -> ActionResult:
    strategy = answers["strategy"] or Strategy.ENQUEUE
    run, _ = runs.send(session.id, answers["content"], strategy=strategy)
    return ActionResult("The message was sent.", f"Sent a message, run {run.id}.")


def cancel(session: Session, _: dict[str, Any]) -> ActionResult:
    """Cancel the running run, or the next queued one."""
    run = Run.objects.filter(session_id=session.id).open().first()
    if run is None or not runs.cancel(session.id, run.id):
        return ActionResult("Nothing is running, so nothing was cancelled.")
    return ActionResult("The run was cancelled.", f"Cancelled run {run.id}.")


def answer(session: Session, answers: dict[str, Any]) -> ActionResult:
    given = {name: answers[name] for name in ("reason", "by")}
    approval = pending_actions.answer(session.id, answers["approval"], answers["response"], **given)
    always = " for good" if approval.always else ""
    message = f"“{visible(approval.tool_name)}” was {approval.status}{always}."
    inbox = reverse("admin:sessions_app_approval_changelist") if answers["inbox"] else ""
    return ActionResult(message, f"Approval {approval.id}: {message}", inbox)


def clone(session: Session, _: dict[str, Any]) -> ActionResult:
    copy = clone_fork.clone(session.id, Everyone())
    return ActionResult("This is the clone.", f"Cloned to {copy.id}.", page_url("session", copy.id))


def fork(session: Session, answers: dict[str, Any]) -> ActionResult:
    copy = clone_fork.fork(session.id, answers["after"])
    return ActionResult("This is the fork.", f"Forked to {copy.id}.", page_url("session", copy.id))


def mark_read(session: Session, _: dict[str, Any]) -> ActionResult:
    sessions.mark_read(session.id)
    return ActionResult("The session is marked as read.")


PAGE_ACTIONS = {
    "send": PageAction(send, SendForm),
    "cancel": PageAction(cancel),
    "answer": PageAction(answer, AnswerForm),
    "clone": PageAction(clone),
    "fork": PageAction(fork, ForkForm),
    "read": PageAction(mark_read),
}


def build_composer(session: Session) -> SendForm | None:
    """Return the form that sends a message; None if the session accepts no messages."""
    return SendForm() if session.status == SessionStatus.ACTIVE else None
