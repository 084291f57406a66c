"""Collections in the console: look at and sync."""

from typing import Any, Protocol

from django.contrib import admin, messages
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from amplifierd.common.console import ConsolePages, show
from amplifierd.common.formats import format_time
from amplifierd.common.text import excerpt
from profiles_app.models import Collection, Profile
from profiles_app.services.collections_sync import FAILED, REFUSED, sync_all

# Characters of an error that the list shows.
EXCERPT = 160


class CountedCollection(Protocol):
    """A row of the list: a collection, with the number of its profiles."""

    name: str
    number: int | None


@admin.register(Collection)
class CollectionAdmin(ConsolePages):
    """Collections, with their contents at the last sync, or why that failed."""

    list_display = ("name", "kind", "profiles", "address", "version", "last_synced", "outcome")
    list_filter = ("kind",)
    search_fields = ("name", "source", "last_error")
    fields = (
        "name",
        "kind",
        "address",
        "commit",
        "digest",
        "last_error",
        "synced_at",
        "created_at",
        "updated_at",
    )
    readonly_fields = fields
    actions = ("sync",)
    # `manage.py collections` and the API add and remove them; their contents change at the source.
    denied = frozenset({"add", "change", "delete"})

    def get_queryset(self, request: HttpRequest) -> QuerySet[Collection]:
        named = Profile.objects.filter(collection=OuterRef("name")).order_by()
        number = named.values("collection").annotate(number=Count("pk")).values("number")
        return super().get_queryset(request).annotate(number=Subquery(number))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Show a collection with its contents, and the button that syncs it."""
        collection = kwargs["obj"]
        modules = [
            " · ".join(each[key] for key in ("id", "type", "description") if each.get(key))
            for each in collection.contents.get("modules", [])
        ]
        summary = [
            ("Kind", collection.get_kind_display()),
            ("Source", collection.address),
            ("Commit", collection.commit),
            ("Digest", collection.digest),
            ("Synced", collection.synced_at and format_time(collection.synced_at)),
            ("Added", format_time(collection.created_at)),
            ("Changed", format_time(collection.updated_at)),
        ]
        context |= {
            "title": collection.name,
            "subtitle": None,
            "summary": [(label, value) for label, value in summary if value],
            "profiles": Profile.objects.filter(collection=collection.name).order_by("name"),
            "contents": [
                ("Agents", collection.contents.get("agents", [])),
                ("Context", collection.contents.get("context", [])),
                ("Modules", modules),
            ],
            "may_sync": self.has_sync_permission(request),
        }
        return super().render_change_form(request, context, *args, **kwargs)

    def has_sync_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("profiles_app.change_collection")

    @admin.action(description="Sync with their sources", permissions=["sync"])
    def sync(self, request: HttpRequest, queryset: QuerySet[Collection]) -> None:
        names = list(queryset.values_list("name", flat=True))
        for result in sync_all(names):
            is_wrong = result.status in (FAILED, REFUSED)
            level = messages.ERROR if is_wrong else messages.SUCCESS
            loaded = result.loaded
            changes = (
                f"{result.status}, {len(loaded.created)} added, {len(loaded.updated)} updated, "
                f"{len(loaded.removed)} removed."
            )
            text = f"Collection {result.collection}: {result.error or changes}"
            self.message_user(request, text, level)

    version = show("version", lambda collection: (collection.commit or collection.digest)[:12])
    address = show("source", lambda collection: collection.address)
    last_synced = show("synced", lambda each: format_time(each.synced_at) if each.synced_at else "")

    @admin.display(description="profiles")
    def profiles(self, collection: CountedCollection) -> SafeString:
        query = urlencode({"collection": collection.name})
        url = f"{reverse('admin:profiles_app_profile_changelist')}?{query}"
        return format_html('<a href="{}">{}</a>', url, collection.number or 0)

    @admin.display(description="last sync")
    def outcome(self, collection: Collection) -> SafeString:
        if not collection.last_error:
            return format_html('<span class="badge badge-completed">{}</span>', "fine")
        return format_html(
            '<span class="badge badge-failed">failed</span> <span class="list-error">{}</span>',
            excerpt(collection.last_error, EXCERPT),
        )
