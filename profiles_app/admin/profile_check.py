"""Checking a profile's text while somebody types it."""

import json
from http import HTTPStatus

from django.http import HttpRequest, JsonResponse
from django.urls import URLPattern, path

from profiles_app.admin.profile_pages import Draft
from profiles_app.models import Profile
from profiles_app.services import profile_validation


class CheckPages:
    """The part of the profiles' admin that the editor's script asks."""

    def get_urls(self) -> list[URLPattern]:
        """Add the address of the check."""
        view = self.admin_site.admin_view(self.check_view)
        return [path("check/", view, name="profiles_app_profile_check"), *super().get_urls()]

    def check_view(self, request: HttpRequest) -> JsonResponse:
        """Answer a posted `{"text": …}` with the mistakes in it; nothing is changed.

        `?profile=` is the key of the local profile that the text is for; a new one has none.
        """
        if request.method != "POST":
            return _refused(HTTPStatus.METHOD_NOT_ALLOWED, "not_allowed", "Send a POST.")
        if not self.has_view_permission(request):
            return _refused(HTTPStatus.FORBIDDEN, "permission_denied", "You may not see profiles.")
        text = _sent_text(request)
        if text is None:
            return _refused(HTTPStatus.BAD_REQUEST, "invalid", 'Send {"text": "…"} as JSON.')
        name = _name(request)
        if name == "":
            return _refused(HTTPStatus.NOT_FOUND, "not_found", "The profile is there no longer.")
        draft = Draft(text, 0, profile_validation.find_mistakes(text, name))
        return JsonResponse({"mistakes": draft.told(), "is_wrong": draft.is_wrong})


def _sent_text(request: HttpRequest) -> str | None:
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError):
        return None
    text = body.get("text") if isinstance(body, dict) else None
    return text if isinstance(text, str) else None


def _name(request: HttpRequest) -> str | None:
    """Return the name of the profile that is meant: None for a new one, empty where it is gone."""
    key = request.GET.get("profile")
    if key is None:
        return None
    if not (key.isascii() and key.isdecimal() and len(key) < 18):
        return ""
    return Profile.objects.filter(pk=int(key)).values_list("name", flat=True).first() or ""


def _refused(status: int, code: str, detail: str) -> JsonResponse:
    return JsonResponse({"status": status, "code": code, "detail": detail}, status=status)
