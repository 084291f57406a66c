"""Profiles in the console: find, read, and edit as the text of their file."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    JsonResponse,
)
from django.urls import reverse

from amplifierd.common.text import excerpt, visible
from profiles_app.admin.profile_versions import TEMPLATES, VersionPages, parse_number
from profiles_app.diff import Row, pair_lines
from profiles_app.exceptions import (
    ProfileActive,
    ProfileExists,
    ProfileReadOnly,
    ProfilesError,
    StaleVersion,
)
from profiles_app.models import Profile
from profiles_app.profile_format import render_profile
from profiles_app.services import profile_validation, profiles
from profiles_app.services.profile_validation import FRONT_LIMIT, Mistake

# How many versions a profile's page shows; the page of versions shows all.
VERSIONS = 10
# Characters of a line that a mistake quotes.
QUOTED = 120
SKELETON = """---
schema_version: 2
profile:
  name: my-profile
  version: "1.0.0"
  description: "What it is for, in a sentence."
session:
  orchestrator:
    module: loop-streaming
  context:
    module: context-simple
providers:
  - module: provider-local
    config:
      temperature: 0.2
      max_tokens: 512
---

Say here how the model is to answer.
"""
# Messages for the console, for errors whose own message is about the API.
WORDS: dict[type[ProfilesError], str] = {
    ProfileActive: "The active profile stays. Deactivate it, or activate another one, first.",
    ProfileReadOnly: "It comes from a file and cannot change here. Copy it, and change the copy.",
    ProfileExists: "There is a local profile of this name already. Choose another name.",
}


@dataclass
class ProfileDraft:
    """A text in the editor, the version that it is based on, and its errors."""

    text: str
    seen: int
    mistakes: list[Mistake] = field(default_factory=list)
    error: str = ""
    # If another user saved meanwhile: the differences between the saved text and this one.
    is_stale: bool = False
    was_seen: int = 0
    differences: list[Row] | None = None

    @property
    def is_wrong(self) -> bool:
        return any(mistake.is_grave for mistake in self.mistakes)

    def become_stale(self, current: Profile, text: str, expected: int) -> None:
        """Compare this text with the saved one, on which the next attempt is based."""
        self.is_stale, self.was_seen = True, expected
        self.seen = current.version_number
        self.differences = pair_lines(visible(text), visible(self.text))

    def list_mistakes(self) -> list[dict[str, Any]]:
        # The number of a line begins at 1, and may be beyond the end.
        lines = dict(enumerate(self.text.split("\n"), start=1))
        return [
            {
                "line": mistake.line,
                "detail": visible(mistake.detail),
                "is_grave": mistake.is_grave,
                "quoted": visible(excerpt(lines.get(mistake.line, "").strip(), QUOTED)),
            }
            for mistake in self.mistakes
        ]


@dataclass
class ProfileActionResult:
    """The result of an action: a message, an entry for the history, and a created profile."""

    message: str
    logged: str = ""
    made: Profile | None = None


def activate(profile: Profile, sent: dict[str, str]) -> ProfileActionResult:
    profiles.activate(str(profile))
    message = f"{profile} is the active profile now: clients offer it first."
    return ProfileActionResult(message, "Activated.")


def deactivate(profile: Profile, sent: dict[str, str]) -> ProfileActionResult:
    if profile.is_active:
        profiles.deactivate()
    return ProfileActionResult("No profile is active now.", "Deactivated.")


def check(profile: Profile, sent: dict[str, str]) -> ProfileActionResult:
    profile_validation.compile_profile(str(profile))
    warnings = profile_validation.find_warnings(profile.definition)
    details = "".join(f" But: {warning['detail']}" for warning in warnings)
    return ProfileActionResult(f"A session would find all that {profile} names.{details}")


def copy(profile: Profile, sent: dict[str, str]) -> ProfileActionResult:
    made = profiles.copy(str(profile), sent.get("new_name", "").strip())
    return ProfileActionResult(
        f"This is {made}, a copy of {profile}.", f"Copied from {profile}.", made
    )


def restore(profile: Profile, sent: dict[str, str]) -> ProfileActionResult:
    # No version has the number 0.
    number, seen = (parse_number(sent.get(key)) or 0 for key in ("number", "expected_version"))
    restored = profile_validation.restore_version(str(profile), number, seen)
    if restored.version_number == seen:
        return ProfileActionResult(f"It is what it was at version {number} already.")
    words = f"Version {number} restored as version {restored.version_number}."
    return ProfileActionResult(words, words)


ACTIONS: dict[str, Callable[[Profile, dict[str, str]], ProfileActionResult]] = {
    action.__name__: action for action in (activate, deactivate, check, copy, restore)
}


@admin.register(Profile)
class ProfileAdmin(VersionPages):
    """Profiles. All can be read; those of the collection `local` can be created and changed."""

    change_list_template = f"{TEMPLATES}/change_list.html"
    list_filter = ("source", "collection")
    search_fields = ("collection", "name", "description", "instruction")
    list_per_page = 100
    show_full_result_count = False
    actions = None
    pages = {"check/": "check", "<path:object_id>/action/<slug:name>/": "action"}

    class Media:
        css = {"all": ("profiles_app/admin.css",)}

    def add_view(self, request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
        """Show the editor for a new profile; on POST create the profile."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        draft = ProfileDraft(SKELETON, 0)
        if request.method == "POST":
            draft = self.read_draft(request, None)
            if not draft.is_wrong:
                try:
                    with transaction.atomic():
                        made = profile_validation.create_from_text(draft.text)
                        self.log_addition(request, made, "Made.")
                except ProfilesError as error:
                    draft.error = str(error)
                else:
                    messages.success(request, f"The profile {made} is made.")
                    return HttpResponseRedirect(page_url(made))
        context = {
            "title": "New profile",
            "draft": draft,
            "check_url": reverse("admin:profiles_app_profile_check"),
            "may_edit": True,
        }
        return self.render(request, "change_form", context)

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        """Show a profile, in the editor if the user may change it; on POST save it."""
        profile = self.find_profile(request, object_id)
        if request.method == "POST":
            if not self.has_change_permission(request, profile):
                raise PermissionDenied
            draft = self.read_draft(request, profile)
            if not draft.is_wrong and self.save_draft(request, profile, draft):
                return HttpResponseRedirect(page_url(profile))
        else:
            draft = ProfileDraft(render_newest(profile), profile.version_number)
            draft.mistakes = profile_validation.find_mistakes(draft.text, profile.name)
        versions = list(profile.versions.newest_first()[: VERSIONS + 1])
        check_url = reverse("admin:profiles_app_profile_check")
        context = {
            "title": str(profile),
            "draft": draft,
            "check_url": f"{check_url}?profile={profile.pk}",
            "versions": versions[:VERSIONS],
            "has_more_versions": len(versions) > VERSIONS,
            "first": versions[1].number if len(versions) > 1 else 0,
            "second": profile.version_number,
            "copy_name": f"{profile.name[:58]}-copy" if profile.is_local else profile.name,
            "next_number": profile.version_number + 1,
            "is_long": draft.text.find("\n---\n", 4) > FRONT_LIMIT,
        }
        return self.render(request, "change_form", context, profile)

    def delete_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        """Ask for confirmation; on POST delete the profile with its versions."""
        profile = self.find_profile(request, object_id)
        if not self.has_delete_permission(request, profile):
            raise PermissionDenied
        if request.method != "POST":
            return self.render(request, "delete", {"title": f"Delete {profile}?"}, profile)

        def delete() -> ProfileActionResult:
            # Django takes any list of rows; the stubs want a queryset.
            self.log_deletions(request, [profile])  # type: ignore[arg-type]
            profiles.delete(str(profile))
            return ProfileActionResult(f"The profile {profile} was deleted.")

        result = self.run_action(request, profile, delete)
        gone = reverse("admin:profiles_app_profile_changelist")
        return HttpResponseRedirect(gone if result else page_url(profile))

    def action_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """Run an action on a profile, and show the result or the error as a message."""
        profile, action = self.find_profile(request, object_id), ACTIONS.get(name)
        if action is None:
            raise Http404("There is no such action.")
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        may = self.list_permissions(request, profile)
        if not {"check": True, "copy": may["may_copy"]}.get(name, may["may_mark"]):
            raise PermissionDenied
        result = self.run_action(request, profile, lambda: action(profile, request.POST.dict()))
        return HttpResponseRedirect(page_url((result and result.made) or profile))

    def check_view(self, request: HttpRequest) -> JsonResponse:
        """Answer the editor's script, which posts `{"text": …}`, with the mistakes in the text.

        `?profile=` is the primary key of the local profile; a new profile has none.
        """
        if request.method != "POST":
            return _make_error(HTTPStatus.METHOD_NOT_ALLOWED, "not_allowed", "Send a POST.")
        if not self.has_view_permission(request):
            detail = "You may not see profiles."
            return _make_error(HTTPStatus.FORBIDDEN, "permission_denied", detail)
        try:
            body = json.loads(request.body)
        except (ValueError, RecursionError):
            body = None
        text = body.get("text") if isinstance(body, dict) else None
        if not isinstance(text, str):
            return _make_error(HTTPStatus.BAD_REQUEST, "invalid", 'Send {"text": "…"} as JSON.')
        name, key = None, request.GET.get("profile")
        if key is not None:
            pk = int(key) if key.isascii() and key.isdecimal() and len(key) < 18 else 0
            name = Profile.objects.filter(pk=pk).values_list("name", flat=True).first()
            if name is None:
                detail = "The profile does not exist any more."
                return _make_error(HTTPStatus.NOT_FOUND, "not_found", detail)
        draft = ProfileDraft(text, 0, profile_validation.find_mistakes(text, name))
        return JsonResponse({"mistakes": draft.list_mistakes(), "is_wrong": draft.is_wrong})

    def has_change_permission(self, request: HttpRequest, obj: Profile | None = None) -> bool:
        """Tell whether the user may change the profile: only local ones can change."""
        return (obj is None or obj.is_local) and super().has_change_permission(request, obj)

    def read_draft(self, request: HttpRequest, profile: Profile | None) -> ProfileDraft:
        # Browsers send line ends as CRLF.
        text = request.POST.get("text", "").replace("\r\n", "\n")
        # The version that the page showed; no version has the number 0.
        seen = parse_number(request.POST.get("expected_version")) or 0 if profile else 0
        name = profile.name if profile else None
        return ProfileDraft(text, seen, profile_validation.find_mistakes(text, name))

    def save_draft(self, request: HttpRequest, profile: Profile, draft: ProfileDraft) -> bool:
        """Save the draft and return True; if that fails, put the reason into the draft."""
        try:
            with transaction.atomic():
                saved = profile_validation.save_text(profile.name, draft.text, draft.seen)
                number = saved.version_number
                is_new = number != draft.seen
                if is_new:
                    self.log_change(request, saved, f"Saved as version {number}.")
        except StaleVersion as error:
            current = Profile.objects.get(pk=profile.pk)
            draft.become_stale(current, render_newest(current), error.extra["expected"])
            return False
        except ProfilesError as error:
            draft.error = str(error)
            return False
        same = f"Nothing differs from version {number}, so there is no new one."
        messages.success(request, f"Saved as version {number}." if is_new else same)
        for mistake in draft.mistakes:
            messages.warning(request, f"Line {mistake.line}: {mistake.detail}")
        return True

    def run_action(
        self, request: HttpRequest, profile: Profile, action: Callable[[], ProfileActionResult]
    ) -> ProfileActionResult | None:
        """Run an action with its entry in the history; on an error show it, and return None."""
        try:
            with transaction.atomic():
                result = action()
                if result.made:
                    self.log_addition(request, result.made, result.logged)
                elif result.logged:
                    self.log_change(request, profile, result.logged)
        except ProfilesError as failure:
            errors = getattr(failure, "extra", {}).get("errors")
            lines = [f"{error['field']}: {error['detail']}" for error in errors or ()]
            for line in lines or [WORDS.get(type(failure), str(failure))]:
                messages.error(request, line)
            return None
        messages.success(request, result.message)
        return result


def page_url(profile: Profile) -> str:
    return reverse("admin:profiles_app_profile_change", args=[profile.pk])


def render_newest(profile: Profile) -> str:
    """Return the newest version as a profile file, its secrets redacted."""
    return render_profile(profiles.find_version(profile, profile.version_number))


def _make_error(status: int, code: str, detail: str) -> JsonResponse:
    return JsonResponse({"status": status, "code": code, "detail": detail}, status=status)
