"""The console's site: Django's admin, with a navigation and a first page of its own.

The apps register with `admin.site` as ever; `ConsoleConfig` makes that one of ours. It stands
beside the package `admin`, whose import registers what is in it.
"""

from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.contrib.admin.apps import AdminConfig
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, path, reverse


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
        return super().index(
            request, {**_dashboard().build_context(request), **(extra_context or {})}
        )

    def get_urls(self) -> list[URLPattern | URLResolver]:
        return [path("try/", self.admin_view(self.try_it), name="try"), *super().get_urls()]

    def try_it(self, request: HttpRequest) -> HttpResponse:
        from sessions_app.models import Session

        return _dashboard().try_it(request, self.get_model_admin(Session))


def _dashboard() -> Any:
    """Return the dashboard's module: its package is there only once the site is."""
    from sessions_app.admin import dashboard

    return dashboard


# Group → model and what its page is called; a model that is not here stands in the last group.
GROUPS: dict[str, dict[str, str]] = {
    "": {
        "Session": "Sessions",
        "Run": "Runs",
        "Approval": "Approvals",
        "Profile": "Profiles",
        "AmplifiedDirectory": "Directories",
        "Collection": "Collections",
        "ApiKey": "API keys",
        "OwnerLimits": "Owner limits",
    },
    "People": {"User": "Users", "Group": "Groups"},
    "Other": {},
}


@dataclass(frozen=True)
class NavigationLink:
    """A page of the navigation."""

    label: str
    url: str
    is_current: bool


@dataclass(frozen=True)
class NavigationGroup:
    """Pages that belong together, under a heading; the first have none."""

    label: str
    places: list[NavigationLink]


def navigation(apps: list[dict[str, Any]], here: str) -> list[NavigationGroup]:
    """Return the pages that a user may see, of the apps that the admin lists for them.

    `here` is the path of the page that is shown; it and what is below its place are current.
    """
    # Those that have a list.
    found = [model for app in apps for model in app["models"] if model.get("admin_url")]
    if not found:
        return []
    home = reverse("admin:index")
    models = {model["object_name"]: model for model in found}
    groups = {label: NavigationGroup(label, []) for label in GROUPS}
    groups[""].places.append(NavigationLink("Dashboard", home, here == home))
    named = [
        (label, name, models.pop(model)["admin_url"])
        for label, names in GROUPS.items()
        for model, name in names.items()
        if model in models
    ]
    others = [("Other", model["name"], model["admin_url"]) for model in models.values()]
    for label, name, url in (*named, *others):
        groups[label].places.append(NavigationLink(name, url, here.startswith(url)))
    return [group for group in groups.values() if group.places]
