"""The versions of a profile in the console: a list, one version, two side by side."""

import json
from typing import Any

from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from amplifierd.common.console import ConsolePages
from amplifierd.common.text import excerpt, visible
from profiles_app.diff import SIZE_LIMIT, compare_versions, pair_lines
from profiles_app.exceptions import VersionNotFound
from profiles_app.models import Profile
from profiles_app.profile_format import render_profile
from profiles_app.services.profiles import find_pair, find_version

TEMPLATES = "admin/profiles_app/profile"
PAGE = 50
# Characters of a value that the table of differences shows.
SHOWN = 300
NUMBER_LENGTH = 9


class VersionPages(ConsolePages):
    """The part of the profiles' admin that finds profiles and shows their versions."""

    pages = {
        "<path:object_id>/versions/": "versions",
        "<path:object_id>/versions/compare/": "compare",
        "<path:object_id>/versions/<int:number>/": "version",
    }

    def versions_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        profile = self.find_profile(request, object_id)
        context = {
            "title": f"Versions of {profile}",
            "versions": Paginator(profile.versions.newest_first(), PAGE).get_page(
                request.GET.get("page")
            ),
            "first": max(profile.version_number - 1, 1),
            "second": profile.version_number,
        }
        return self.render(request, "versions", context, profile)

    def version_view(self, request: HttpRequest, object_id: str, number: int) -> HttpResponse:
        profile = self.find_profile(request, object_id)
        try:
            text = render_profile(find_version(profile, number))
        except VersionNotFound as missing:
            return self.redirect_to_versions(request, profile, missing)
        context = {"title": f"{profile}, version {number}", "number": number, "text": text}
        return self.render(request, "version", context, profile)

    def compare_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show two versions side by side: by default the newest, and the one before it."""
        profile = self.find_profile(request, object_id)
        first, second = (parse_number(request.GET.get(key)) for key in ("from", "to"))
        try:
            old, new = find_pair(profile, first, second)
        except VersionNotFound as missing:
            return self.redirect_to_versions(request, profile, missing)
        differences = compare_versions(old, new)
        texts = [visible(render_profile(version)) for version in (old, new)]
        context = {
            "title": f"{profile}: version {old.number} and version {new.number}",
            "old": old,
            "new": new,
            "parts": [
                {
                    "kind": kind,
                    "path": visible(part["path"]),
                    "before": _shorten(part["before"]) if "before" in part else "",
                    "after": _shorten(part["after"]) if "after" in part else "",
                }
                for kind in ("changed", "added", "removed")
                for part in getattr(differences, kind)
            ],
            # None if they are too long to be compared.
            "rows": pair_lines(*texts) if max(map(len, texts)) <= SIZE_LIMIT else None,
            "old_label": f"Version {old.number}",
            "new_label": f"Version {new.number}",
            "older": old.number - 1,
            "newer": new.number + 1 if new.number < profile.version_number else 0,
        }
        return self.render(request, "compare", context, profile)

    def find_profile(self, request: HttpRequest, object_id: str) -> Profile:
        """Return the profile; raise Http404, or PermissionDenied if the user may not see it."""
        profile = self.get_object(request, unquote(object_id))
        if profile is None:
            raise Http404("There is no such profile.")
        if not self.has_view_or_change_permission(request, profile):
            raise PermissionDenied
        return profile

    def list_permissions(self, request: HttpRequest, profile: Profile) -> dict[str, bool]:
        return {
            "may_edit": self.has_change_permission(request, profile),
            "may_mark": super().has_change_permission(request),
            "may_copy": self.has_add_permission(request),
            "may_delete": super().has_delete_permission(request) and profile.is_local,
        }

    def render(
        self,
        request: HttpRequest,
        name: str,
        context: dict[str, Any],
        profile: Profile | None = None,
    ) -> HttpResponse:
        """Return a page, if it is about a profile with what the user may do."""
        may = self.list_permissions(request, profile) if profile else {}
        context = {"media": self.media, "profile": profile, **may, **context}
        return self.render_page(request, f"{TEMPLATES}/{name}.html", context)

    def redirect_to_versions(
        self, request: HttpRequest, profile: Profile, missing: VersionNotFound
    ) -> HttpResponse:
        messages.error(request, str(missing))
        url = reverse("admin:profiles_app_profile_versions", args=[profile.pk])
        return HttpResponseRedirect(url)


def parse_number(sent: str | None) -> int | None:
    if sent and sent.isascii() and sent.isdecimal() and len(sent) <= NUMBER_LENGTH:
        return int(sent)
    return None


def _shorten(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return visible(excerpt(text, SHOWN))
