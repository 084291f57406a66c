"""Amplified directories in the console, as a tree."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from amplifierd.common.callers import Everyone
from amplifierd.common.console import ConsolePages
from amplifierd.common.redaction import MASK, redact
from amplifierd.common.statements import read_clock
from profiles_app import definition
from profiles_app.exceptions import ProfilesError
from profiles_app.models import AmplifiedDirectory
from profiles_app.models.directory import ROOT, lineage
from profiles_app.services import directories
from profiles_app.services.profiles import resolve_profile

# How many directories the tree shows at most, and the columns that it reads.
MOST = 5_000
COLUMNS = ("relative_path", "pk", "default_profile", "owner", "shares")
PAGE = "admin:profiles_app_amplifieddirectory_change"


@dataclass
class Node:
    """A directory in the tree; `links` are labels and URLs of pages about it."""

    path: str
    # Its path below its parent in the tree.
    label: str
    depth: int
    # The effective default profile, and the directory that it comes from: this one or a parent.
    profile: str
    given_by: str
    url: str = ""
    # Empty for the operator's; and with how many owners it is shared.
    owner: str = ""
    shared_with: int = 0
    links: list[tuple[str, str]] = field(default_factory=list)
    has_children: bool = False
    # How many levels end with it, which the template must close.
    ends: int = 0

    @property
    def is_own(self) -> bool:
        return self.given_by == self.path

    @property
    def closes(self) -> range:
        """A range over the levels that end, for a loop of the template."""
        return range(self.ends)


def build_tree(profiles: Mapping[str, str], shown: Iterable[str]) -> list[Node]:
    """Return the nodes of these paths, parents first; `profiles` has the own profile of each path.

    The template needs no recursion: `has_children` and `ends` describe the levels.
    """
    wanted = {above for path in shown for above in lineage(path) if above in profiles}
    nodes: list[Node] = []
    above: list[Node] = []
    # The root, then each directory before what is in it.
    for path in sorted(wanted, key=lambda path: () if path == ROOT else PurePosixPath(path).parts):
        while above and above[-1].path != ROOT and not path.startswith(f"{above[-1].path}/"):
            above.pop()
        parent = above[-1] if above else None
        prefix = "" if parent is None or parent.path == ROOT else f"{parent.path}/"
        node = Node(
            path=path,
            label=path.removeprefix(prefix),
            depth=0 if parent is None else parent.depth + 1,
            profile=profiles[path],
            given_by=path,
        )
        if parent and not node.profile:
            node.profile, node.given_by = parent.profile, parent.given_by
        nodes.append(node)
        above.append(node)
    for node, following in zip(nodes, [*nodes[1:], None], strict=False):
        next_depth = following.depth if following else 0
        node.has_children = next_depth > node.depth
        node.ends = max(0, node.depth - next_depth)
    return nodes


class AmplifiedDirectoryForm(forms.ModelForm):
    """A directory's default profile, owner and shares, and its metadata with secrets redacted."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["metadata"] = redact(self.initial.get("metadata"))
        for name in {"metadata", "shares"} & self.fields.keys():
            # Compare with the row, not with a hidden field that the browser sends back.
            self.fields[name].show_hidden_initial = False

    def clean_default_profile(self) -> str:
        """Return the full name of the profile; empty for the nearest parent's."""
        name = self.cleaned_data["default_profile"]
        try:
            return str(resolve_profile(name)) if name else ""
        except ProfilesError as error:
            raise ValidationError(str(error)) from error

    def clean_owner(self) -> str | None:
        """Return the owner; None, for an empty field, is the operator."""
        return self.cleaned_data["owner"] or None

    def clean_shares(self) -> dict[str, str]:
        try:
            sent = definition.require_mapping(self.cleaned_data["shares"] or {}, "shares")
            return directories.merge_shares({}, sent)
        except ProfilesError as error:
            raise ValidationError(str(error)) from error

    def clean_metadata(self) -> dict[str, Any]:
        sent = self.cleaned_data["metadata"]
        if "metadata" in self.changed_data and MASK in json.dumps(sent):
            raise ValidationError(f"Write a reference such as ${{NAME}} in place of {MASK}.")
        try:
            return directories.validate_metadata(definition.require_mapping(sent, "metadata"))
        except ProfilesError as error:
            raise ValidationError(str(error)) from error


@admin.register(AmplifiedDirectory)
class AmplifiedDirectoryAdmin(ConsolePages):
    """Amplified directories as a tree, each with its effective profile."""

    form = AmplifiedDirectoryForm
    # Only the API amplifies directories, because it checks the disk.
    denied = frozenset({"add"})
    change_list_template = "admin/profiles_app/amplifieddirectory/change_list.html"
    readonly_fields: ClassVar[tuple[str, ...]] = (
        "relative_path",
        "effective_profile",
        "created_at",
        "updated_at",
    )
    fields: ClassVar[tuple[str, ...]] = (
        "relative_path",
        "owner",
        "shares",
        "default_profile",
        "effective_profile",
        "metadata",
        "created_at",
        "updated_at",
    )

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the tree, or only the branches with a directory that matches the search."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        text = request.GET.get("q", "").strip()
        rows = AmplifiedDirectory.objects.order_by("relative_path")
        known = {path: found for path, *found in rows.values_list(*COLUMNS)[:MOST]}
        found = [path for path in known if text.lower() in path.lower()]
        nodes = build_tree({path: own for path, (_, own, *_) in known.items()}, found)
        for node in nodes:
            pk, _, owner, shares = known[node.path]
            node.url, node.owner = reverse(PAGE, args=[pk]), owner or ""
            node.shared_with = len(shares)
        self.add_links(nodes)
        context = {
            "title": "Directories",
            "nodes": nodes,
            "text": text,
            "most": MOST if len(known) == MOST else 0,
            **(extra_context or {}),
        }
        return self.render_page(request, self.change_list_template, context)

    def add_links(self, nodes: list[Node]) -> None:
        """Add links to pages about the nodes; a subclass in another app may have some."""

    def has_delete_permission(
        self, request: HttpRequest, obj: AmplifiedDirectory | None = None
    ) -> bool:
        free = obj is None or obj.relative_path != ROOT
        return free and super().has_delete_permission(request, obj)

    def save_model(
        self,
        request: HttpRequest,
        obj: AmplifiedDirectory,
        form: AmplifiedDirectoryForm,
        change: bool,
    ) -> None:
        """Save the changes and the time; warn if the marker on the disk cannot be written."""
        obj.updated_at = read_clock()
        obj.save(update_fields=[*form.changed_data, "updated_at"])
        try:
            directories.rewrite_marker(obj, Everyone())
        except ProfilesError as error:
            self.message_user(
                request, f"The marker on the disk was not changed. {error}", messages.WARNING
            )

    def delete_model(self, request: HttpRequest, obj: AmplifiedDirectory) -> None:
        """Deregister the directory; its files stay."""
        directories.deregister(obj.relative_path, sees=Everyone())

    @admin.display(description="effective profile")
    def effective_profile(self, directory: AmplifiedDirectory) -> str:
        return directory.default_profile or directories.find_default_profile(directory)
