"""The console's site: Django's admin, with a navigation and a first page of its own.

The apps register with `admin.site` as ever; `ConsoleConfig` makes that one of ours. It stands
beside the package `admin`, whose import registers what is in it.
"""

from typing import Any

from django.contrib import admin
from django.contrib.admin.apps import AdminConfig
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, path

from sessions_app.navigation import navigation


class ConsoleConfig(AdminConfig):
    """Django's admin on our site."""

    default = False
    default_site = "sessions_app.site.ConsoleSite"


class ConsoleSite(admin.AdminSite):
    """The console: its pages know where they are in it, and its first one is the dashboard."""

    site_header = "amplifierd"
    site_title = "amplifierd"
    index_title = "Dashboard"
    # The root of the daemon leads here: there is no other site to view.
    site_url = None
    # The navigation is in the base template.
    enable_nav_sidebar = False

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Return what every page's template needs, the navigation with it."""
        context = super().each_context(request)
        apps = context["available_apps"] if context["has_permission"] else []
        return {**context, "navigation": navigation(apps, request.path)}

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Show the dashboard."""
        return super().index(request, {**_dashboard().context(request), **(extra_context or {})})

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Add what the dashboard does."""
        return [path("try/", self.admin_view(self.try_it), name="try"), *super().get_urls()]

    def try_it(self, request: HttpRequest) -> HttpResponse:
        """Make a first session."""
        from sessions_app.models import Session

        return _dashboard().try_it(request, self.get_model_admin(Session))


def _dashboard() -> Any:
    """Return the dashboard's module: its package is there only once the site is."""
    from sessions_app.admin import dashboard

    return dashboard
