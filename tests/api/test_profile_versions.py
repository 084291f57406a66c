"""GET /profiles/{name}/versions and …/versions/{number}"""

from typing import Any

import pytest
from django.test import Client

from profiles_app.models import Profile
from profiles_app.services import profiles
from profiles_app.services.collections import load_shipped

pytestmark = pytest.mark.usefixtures("catalogue")

BASE = "/api/v1/profiles"
MOCK = {"module": "provider-mock", "source": None, "config": {}}


@pytest.fixture
def three(catalogue: None) -> Profile:
    profiles.create("mine", description="one", sections={"agents": {"critic": "Find."}})
    profiles.update("mine", description="two", version="2.0.0")
    return profiles.update("mine", sections={"providers": [MOCK]}, instruction="Help.")


def numbers(versions: list[dict[str, Any]]) -> list[int]:
    return [version["number"] for version in versions]


@pytest.mark.parametrize("path", ["mine", "local/mine", "local%2Fmine"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_versions_are_listed_newest_first(
    client: Client, three: Profile, path: str, slash: str
) -> None:
    response = client.get(f"{BASE}/{path}/versions{slash}")
    newest, second, first = response.json()
    assert response["X-Total-Count"] == "3"
    assert newest == {
        "number": 3,
        "isCurrent": True,
        "name": "mine",
        "collectionId": "local",
        "version": "2.0.0",
        "description": "two",
        "digest": "",
        "createdAt": newest["createdAt"],
    }
    assert newest["createdAt"].endswith("Z")
    assert (second["number"], second["version"], second["isCurrent"]) == (2, "2.0.0", False)
    assert (first["number"], first["description"]) == (1, "one")


def test_pages_join_to_the_whole_list(client: Client, three: Profile) -> None:
    url, pages = f"{BASE}/mine/versions?limit=2", []
    while url:
        response = client.get(url)
        pages += response.json()
        url = response.get("Link", "").removeprefix("<").removesuffix('>; rel="next"')
    assert numbers(pages) == [3, 2, 1]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=a", "cursor=a"])
def test_a_wrong_page_is_refused(client: Client, three: Profile, query: str) -> None:
    assert client.get(f"{BASE}/mine/versions?{query}").status_code == 400


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_version_is_answered_in_full(client: Client, three: Profile, slash: str) -> None:
    version = client.get(f"{BASE}/local/mine/versions/3{slash}").json()
    assert version == client.get(f"{BASE}/mine/versions").json()[0] | {
        "instruction": "Help.",
        "providers": [MOCK],
        "tools": [],
        "hooks": [],
        "behaviors": [],
        "session": {},
        "agents": {"critic": "Find."},
        "context": {},
    }


def test_an_older_version_says_what_it_said(client: Client, three: Profile) -> None:
    first = client.get(f"{BASE}/mine/versions/1").json()
    assert (first["description"], first["providers"]) == ("one", [])


@pytest.mark.parametrize("number", ["0", "4", "999999999", "9999999999", "-1", "a", "1.0"])
def test_an_unknown_version_is_not_found(client: Client, three: Profile, number: str) -> None:
    response = client.get(f"{BASE}/mine/versions/{number}")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["versions", "versions/1", "diff"])
def test_an_unknown_profile_has_no_versions(client: Client, path: str) -> None:
    assert client.get(f"{BASE}/local/missing/{path}").status_code == 404


def test_every_profile_has_its_first_version(client: Client) -> None:
    for profile in Profile.objects.all():
        assert numbers(client.get(f"{BASE}/{profile}/versions").json()) == [1]


def test_a_profile_whose_file_changes_has_a_new_version(client: Client) -> None:
    base = Profile.objects.get(name="base")
    base.instruction, base.digest = "Older.", "0" * 64
    base.save(update_fields=["instruction", "digest"])
    assert load_shipped().updated == ["foundation/base"]
    newest, older, _ = client.get(f"{BASE}/foundation/base/versions").json()
    assert (newest["number"], older["digest"]) == (3, "0" * 64)
    assert client.get(f"{BASE}/base/versions/2").json()["instruction"] == "Older."


def test_secrets_are_masked(client: Client) -> None:
    base = Profile.objects.get(name="base")
    base.definition["providers"][0]["config"]["api_key"] = "sk-canary"
    base.save(update_fields=["definition"])
    version = client.get(f"{BASE}/base/versions/2")
    assert version.json()["providers"][0]["config"]["api_key"] == "********"
    assert b"sk-canary" not in version.content
