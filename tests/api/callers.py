"""Callers with keys, and the endpoints of sessions as the resolver has them."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver

from amplifierd.auth import keys
from profiles_app.models import AmplifiedDirectory
from tests.conftest import Api

# What views with no `actions` of their own answer.
METHODS = ("get", "post", "put", "patch", "delete")


class Caller:
    """The API with one key."""

    def __init__(self, api: Api, owner: str, scope: str = "write") -> None:
        self.api = api
        self.made, self.key = keys.create(name=owner, owner=owner, scope=scope)
        self.headers = {"Authorization": f"Bearer {self.key}"}

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Send a request with the key."""
        return self.api(method, path, body, **self.headers, **headers)

    @property
    def directory(self) -> str:
        """Where the caller may create sessions: a directory of its own, if keys are required."""
        if self.made.scope == "admin" or not settings.REQUIRE_KEYS:
            return "."
        owner = self.made.owner
        AmplifiedDirectory.objects.get_or_create(relative_path=owner, defaults={"owner": owner})
        return owner

    def session(self, **body: Any) -> str:
        """Create a session; return its id."""
        given = {"profile_name": "foundation/test", "amplified_dir": self.directory, **body}
        created = self("post", "/sessions/", given)
        assert created.status_code == 201, created.content
        return created.json()["sessionId"]


class Endpoint(NamedTuple):
    """One method of one URL of the API."""

    method: str
    # Below /api/v1; what varies stands as <name>.
    path: str

    def url(self, **values: str) -> str:
        """Return the path with its parts filled in; those not given are `1`."""
        return re.sub("<(.*?)>", lambda part: values.get(part[1], "1"), self.path)


def endpoints() -> list[Endpoint]:
    """Return every endpoint of the API."""
    found = set()
    for route, view in _routes(get_resolver().url_patterns):
        if not route.startswith("^?api/v1/") and not route.startswith("api/v1/"):
            continue
        path = "/" + _plain(route).removeprefix("api/v1/")
        found |= {Endpoint(method, path) for method in _methods(view) if method != "head"}
    return sorted(found)


def _routes(patterns: list[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern).removeprefix("^")
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route, pattern.callback


def _methods(view: Any) -> list[str]:
    """Return the methods that a view answers; of one that does not say, GET."""
    if hasattr(view, "actions"):
        return list(view.actions)
    kind = getattr(view, "cls", None)
    return [method for method in METHODS if hasattr(kind, method)] or ["get"]


def _plain(route: str) -> str:
    """Return a route's expression as a path: groups by their names, no optional parts."""
    route = re.sub(r"\(\?P(<\w+>)(?:[^()]|\([^()]*\))*\)", r"\1", route)
    return route.removesuffix("$").removesuffix("\\Z").removesuffix("/?").replace("\\", "")
