"""POST /profiles/{name}/copy"""

from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from profiles_app.models import Profile

pytestmark = pytest.mark.usefixtures("catalogue")

BASE = "/api/v1/profiles"


def copy(client: Client, name: str, body: Any) -> HttpResponse:
    return client.post(f"{BASE}/{name}/copy", body, content_type="application/json")


@pytest.mark.parametrize("name", ["base", "foundation/base", "foundation%2Fbase"])
@pytest.mark.parametrize("key", ["new_name", "newName"])
def test_a_copy_is_local_and_says_the_same(client: Client, name: str, key: str) -> None:
    original = client.get(f"{BASE}/foundation/base").json()
    response = copy(client, name, {key: "mine"})
    assert response.status_code == 201
    differs = {"name": "mine", "collectionId": "local", "source": "local/mine"}
    assert response.json() == original | differs | {"sourceType": "local"}


def test_a_copy_can_be_changed_and_its_original_stays(client: Client) -> None:
    before = client.get(f"{BASE}/foundation/base").json()
    copy(client, "base", {"new_name": "mine"})
    body = {"providers": []}
    answer = client.patch(f"{BASE}/mine", body, content_type="application/json")
    assert answer.json()["providers"] == []
    assert client.get(f"{BASE}/foundation/base").json() == before


def test_a_local_profile_can_be_copied(client: Client) -> None:
    copy(client, "base", {"new_name": "one"})
    assert copy(client, "one", {"new_name": "two"}).json()["name"] == "two"


def test_a_copy_does_not_take_the_place_of_another(client: Client) -> None:
    copy(client, "base", {"new_name": "mine"})
    response = copy(client, "production", {"new_name": "mine"})
    assert (response.status_code, response.json()["code"]) == (409, "conflict")


@pytest.mark.parametrize("body", [{}, {"new_name": "A b"}, {"new_name": 1}, {"name": "mine"}, []])
def test_a_copy_needs_a_name(client: Client, body: Any) -> None:
    assert copy(client, "base", body).status_code == 400


def test_an_unknown_profile_is_not_found(client: Client) -> None:
    assert copy(client, "local/missing", {"new_name": "mine"}).status_code == 404


def test_a_secret_is_not_copied(client: Client) -> None:
    base = Profile.objects.get(name="base")
    base.definition["providers"][0]["config"]["api_key"] = "sk-canary"
    base.save(update_fields=["definition"])
    response = copy(client, "base", {"new_name": "mine"})
    assert response.status_code == 400
    assert "providers[0].config.api_key" in response.json()["detail"]
    assert b"sk-canary" not in response.content
