"""The console's navigation: its pages in the order in which people need them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import reverse

# Group → model and what its page is called; a model that is not here stands in the last group.
GROUPS = {
    "": {
        "Session": "Sessions",
        "Run": "Runs",
        "Approval": "Approvals",
        "Profile": "Profiles",
        "AmplifiedDirectory": "Directories",
        "Collection": "Collections",
        "ApiKey": "API keys",
    },
    "People": {"User": "Users", "Group": "Groups"},
    "Queue": {"ProcrastinateJob": "Jobs"},
}
LAST = "Queue"


@dataclass(frozen=True)
class Place:
    """A page of the navigation."""

    label: str
    url: str
    is_current: bool


@dataclass(frozen=True)
class Group:
    """Pages that belong together, under a heading; the first have none."""

    label: str
    places: list[Place]


def navigation(apps: list[dict[str, Any]], here: str) -> list[Group]:
    """Return the pages that a user may see, of the apps that the admin lists for them.

    `here` is the path of the page that is shown; it and what is below its place are current.
    """
    urls = {model["object_name"]: model["admin_url"] for model in _models(apps)}
    if not urls:
        return []
    home = reverse("admin:index")
    groups = []
    for label, names in GROUPS.items():
        shown = [(name, urls.pop(model)) for model, name in names.items() if model in urls]
        groups.append(Group(label, [Place(n, url, here.startswith(url)) for n, url in shown]))
    groups[0].places.insert(0, Place("Dashboard", home, here == home))
    rest = [m for m in _models(apps) if m["object_name"] in urls]
    groups[-1].places.extend(
        Place(model["name"], model["admin_url"], here.startswith(model["admin_url"]))
        for model in rest
    )
    return [group for group in groups if group.places]


def _models(apps: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the models that have a list."""
    for app in apps:
        yield from (model for model in app["models"] if model.get("admin_url"))
