"""What the daemon says of itself, and how its URLs are found."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest
from django.conf import settings
from django.db import OperationalError, connection, connections
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from amplifierd import __version__
from amplifierd.common import migrations
from tests.conftest import Api


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Forget that the migrations were found applied."""
    migrations.forget()
    yield
    migrations.forget()


def test_status_tells_version_age_and_root(api: Api) -> None:
    first, second = api("get", "/status").json(), api("get", "/status").json()
    assert first["status"] == "running"
    assert first["version"] == __version__
    assert first["rootDir"] == str(settings.ROOT_DIR)
    assert second["uptimeSeconds"] >= first["uptimeSeconds"] >= 0


def test_health_is_healthy_with_a_database(api: Api) -> None:
    answer = api("get", "/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "healthy"})


def test_health_without_a_database_is_unavailable(api: Api) -> None:
    away = OperationalError("connection refused")
    with patch.object(connections["default"], "cursor", side_effect=away):
        answer = api("get", "/health")
        alive = api.client.get("/livez")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer["Retry-After"] == "1"
    assert alive.status_code == 200


def test_ready_with_a_database_and_its_migrations(client: Client, db: None) -> None:
    assert client.get("/readyz").status_code == 200


def test_not_ready_before_the_migrations(client: Client, db: None, unchecked: None) -> None:
    recorder = MigrationRecorder(connection)
    last = recorder.migration_qs.filter(app="sessions_app").latest("name")
    recorder.record_unapplied(last.app, last.name)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "migrate" in answer.json()["detail"]
    recorder.record_applied(last.app, last.name)
    assert client.get("/readyz").status_code == 200


def test_method_that_is_not_there_is_a_problem(api: Api) -> None:
    answer = api("delete", "/status")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
def test_url_that_is_not_there_is_a_problem(api: Api, method: str) -> None:
    answer = api(method, "/nothing/here")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/api/v1/status", "/api/v1/health", "/livez", "/readyz"])
def test_own_urls_answer_with_and_without_a_slash(client: Client, db: None, path: str) -> None:
    assert client.get(path).status_code == client.get(f"{path}/").status_code == 200


def api_patterns(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    """Yield the pattern of every URL of the API."""
    for entry in resolver.url_patterns:
        pattern = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from api_patterns(entry, pattern)
        elif isinstance(entry, URLPattern) and "api/v1/" in pattern:
            yield pattern


def test_every_url_of_the_api_takes_a_slash_or_none() -> None:
    patterns = list(api_patterns(get_resolver()))
    assert len(patterns) > 10
    assert [pattern for pattern in patterns if not pattern.endswith("/?$")] == []


def test_root_leads_a_person_to_the_admin(client: Client) -> None:
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    assert client.get("/", headers={"Accept": browser}).headers["Location"] == "/admin/"


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "text/plain", "nonsense"])
def test_root_tells_a_program_where_things_are(client: Client, accept: str | None) -> None:
    answer = client.get("/", headers={"Accept": accept} if accept else {})
    assert answer.json() == {
        "name": "amplifierd",
        "version": __version__,
        "status": "running",
        "api": "/api/v1",
        "docs": "/docs",
        "openapi": "/api/v1/openapi.json",
        "console": "/admin/",
    }
    assert "Accept" in answer["Vary"]


@pytest.mark.parametrize("path", ["/admin", "/admin/login"])
def test_admin_without_its_slash_is_a_redirect(client: Client, path: str) -> None:
    assert client.get(f"{path}?next=x").headers["Location"] == f"{path}/?next=x"


def test_admin_asks_who_you_are(client: Client, db: None) -> None:
    assert client.get("/admin/", follow=True).status_code == 200
