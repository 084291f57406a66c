"""What is done to a profile by the buttons of its page, and refused with the reason."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
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

from profiles_app.admin.profile_pages import page_url
from profiles_app.exceptions import ProfileActive, ProfileExists, ProfileReadOnly, ProfilesError
from profiles_app.models import Profile
from profiles_app.services import profile_validation, profiles
from profiles_app.services.profile_validation import compile_profile

# Refusals whose own words name what the API has for it.
WORDS: dict[type[ProfilesError], str] = {
    ProfileActive: "The active profile stays. Deactivate it, or activate another one, first.",
    ProfileReadOnly: "It comes from a file and does not change here. Copy it, and change the copy.",
    ProfileExists: "There is a local profile of this name already. Choose another name.",
}


@dataclass
class Done:
    """What came of a step: the words for who took it, those for the history, what it made."""

    told: str
    logged: str = ""
    made: Profile | None = None


def activate(profile: Profile, sent: dict[str, str]) -> Done:
    """Make it the active one."""
    profiles.activate(str(profile))
    return Done(f"{profile} is the active profile now: clients offer it first.", "Activated.")


def deactivate(profile: Profile, sent: dict[str, str]) -> Done:
    """Let no profile be active, if this one is."""
    if profile.is_active:
        profiles.deactivate()
    return Done("No profile is active now.", "Deactivated.")


def check(profile: Profile, sent: dict[str, str]) -> Done:
    """Compile it."""
    compile_profile(str(profile))
    return Done(f"A session would find all that {profile} names.")


def copy(profile: Profile, sent: dict[str, str]) -> Done:
    """Copy it to `local`."""
    made = profiles.copy(str(profile), sent.get("new_name", "").strip())
    return Done(f"This is {made}, a copy of {profile}.", f"Copied from {profile}.", made)


def restore(profile: Profile, sent: dict[str, str]) -> Done:
    """Take it back to an older version."""
    number, seen = (_whole(sent.get(key, "")) for key in ("number", "expected_version"))
    restored = profile_validation.restore_version(str(profile), number, seen)
    if restored.version_number == seen:
        return Done(f"It is what it was at version {number} already.")
    words = f"Version {number} restored as version {restored.version_number}."
    return Done(words, words)


STEPS: dict[str, Callable[[Profile, dict[str, str]], Done]] = {
    step.__name__: step for step in (activate, deactivate, check, copy, restore)
}


class StepPages:
    """The part of the profiles' admin that takes steps."""

    def get_urls(self) -> list[URLPattern]:
        """Add the address of the steps."""
        view = self.admin_site.admin_view(self.step_view)
        step = path("<path:object_id>/step/<slug:name>/", view, name="profiles_app_profile_step")
        return [step, *super().get_urls()]

    def step_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """Take a step with a profile and show what came of it; a refusal is a message."""
        profile, step = self.found(request, object_id), STEPS.get(name)
        if step is None:
            raise Http404("There is no such step.")
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self._may(request, profile, name):
            raise PermissionDenied
        done = self._take(request, profile, lambda: step(profile, request.POST.dict()))
        return HttpResponseRedirect(page_url((done and done.made) or profile))

    def delete_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        """Ask, and then delete the profile with its versions; a refusal is a message."""
        profile = self.found(request, object_id)
        if not self.has_delete_permission(request, profile):
            raise PermissionDenied
        if request.method == "POST":
            done = self._take(request, profile, lambda: self._delete(request, profile))
            gone = reverse("admin:profiles_app_profile_changelist")
            return HttpResponseRedirect(gone if done else page_url(profile))
        context = {
            **self.admin_site.each_context(request),
            "title": f"Delete {profile}?",
            "profile": profile,
            "opts": self.opts,
            "media": self.media,
        }
        return TemplateResponse(request, "admin/profiles_app/profile/delete.html", context)

    def _may(self, request: HttpRequest, profile: Profile, name: str) -> bool:
        """Tell whether the user may take a step; the service says whether the profile allows it."""
        allowed = self.allowed(request, profile)
        return {"check": True, "copy": allowed["may_copy"]}.get(name, allowed["may_mark"])

    def _delete(self, request: HttpRequest, profile: Profile) -> Done:
        self.log_deletions(request, [profile])
        profiles.delete(str(profile))
        return Done(f"The profile {profile} was deleted.")

    def _take(
        self, request: HttpRequest, profile: Profile, step: Callable[[], Done]
    ) -> Done | None:
        """Take a step with its entry in the history, and tell what came of it; None: refused."""
        try:
            with transaction.atomic():
                done = step()
                if done.made:
                    self.log_addition(request, done.made, done.logged)
                elif done.logged:
                    self.log_change(request, profile, done.logged)
        except ProfilesError as refusal:
            errors = getattr(refusal, "extra", {}).get("errors")
            told = [f"{error['field']}: {error['detail']}" for error in errors or ()]
            for text in told or [WORDS.get(type(refusal), str(refusal))]:
                messages.error(request, text)
            return None
        messages.success(request, done.told)
        return done


def _whole(sent: str) -> int:
    """Return a whole number; 0, which no version has, for what is none."""
    return int(sent) if sent.isascii() and sent.isdecimal() and len(sent) < 10 else 0
