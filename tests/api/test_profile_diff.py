"""GET /profiles/{name}/diff"""

from typing import Any

import pytest
from django.test import Client

from profiles_app.models import Profile
from profiles_app.services import profiles

pytestmark = pytest.mark.usefixtures("catalogue")

BASE = "/api/v1/profiles"
URL = f"{BASE}/local/mine/diff"


@pytest.fixture
def three(catalogue: None) -> None:
    providers = [{"module": "provider-mock", "config": {"delay_ms": 1, "old": True}}]
    profiles.create("mine", description="one", sections={"providers": providers})
    providers = [{"module": "provider-mock", "config": {"delay_ms": 2, "new": None}}]
    profiles.update("mine", sections={"providers": providers})
    profiles.update("mine", description="three", instruction="Help.")


def diff(client: Client, query: str = "") -> dict[str, Any]:
    response = client.get(f"{URL}{query}")
    assert response.status_code == 200
    return response.json()


def test_a_diff_names_what_was_added_removed_and_changed(client: Client, three: None) -> None:
    config = "providers.provider-mock.config"
    found = diff(client, "?from=1&to=2")
    assert found.pop("unified").splitlines() == [
        "--- local/mine@1",
        "+++ local/mine@2",
        "@@ -7,6 +7,6 @@",
        " providers:",
        " - module: provider-mock",
        "   config:",
        "-    old: true",
        "-    delay_ms: 1",
        "+    new: null",
        "+    delay_ms: 2",
        " ---",
    ]
    assert found == {
        "name": "mine",
        "collectionId": "local",
        "from": 1,
        "to": 2,
        "added": [{"path": f"{config}.new", "after": None}],
        "removed": [{"path": f"{config}.old", "before": True}],
        "changed": [{"path": f"{config}.delay_ms", "before": 1, "after": 2}],
    }


@pytest.mark.parametrize(
    ("query", "pair"),
    [
        ("", (2, 3)),
        ("?to=2", (1, 2)),
        ("?to=1", (1, 1)),
        ("?from=1", (1, 3)),
        ("?from=3&to=1", (3, 1)),
        ("?from=&to=", (2, 3)),
    ],
)
def test_the_newest_is_compared_with_the_one_before(
    client: Client, three: None, query: str, pair: tuple[int, int]
) -> None:
    found = diff(client, query)
    assert (found["from"], found["to"]) == pair


@pytest.mark.parametrize(
    "path", ["mine/diff", "mine/diff/", "local/mine/diff/", "local%2Fmine/diff"]
)
def test_each_form_of_the_name_will_do(client: Client, three: None, path: str) -> None:
    changed = client.get(f"{BASE}/{path}").json()["changed"]
    assert [change["path"] for change in changed] == ["description", "instruction"]


def test_a_profile_of_one_version_differs_in_nothing(client: Client) -> None:
    profiles.create("mine")
    found = diff(client)
    assert [found[key] for key in ("from", "to", "added", "removed", "changed", "unified")] == [
        *(1, 1, [], [], []),
        "",
    ]


@pytest.mark.parametrize("query", ["?from=0", "?to=a", "?from=-1", "?to=99999999999", "?from=1.5"])
def test_a_wrong_number_is_refused(client: Client, three: None, query: str) -> None:
    response = client.get(f"{URL}{query}")
    assert (response.status_code, response.json()["code"]) == (400, "invalid")


@pytest.mark.parametrize("query", ["?from=4", "?to=9"])
def test_an_unknown_version_is_not_found(client: Client, three: None, query: str) -> None:
    response = client.get(f"{URL}{query}")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert "Its newest is 3" in response.json()["detail"]


def test_a_secret_that_changed_is_named_and_masked(client: Client) -> None:
    for secret in ("sk-canary-1", "sk-canary-2"):
        base = Profile.objects.get(name="base")
        base.definition["providers"][0]["config"]["api_key"] = secret
        base.save(update_fields=["definition"])
    response = client.get(f"{BASE}/base/diff")
    assert b"sk-canary" not in response.content
    assert response.json()["changed"] == [
        {
            "path": "providers.provider-local.config.api_key",
            "before": "********",
            "after": "********",
        }
    ]
