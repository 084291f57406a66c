"""POST /profiles/{name}/activate and DELETE /profiles/active"""

import pytest
from django.http import HttpResponse
from django.test import Client

from profiles_app.models import Profile

pytestmark = pytest.mark.usefixtures("catalogue")

BASE = "/api/v1/profiles"


def post(client: Client, url: str) -> HttpResponse:
    return client.post(url, content_type="application/json")


def active(client: Client) -> str | None:
    profile = client.get(f"{BASE}/active").json()
    return profile and f"{profile['collectionId']}/{profile['name']}"


@pytest.mark.parametrize("name", ["base", "foundation/base", "foundation%2Fbase"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_profile_is_activated(client: Client, name: str, slash: str) -> None:
    response = post(client, f"{BASE}/{name}/activate{slash}")
    assert response.status_code == 200
    assert response.json() == {"status": "activated", "name": name.replace("%2F", "/")}
    assert active(client) == "foundation/base"


def test_one_profile_is_active_at_a_time(client: Client) -> None:
    post(client, f"{BASE}/base/activate")
    post(client, f"{BASE}/production/activate")
    assert active(client) == "foundation/production"
    assert Profile.objects.filter(is_active=True).count() == 1


def test_activating_again_changes_nothing(client: Client) -> None:
    assert post(client, f"{BASE}/base/activate").status_code == 200
    assert (
        client.post(f"{BASE}/base/activate", {}, content_type="application/json").status_code == 200
    )
    assert active(client) == "foundation/base"


def test_activating_makes_no_version(client: Client) -> None:
    post(client, f"{BASE}/base/activate")
    assert client.get(f"{BASE}/base").json()["versionNumber"] == 1


@pytest.mark.parametrize("slash", ["", "/"])
def test_none_is_active_after_deactivating(client: Client, slash: str) -> None:
    post(client, f"{BASE}/base/activate")
    response = client.delete(f"{BASE}/active{slash}")
    assert (response.status_code, response.json()) == (200, {"success": True})
    assert active(client) is None
    assert client.delete(f"{BASE}/active").json() == {"success": True}


def test_an_unknown_profile_leaves_the_active_one(client: Client) -> None:
    post(client, f"{BASE}/base/activate")
    assert post(client, f"{BASE}/missing/activate").status_code == 404
    assert active(client) == "foundation/base"


def test_activating_takes_no_body(client: Client) -> None:
    body = {"name": "base"}
    response = client.post(f"{BASE}/base/activate", body, content_type="application/json")
    assert response.status_code == 400


def test_a_directory_decides_what_a_session_runs_with(client: Client) -> None:
    post(client, f"{BASE}/production/activate")
    made = client.post("/api/v1/sessions/", {}, content_type="application/json").json()
    assert made["profileName"] == "foundation/base"
