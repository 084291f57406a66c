"""Taking steps from the console, by the services, and telling what came of each."""

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
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from sessions_app.admin.console import ConsoleAdmin
from sessions_app.admin.rendering import badge, page_url, short, visible
from sessions_app.admin.steps import STEPS, Step
from sessions_app.exceptions import SessionsError
from sessions_app.models import Session

# Sessions that a message names.
NAMED = 10


class SteppingAdmin(ConsoleAdmin):
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
        step, session = STEPS.get(name), self.get_object(request, unquote(object_id))
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

    def may(self, request: HttpRequest, step: Step, session: Session) -> bool:
        """Tell whether the user may take this step with this session."""
        return getattr(self, f"has_{step.permission}_permission")(request, session)

    def _ask(
        self,
        request: HttpRequest,
        step: Step,
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
            "sessions": [(visible(str(row)), short(row.id), badge(row.status)) for row in rows],
            "back": back,
        }
        return TemplateResponse(request, "admin/sessions_app/session/ask.html", context)

    def _take_all(
        self, request: HttpRequest, step: Step, rows: list[Session], form: forms.Form | None
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
        self, request: HttpRequest, step: Step, session: Session, details: dict[str, Any]
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
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
