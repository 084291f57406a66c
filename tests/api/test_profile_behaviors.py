"""Behaviors of profiles, which are kept as they were written."""

from typing import Any

import pytest
from django.test import Client

from profiles_app import profile_format
from profiles_app.exceptions import InvalidDefinition
from profiles_app.models import Profile
from tests.conftest import Api

pytestmark = pytest.mark.usefixtures("catalogue")
BEHAVIORS = ["foundation:streaming-ui", {"bundle": "git+https://host/b@main", "config": {"a": 1}}]
FILE = b"""---
schema_version: 2
profile: {name: mine, version: 1.0.0, description: Mine.}
providers: [{module: provider-mock}]
behaviors:
- foundation:streaming-ui
- {bundle: git+https://host/b@main, config: {a: 1}}
---
Help.
"""


def create(api: Api, **more: Any) -> Any:
    body = {"name": "mine", "providers": [{"module": "provider-mock"}], **more}
    return api("post", "/profiles/", body)


def test_they_are_answered_as_they_were_sent(api: Api) -> None:
    assert create(api, behaviors=BEHAVIORS).json()["behaviors"] == BEHAVIORS
    assert api("get", "/profiles/local/mine").json()["behaviors"] == BEHAVIORS
    assert api("get", "/profiles/local/mine/versions/1").json()["behaviors"] == BEHAVIORS
    plan = api("post", "/mount-plans/generate", {"profile_id": "local/mine"})
    assert plan.status_code == 201


def test_patch_replaces_and_removes_them_and_leaves_them_alone(api: Api) -> None:
    create(api, behaviors=BEHAVIORS)
    renamed = api("patch", "/profiles/local/mine", {"description": "Other."}).json()
    assert renamed["behaviors"] == BEHAVIORS
    assert api("patch", "/profiles/local/mine", {"behaviors": ["x"]}).json()["behaviors"] == ["x"]
    removed = api("patch", "/profiles/local/mine", {"behaviors": []}).json()
    assert (removed["behaviors"], removed["versionNumber"]) == ([], 4)
    assert "behaviors" not in Profile.objects.get(name="mine").definition


def test_a_copy_has_them_too(api: Api) -> None:
    create(api, behaviors=BEHAVIORS)
    copied = api("post", "/profiles/local/mine/copy", {"new_name": "other"}).json()
    assert copied["behaviors"] == BEHAVIORS


@pytest.mark.parametrize("behaviors", ["x", {"a": 1}, [1], [""], [None], [["x"]], ["x"] * 201])
def test_what_is_no_list_of_them_is_refused(api: Api, behaviors: Any) -> None:
    answer = create(api, behaviors=behaviors)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "behaviors")


def test_a_secret_in_them_is_refused(api: Api) -> None:
    behaviors = [{"bundle": "b", "config": {"api_key": "sk-0123456789abcdef0123456789abcdef"}}]
    assert create(api, behaviors=behaviors).status_code == 400


def test_a_file_has_them_and_is_written_with_them() -> None:
    parsed = profile_format.parse_profile(FILE)
    assert parsed.definition["behaviors"] == BEHAVIORS
    with pytest.raises(InvalidDefinition, match="behaviors"):
        profile_format.parse_profile(FILE.replace(b"behaviors:", b"behaviors: 1\nhooks:"))


def test_a_version_is_written_as_a_file_with_them(api: Api) -> None:
    create(api, behaviors=BEHAVIORS, description="Mine.")
    version = Profile.objects.get(name="mine").versions.get(number=1)
    again = profile_format.parse_profile(profile_format.render_profile(version).encode())
    assert again.definition["behaviors"] == BEHAVIORS


def test_a_profile_without_them_is_no_other_version_than_before(client: Client) -> None:
    shipped = Profile.objects.get(collection="foundation", name="base")
    assert "behaviors" not in shipped.definition
    listed = client.get("/api/v1/profiles/").json()
    assert {row["sourceType"] for row in listed} == {"shipped"}
