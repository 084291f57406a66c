"""Profiles in the console: found, read, and edited as the texts that their files are."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from profiles_app.admin import profile_pages
from profiles_app.admin.profile_check import CheckPages
from profiles_app.admin.profile_pages import Draft, page_url
from profiles_app.admin.profile_steps import StepPages
from profiles_app.admin.profile_versions import VersionPages
from profiles_app.exceptions import ProfilesError, StaleVersion
from profiles_app.models import Profile
from profiles_app.profile_format import render_profile
from profiles_app.services import profile_validation
from profiles_app.services.profiles import find_version

TEMPLATES = "admin/profiles_app/profile"
SAVED = "Saved as version {}."
SAME = "Nothing differs from version {}, so there is no new one."


@admin.register(Profile)
class ProfileAdmin(CheckPages, StepPages, VersionPages, admin.ModelAdmin):
    """Profiles. All are read here; those of the collection `local` are made and changed."""

    change_list_template = f"{TEMPLATES}/change_list.html"
    list_filter = ("source", "collection")
    search_fields = ("collection", "name", "description", "instruction")
    list_per_page = 100
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = None

    class Media:
        css = {"all": ("profiles_app/admin.css",)}

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list under its plain name."""
        return super().changelist_view(request, {"title": "Profiles", **(extra_context or {})})

    def add_view(self, request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
        """Show the editor for a profile that is to be, and make it of what comes back."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        draft = Draft(profile_pages.SKELETON, 0)
        if request.method == "POST":
            draft = Draft(_text(request), 0)
            draft.mistakes = profile_validation.find_mistakes(draft.text, None)
            if not draft.is_wrong and (made := self._made(request, draft)):
                return HttpResponseRedirect(page_url(made))
        context = {
            **self.admin_site.each_context(request),
            **profile_pages.new_page(draft),
            "opts": self.opts,
            "media": self.media,
        }
        return TemplateResponse(request, f"{TEMPLATES}/change_form.html", context)

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        """Show a profile, in the editor where it may be changed, and save what comes back."""
        profile = self.found(request, object_id)
        draft = Draft(self.text(profile), profile.version_number)
        if request.method == "POST":
            if not self.has_change_permission(request, profile):
                raise PermissionDenied
            draft = Draft(_text(request), _number(request))
            draft.mistakes = profile_validation.find_mistakes(draft.text, profile.name)
            if not draft.is_wrong and self._saved(request, profile, draft):
                return HttpResponseRedirect(page_url(profile))
        else:
            draft.mistakes = profile_validation.find_mistakes(draft.text, profile.name)
        context = {
            **self.admin_site.each_context(request),
            **profile_pages.page(profile, draft),
            **self.allowed(request, profile),
            "opts": self.opts,
            "media": self.media,
        }
        return TemplateResponse(request, f"{TEMPLATES}/change_form.html", context)

    def found(self, request: HttpRequest, object_id: str) -> Profile:
        """Return the profile; raise Http404, and PermissionDenied for who may not look."""
        profile = self.get_object(request, unquote(object_id))
        if profile is None:
            raise Http404("There is no such profile.")
        if not self.has_view_or_change_permission(request, profile):
            raise PermissionDenied
        return profile

    def allowed(self, request: HttpRequest, profile: Profile) -> dict[str, bool]:
        """Return what the user may do with a profile."""
        return {
            "may_edit": self.has_change_permission(request, profile),
            "may_mark": super().has_change_permission(request),
            "may_copy": self.has_add_permission(request),
            "may_delete": super().has_delete_permission(request) and profile.is_local,
        }

    def text(self, profile: Profile) -> str:
        """Return a profile as its file has it, secrets masked."""
        return render_profile(find_version(profile, profile.version_number))

    def has_change_permission(self, request: HttpRequest, obj: Profile | None = None) -> bool:
        """Only local profiles change here."""
        return (obj is None or obj.is_local) and super().has_change_permission(request, obj)

    def _made(self, request: HttpRequest, draft: Draft) -> Profile | None:
        """Make the profile, and tell so; else have the draft say why not."""
        try:
            with transaction.atomic():
                made = profile_validation.create_from_text(draft.text)
                self.log_addition(request, made, "Made.")
        except ProfilesError as error:
            draft.refusal = str(error)
            return None
        messages.success(request, f"The profile {made} is made.")
        return made

    def _saved(self, request: HttpRequest, profile: Profile, draft: Draft) -> bool:
        """Save the draft, and tell so; else have it say why not."""
        try:
            with transaction.atomic():
                saved = profile_validation.save_text(profile.name, draft.text, draft.seen)
                is_new = saved.version_number != draft.seen
                if is_new:
                    self.log_change(request, saved, f"Saved as version {saved.version_number}.")
        except StaleVersion as error:
            current = Profile.objects.get(pk=profile.pk)
            draft.become_stale(current, self.text(current), error.extra)
            return False
        except ProfilesError as error:
            draft.refusal = str(error)
            return False
        messages.success(request, (SAVED if is_new else SAME).format(saved.version_number))
        for mistake in draft.mistakes:
            messages.warning(request, f"Line {mistake.line}: {mistake.detail}")
        return True


def _text(request: HttpRequest) -> str:
    """Return the text that was sent, with the line ends that it was shown with."""
    return request.POST.get("text", "").replace("\r\n", "\n")


def _number(request: HttpRequest) -> int:
    """Return the version that the page was made of; 0, which never fits, where it does not say."""
    sent = request.POST.get("expected_version", "")
    return int(sent) if sent.isascii() and sent.isdecimal() and len(sent) < 10 else 0
