"""Directories in the console, with the sessions that work in them."""

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from profiles_app.admin import AmplifiedDirectoryAdmin
from profiles_app.admin.tree import Node
from profiles_app.models import AmplifiedDirectory
from sessions_app.admin.lists.counts import tally, written
from sessions_app.admin.lists.sessions import SessionList
from sessions_app.models import Session

admin.site.unregister(AmplifiedDirectory)


@admin.register(AmplifiedDirectory)
class DirectoryAdmin(AmplifiedDirectoryAdmin):
    """Amplified directories, each with a way to its sessions."""

    readonly_fields = (*AmplifiedDirectoryAdmin.readonly_fields, "sessions")
    fields = (*AmplifiedDirectoryAdmin.fields, "sessions")

    def lead_on(self, nodes: list[Node]) -> None:
        """Add how many sessions each directory has, with a link to them."""
        counted = tally(Session.objects.order_by(), ["amplified_dir"], SessionList.counted)
        for node in nodes:
            count = counted.combinations.get((node.path,), 0)
            if count:
                label = (
                    "1 session" if count == 1 else f"{written(count, counted.is_whole)} sessions"
                )
                node.leads_to.append((label, sessions_url(node.path)))

    @admin.display
    def sessions(self, directory: AmplifiedDirectory) -> SafeString:
        """Return a link to the directory's sessions."""
        url = sessions_url(directory.relative_path)
        return format_html('<a href="{}">Sessions in this directory</a>', url)


def sessions_url(path: str) -> str:
    """Return the list of the sessions in a directory."""
    query = urlencode({"amplified_dir": path})
    return f"{reverse('admin:sessions_app_session_changelist')}?{query}"
