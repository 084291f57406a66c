"""Amplified directories in the console."""

import json
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from amplifierd.common.redaction import MASK, masked
from profiles_app import definition
from profiles_app.admin.tree import Node, tree
from profiles_app.exceptions import ProfilesError
from profiles_app.models import AmplifiedDirectory
from profiles_app.models.directory import ROOT
from profiles_app.services import directories
from profiles_app.services.profiles import resolve_profile

# Directories that the tree shows at most, and what it reads of each.
MOST = 5_000
COLUMNS = ("relative_path", "pk", "default_profile")
PAGE = "admin:profiles_app_amplifieddirectory_change"


class MaskedForm(forms.ModelForm):
    """A form that shows one JSON field with its secrets masked."""

    masked_field: ClassVar[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial[self.masked_field] = masked(self.initial.get(self.masked_field))
        if field := self.fields.get(self.masked_field):
            # Whether it was changed is told by the row, not by what the browser sends back.
            field.show_hidden_initial = False

    def unmasked(self) -> Any:
        """Return what was sent; raise ValidationError where a change would store a mask."""
        value = self.cleaned_data[self.masked_field]
        if self.masked_field in self.changed_data and MASK in json.dumps(value):
            raise ValidationError(f"Write a reference such as ${{NAME}} in place of {MASK}.")
        return value


class AmplifiedDirectoryForm(MaskedForm):
    """A directory's default profile and metadata."""

    masked_field = "metadata"

    def clean_default_profile(self) -> str:
        """Return the full name of the profile; empty for the nearest parent's."""
        name = self.cleaned_data["default_profile"]
        try:
            return str(resolve_profile(name)) if name else ""
        except ProfilesError as error:
            raise ValidationError(str(error)) from error

    def clean_metadata(self) -> dict[str, Any]:
        """Return the metadata, which are a mapping."""
        try:
            metadata = definition.require_mapping(self.unmasked(), "metadata")
            return directories.validate_metadata(metadata)
        except ProfilesError as error:
            raise ValidationError(str(error)) from error


@admin.register(AmplifiedDirectory)
class AmplifiedDirectoryAdmin(admin.ModelAdmin):
    """Amplified directories as a tree, with the profile that counts in each."""

    form = AmplifiedDirectoryForm
    change_list_template = "admin/profiles_app/amplifieddirectory/change_list.html"
    readonly_fields: tuple[str, ...] = (
        "relative_path",
        "effective_profile",
        "created_at",
        "updated_at",
    )
    fields: tuple[str, ...] = (
        "relative_path",
        "default_profile",
        "effective_profile",
        "metadata",
        "created_at",
        "updated_at",
    )

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the tree, or those of its branches that have what is searched for."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        text = request.GET.get("q", "").strip()
        rows = AmplifiedDirectory.objects.order_by("relative_path")
        known = {path: (pk, own) for path, pk, own in rows.values_list(*COLUMNS)[:MOST]}
        found = [path for path in known if text.lower() in path.lower()]
        nodes = tree({path: own for path, (_, own) in known.items()}, found)
        for node in nodes:
            node.url = reverse(PAGE, args=[known[node.path][0]])
        self.lead_on(nodes)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Directories",
            "nodes": nodes,
            "text": text,
            "most": MOST if len(known) == MOST else 0,
            **(extra_context or {}),
        }
        return TemplateResponse(request, self.change_list_template, context)

    def lead_on(self, nodes: list[Node]) -> None:
        """Give the nodes the pages that lead on from them; other apps know of some."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A directory is amplified through the API, which looks at the disk."""
        return False

    def has_delete_permission(
        self, request: HttpRequest, obj: AmplifiedDirectory | None = None
    ) -> bool:
        """The root stays."""
        free = obj is None or obj.relative_path != ROOT
        return free and super().has_delete_permission(request, obj)

    def save_model(
        self,
        request: HttpRequest,
        obj: AmplifiedDirectory,
        form: AmplifiedDirectoryForm,
        change: bool,
    ) -> None:
        """Save what was changed, with the time; the marker on the disk follows if it can."""
        obj.updated_at = timezone.now()
        obj.save(update_fields=[*form.changed_data, "updated_at"])
        try:
            directories.rewrite_marker(obj)
        except ProfilesError as error:
            self.message_user(request, f"The marker is as it was. {error}", messages.WARNING)

    def delete_model(self, request: HttpRequest, obj: AmplifiedDirectory) -> None:
        """Let the directory go; its files stay."""
        directories.deregister(obj.relative_path)

    @admin.display(description="profile that counts")
    def effective_profile(self, directory: AmplifiedDirectory) -> str:
        """Return the directory's own profile, or the one it inherits."""
        return directory.default_profile or directories.find_default_profile(directory)
