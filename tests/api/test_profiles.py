"""GET /profiles/, /profiles/active and /profiles/{name}."""

from typing import Any

import pytest
from django.test import Client

from profiles_app.models import Profile

pytestmark = pytest.mark.usefixtures("catalogue")

BASE = "/api/v1/profiles"


def local(name: str, **fields: Any) -> Profile:
    return Profile.objects.create(
        collection="local", name=name, version="1", source="local", **fields
    )


@pytest.mark.parametrize("slash", ["", "/"])
def test_profiles_are_a_bare_array(client: Client, slash: str) -> None:
    profiles = client.get(f"{BASE}{slash}").json()
    base = next(profile for profile in profiles if profile["name"] == "base")
    assert len(profiles) == 7
    assert base == {
        "name": "base",
        "collectionId": "foundation",
        "source": "shipped",
        "sourceType": "shipped",
        "isActive": False,
        "schemaVersion": 2,
        "description": Profile.objects.get(name="base").description,
    }


def test_newest_profiles_come_first_then_by_name(client: Client) -> None:
    local("zeta")
    names = [profile["name"] for profile in client.get(f"{BASE}/").json()]
    assert names == [
        "zeta", "dev", "full", "base", "default", "foundation", "production", "test",
    ]  # fmt: skip


def test_pages_join_to_the_whole_list(client: Client) -> None:
    whole = client.get(f"{BASE}/").json()
    url, pages = f"{BASE}/?limit=3", []
    while url:
        response = client.get(url)
        assert response["X-Total-Count"] == "7"
        pages += response.json()
        link = response.get("Link", "")
        url = link.removeprefix("<").removesuffix('>; rel="next"')
    assert pages == whole


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=a", "limit=-1", "cursor=a"])
def test_a_wrong_page_is_refused(client: Client, query: str) -> None:
    assert client.get(f"{BASE}/?{query}").status_code == 400


def test_unknown_query_parameters_are_ignored(client: Client) -> None:
    assert client.get(f"{BASE}/?colour=red").status_code == 200


@pytest.mark.parametrize("name", ["base", "base/", "foundation/base", "foundation/base/"])
def test_a_profile_is_found_by_its_name(client: Client, name: str) -> None:
    detail = client.get(f"{BASE}/{name}").json()
    assert (detail["collectionId"], detail["name"]) == ("foundation", "base")


def test_a_slash_may_be_escaped(client: Client) -> None:
    assert client.get(f"{BASE}/foundation%2Fbase").json()["name"] == "base"


def test_detail_has_all_that_a_profile_defines(client: Client) -> None:
    definition = {
        "providers": [{"module": "provider-mock", "source": None, "config": {"delay_ms": 1}}],
        "tools": [],
        "hooks": [],
        "behaviors": [],
        "session": {"context": {"module": "context-simple", "source": None, "config": {}}},
        "agents": {"critic": "Find the flaw."},
        "context": {"rules": "Be kind."},
    }
    profile = local("mine", definition=definition, instruction="Help.", description="Mine.")
    assert client.get(f"{BASE}/{profile}").json() == {
        "name": "mine",
        "collectionId": "local",
        "source": "local/mine",
        "sourceType": "local",
        "isActive": False,
        "schemaVersion": 2,
        "description": "Mine.",
        "version": "1",
        "versionNumber": 1,
        "inheritanceChain": [],
        "instruction": "Help.",
        "providers": definition["providers"],
        "tools": [],
        "hooks": [],
        "behaviors": [],
        "session": {
            "context": definition["session"]["context"],
            "contextManager": definition["session"]["context"],
        },
        "agents": ["critic"],
        "context": ["rules"],
        "warnings": [],
    }


@pytest.mark.parametrize("path", ["missing", "foundation/missing", "a/b/c", "a%00b", "%20"])
def test_an_unknown_profile_is_not_found(client: Client, path: str) -> None:
    response = client.get(f"{BASE}/{path}")
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"


@pytest.mark.parametrize("slash", ["", "/"])
def test_no_profile_is_active_at_first(client: Client, slash: str) -> None:
    response = client.get(f"{BASE}/active{slash}")
    assert (response.status_code, response.content) == (200, b"null")


def test_the_active_profile_is_marked_and_shown(client: Client) -> None:
    local("mine", is_active=True)
    assert client.get(f"{BASE}/active").json()["name"] == "mine"
    active = [profile["name"] for profile in client.get(f"{BASE}/").json() if profile["isActive"]]
    assert active == ["mine"]


def test_literal_secrets_are_masked_and_references_are_shown(client: Client) -> None:
    config = {"api_key": "sk-canary", "nested": {"auth_token": "sk-canary"}}
    reference = {"api_key": "${OPENAI_API_KEY}"}
    definition = Profile().definition | {
        "providers": [{"module": "provider-a", "source": None, "config": config}],
        "tools": [{"module": "tool-b", "source": None, "config": reference}],
    }
    local("mine", definition=definition)
    response = client.get(f"{BASE}/mine")
    assert b"sk-canary" not in response.content
    assert response.json()["tools"][0]["config"] == reference
