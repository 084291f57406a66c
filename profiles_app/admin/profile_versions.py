"""The versions of a profile in the console: all of them, one as it was, two side by side."""

import json
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from amplifierd.common.text import visible
from profiles_app.admin.profile_pages import version_text
from profiles_app.diff import SIZE_LIMIT, Differences, Row, compare_versions, pair_lines
from profiles_app.exceptions import VersionNotFound
from profiles_app.models import Profile, ProfileVersion
from profiles_app.profile_format import render_profile
from profiles_app.services.profiles import find_pair, list_versions

PAGE = 50
# Characters of a value that the table of differences shows.
SHOWN = 300
NUMBER_LENGTH = 9


class VersionPages:
    """The part of the profiles' admin that shows versions."""

    def get_urls(self) -> list[URLPattern]:
        """Add the pages of versions."""
        pages = {
            "versions/": (self.versions_view, "versions"),
            "versions/compare/": (self.compare_view, "compare"),
            "versions/<int:number>/": (self.version_view, "version"),
        }
        added = [
            path(
                f"<path:object_id>/{tail}",
                self.admin_site.admin_view(view),
                name=f"profiles_app_profile_{name}",
            )
            for tail, (view, name) in pages.items()
        ]
        return [*added, *super().get_urls()]

    def versions_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show all versions, newest first."""
        profile = self.found(request, object_id)
        found = Paginator(list_versions(profile), PAGE).get_page(request.GET.get("page"))
        context = {
            "title": f"Versions of {profile}",
            "versions": found,
            "first": max(profile.version_number - 1, 1),
            "second": profile.version_number,
        }
        return self._shown(request, profile, "versions", context)

    def version_view(self, request: HttpRequest, object_id: str, number: int) -> HttpResponse:
        """Show a version as it was written."""
        profile = self.found(request, object_id)
        try:
            text = version_text(profile, number)
        except VersionNotFound as missing:
            return self._missing(request, profile, missing)
        context = {"title": f"{profile}, version {number}", "number": number, "text": text}
        return self._shown(request, profile, "version", context)

    def compare_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show two versions side by side: by default the newest, and the one before it."""
        profile = self.found(request, object_id)
        first, second = (_number(request.GET.get(key, "")) for key in ("from", "to"))
        try:
            old, new = find_pair(profile, first, second)
        except VersionNotFound as missing:
            return self._missing(request, profile, missing)
        context = {
            "title": f"{profile}: version {old.number} and version {new.number}",
            "old": old,
            "new": new,
            "parts": _parts(compare_versions(old, new)),
            "rows": _rows(old, new),
            "old_label": f"Version {old.number}",
            "new_label": f"Version {new.number}",
            "older": old.number - 1,
            "newer": new.number + 1 if new.number < profile.version_number else 0,
        }
        return self._shown(request, profile, "compare", context)

    def _shown(
        self, request: HttpRequest, profile: Profile, name: str, context: dict[str, Any]
    ) -> HttpResponse:
        whole = {
            **self.admin_site.each_context(request),
            **self.allowed(request, profile),
            **context,
            "profile": profile,
            "opts": self.opts,
            "media": self.media,
        }
        return TemplateResponse(request, f"admin/profiles_app/profile/{name}.html", whole)

    def _missing(
        self, request: HttpRequest, profile: Profile, missing: VersionNotFound
    ) -> HttpResponse:
        messages.error(request, str(missing))
        url = reverse("admin:profiles_app_profile_versions", args=[profile.pk])
        return HttpResponseRedirect(url)


def _number(sent: str) -> int | None:
    """Return the number of a version; None, by default, for what is none."""
    is_number = sent.isascii() and sent.isdecimal() and len(sent) <= NUMBER_LENGTH
    return int(sent) if is_number else None


def _parts(found: Differences) -> list[dict[str, str]]:
    """Return what differs, by path, with its values as short texts."""
    return [
        {
            "kind": kind,
            "path": visible(part["path"]),
            "before": _short(part["before"]) if "before" in part else "",
            "after": _short(part["after"]) if "after" in part else "",
        }
        for kind in ("changed", "added", "removed")
        for part in getattr(found, kind)
    ]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return visible(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


def _rows(old: ProfileVersion, new: ProfileVersion) -> list[Row] | None:
    """Return the lines of two versions as files, in pairs; None where they are too long."""
    texts = [visible(render_profile(version)) for version in (old, new)]
    return pair_lines(*texts) if max(map(len, texts)) <= SIZE_LIMIT else None
