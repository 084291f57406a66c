"""Pieces of a session's page, for its scripts: rendered here, where what was said is made safe."""

from typing import Any

from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, JsonResponse
from django.template.loader import render_to_string
from django.urls import URLPattern, path

from sessions_app.admin import page
from sessions_app.admin.rendering import badge
from sessions_app.admin.talk import one, talk
from sessions_app.admin.waits import Waits, waits_of
from sessions_app.models import Run, Session

# Columns that are read with the head of a session only.
LARGE = ("mount_plan", "settings_overrides", "metadata", "error_details")
FOLDER = "admin/sessions_app/session"


class FragmentsAdmin:
    """The part of the sessions' admin that a session's page is refreshed from."""

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses of the pieces."""
        views = (
            ("talk/", self.talk_view, "talk"),
            ("message/<int:seq>/", self.message_view, "message"),
            ("waits/<str:run_id>/", self.waits_view, "waits"),
            ("head/", self.head_view, "head"),
        )
        pieces = [
            path(
                f"<path:object_id>/{tail}",
                self.admin_site.admin_view(view),
                name=f"sessions_app_session_{name}",
            )
            for tail, view, name in views
        ]
        return [*pieces, *super().get_urls()]

    def talk_view(self, request: HttpRequest, object_id: str) -> JsonResponse:
        """Return the messages before, after or around a seq."""
        session = self._seen(request, object_id)
        names = ("before", "after", "around")
        found = talk(session, **{name: page.seq(request.GET.get(name)) for name in names})
        context = self._context(request, session)
        pieces = [_message(request, {**context, "message": message}) for message in found.rows]
        bounds = {"first": found.first, "last": found.last, "newest": found.newest}
        return JsonResponse({"html": "".join(pieces), **bounds})

    def message_view(self, request: HttpRequest, object_id: str, seq: int) -> JsonResponse:
        """Return one message; with `?whole` all of it, however long."""
        session = self._seen(request, object_id)
        message = one(session, seq, whole="whole" in request.GET) if seq < 2**31 else None
        if message is None:
            raise Http404("There is no such message.")
        context = {**self._context(request, session), "message": message}
        return JsonResponse({"html": _message(request, context)})

    def waits_view(self, request: HttpRequest, object_id: str, run_id: str) -> JsonResponse:
        """Return how a run stands, what it waits for, and what it has waited for."""
        session = self._seen(request, object_id)
        run = Run.objects.filter(session_id=session.id, pk=run_id).first()
        if run is None:
            raise Http404("There is no such run.")
        waits = waits_of([run.id]).get(run.id, Waits())
        context = {**self._context(request, session), "waits": waits, "tasks": waits.tasks}
        html = render_to_string(f"{FOLDER}/waits.html", context, request)
        told = {"status": run.status, "badge": badge(run.status), "told": waits.told(run)}
        return JsonResponse({"html": html, **told})

    def head_view(self, request: HttpRequest, object_id: str) -> JsonResponse:
        """Return what changes on the page as the session goes on."""
        session = self._seen(request, object_id)
        session.refresh_from_db(fields=LARGE)
        context = {**self._context(request, session), **page.head(session)}
        context["steps"] = [step for step in context["steps"] if self.may(request, step, session)]
        return JsonResponse(
            {
                "head": render_to_string(f"{FOLDER}/head.html", context, request),
                "side": render_to_string(f"{FOLDER}/side.html", context, request),
                "end": render_to_string(f"{FOLDER}/end.html", context, request),
                "composer": render_to_string(f"{FOLDER}/composer.html", context, request),
                "status": session.status,
                "newest": session.message_count,
            }
        )

    def _seen(self, request: HttpRequest, object_id: str) -> Session:
        """Return a session that the user may look at."""
        session = self.get_object(request, unquote(object_id))
        if session is None:
            raise Http404("There is no such session.")
        if not self.has_view_permission(request, session):
            raise PermissionDenied
        return session

    def _context(self, request: HttpRequest, session: Session) -> dict[str, Any]:
        may_change = self.has_change_permission(request, session)
        return {"opts": self.opts, "session": session, "may_change": may_change}


def _message(request: HttpRequest, context: dict[str, Any]) -> str:
    return render_to_string(f"{FOLDER}/message.html", context, request)
