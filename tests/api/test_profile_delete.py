"""DELETE /profiles/{name}"""

import pytest
from django.test import Client

from profiles_app.models import Profile, ProfileVersion
from profiles_app.services import profiles

pytestmark = pytest.mark.usefixtures("catalogue")

BASE = "/api/v1/profiles"


@pytest.fixture(autouse=True)
def mine(catalogue: None) -> Profile:
    profile = profiles.create("mine")
    return profiles.update("mine", description=f"of {profile}")


@pytest.mark.parametrize("path", ["mine", "local/mine", "local/mine/", "local%2Fmine"])
def test_a_local_profile_goes_with_its_versions(client: Client, path: str) -> None:
    response = client.delete(f"{BASE}/{path}")
    assert (response.status_code, response.content) == (204, b"")
    assert client.get(f"{BASE}/local/mine").status_code == 404
    assert not ProfileVersion.objects.filter(profile__name="mine").exists()


def test_a_profile_that_comes_again_begins_again(client: Client) -> None:
    client.delete(f"{BASE}/mine")
    client.post(f"{BASE}/", {"name": "mine"}, content_type="application/json")
    assert client.get(f"{BASE}/mine").json()["versionNumber"] == 1


def test_the_active_profile_stays(client: Client) -> None:
    profiles.activate("mine")
    response = client.delete(f"{BASE}/mine")
    assert (response.status_code, response.json()["code"]) == (409, "conflict")
    assert "DELETE /api/v1/profiles/active" in response.json()["detail"]
    client.delete(f"{BASE}/active")
    assert client.delete(f"{BASE}/mine").status_code == 204


def test_a_shipped_profile_stays(client: Client) -> None:
    assert client.delete(f"{BASE}/base").status_code == 403
    assert Profile.objects.filter(name="base").exists()


def test_an_unknown_profile_is_not_found(client: Client) -> None:
    assert client.delete(f"{BASE}/local/missing").status_code == 404


def test_sessions_outlive_their_profile(client: Client) -> None:
    made = client.post(
        "/api/v1/sessions/", {"profile_name": "mine"}, content_type="application/json"
    ).json()
    client.delete(f"{BASE}/mine")
    assert client.get(f"/api/v1/sessions/{made['sessionId']}").json()["profileName"] == "local/mine"
    assert client.get(made["mountPlanPath"]).json()["profileName"] == "local/mine"
