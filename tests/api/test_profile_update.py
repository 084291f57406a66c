"""PATCH /profiles/{name}"""

from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from profiles_app.models import Profile, ProfileVersion
from profiles_app.services import profiles

pytestmark = pytest.mark.usefixtures("catalogue")

BASE = "/api/v1/profiles"
URL = f"{BASE}/local/mine"
LOOP = {"module": "loop-streaming", "source": None, "config": {}}
MOCK = {"module": "provider-mock", "source": None, "config": {"delay_ms": 1}}


@pytest.fixture(autouse=True)
def mine(catalogue: None) -> Profile:
    return profiles.create(
        "mine",
        description="Mine.",
        instruction="Help.",
        sections={"providers": [MOCK], "agents": {"critic": "Find the flaw."}},
        modules={"orchestrator": LOOP, "context": {"module": "context-simple"}},
    )


def patch(client: Client, body: Any, url: str = URL) -> HttpResponse:
    return client.patch(url, body, content_type="application/json")


def test_what_is_given_changes_and_the_rest_stays(client: Client) -> None:
    before = client.get(URL).json()
    after = patch(client, {"description": "Yours."}).json()
    assert after == before | {"description": "Yours.", "versionNumber": 2}
    assert client.get(URL).json() == after


@pytest.mark.parametrize("path", ["mine", "mine/", "local/mine/", "local%2Fmine"])
def test_a_profile_is_changed_by_each_form_of_its_name(client: Client, path: str) -> None:
    assert patch(client, {"version": "3"}, f"{BASE}/{path}").json()["version"] == "3"


def test_a_section_replaces_the_one_that_was_there(client: Client) -> None:
    providers = [{"module": "provider-local"}]
    answer = patch(client, {"providers": providers, "agents": {"editor": "Shorten."}}).json()
    assert answer["providers"] == [{"module": "provider-local", "source": None, "config": {}}]
    assert answer["agents"] == ["editor"]


def test_null_takes_a_module_from_the_session_and_leaves_the_other(client: Client) -> None:
    session = patch(client, {"context": None}).json()["session"]
    assert session == {"orchestrator": LOOP}


def test_a_list_of_names_that_a_form_made_a_mapping_of_keeps_the_texts(client: Client) -> None:
    patch(client, {"agents": {"0": "critic", "editor": "Shorten."}, "contexts": {"0": "critic"}})
    definition = Profile.objects.get(name="mine").definition
    assert definition["agents"] == {"critic": "Find the flaw.", "editor": "Shorten."}
    assert definition["context"] == {"0": "critic"}


def test_the_forms_blank_source_is_none(client: Client) -> None:
    loop = {"module": "loop-streaming", "source": ""}
    assert patch(client, {"orchestrator": loop}).json()["session"]["orchestrator"] == LOOP


def test_a_change_of_nothing_makes_no_version(client: Client) -> None:
    same = {"description": "Mine.", "providers": [MOCK]}
    assert patch(client, same).json()["versionNumber"] == 1
    assert patch(client, {}).json()["versionNumber"] == 1


def test_true_is_not_one(client: Client) -> None:
    one = [{"module": "provider-mock", "config": {"delay_ms": True}}]
    answer = patch(client, {"providers": one}).json()
    assert answer["versionNumber"] == 2
    assert answer["providers"][0]["config"]["delay_ms"] is True


def test_a_shipped_profile_is_read_only_and_says_what_to_do(client: Client) -> None:
    response = patch(client, {"description": "x"}, f"{BASE}/foundation/base")
    assert (response.status_code, response.json()["code"]) == (403, "permission_denied")
    assert "POST /api/v1/profiles/foundation/base/copy" in response.json()["detail"]
    assert Profile.objects.get(name="base").version_number == 1


def test_an_unknown_profile_is_not_found(client: Client) -> None:
    assert patch(client, {"description": "x"}, f"{BASE}/local/missing").status_code == 404


@pytest.mark.parametrize("key", ["expected_version", "expectedVersion"])
def test_a_change_of_the_version_that_was_seen_is_taken(client: Client, key: str) -> None:
    answer = patch(client, {"description": "x", key: 1}).json()
    assert answer["versionNumber"] == 2


def test_a_change_of_an_older_version_is_refused(client: Client) -> None:
    patch(client, {"description": "theirs"})
    response = patch(client, {"description": "ours", "expected_version": 1})
    problem = response.json()
    assert (response.status_code, problem["code"]) == (409, "conflict")
    assert (problem["expected"], problem["current"]) == (1, 2)
    assert client.get(URL).json()["description"] == "theirs"


@pytest.mark.parametrize(
    "body",
    [
        {"name": "yours"},
        {"colour": "red"},
        {"version": None},
        {"version": ""},
        {"instruction": None},
        {"providers": None},
        {"providers": [{"module": "p", "config": {"api_key": "sk-canary"}}]},
        {"orchestrator": {"module": "m", "config": {"token": "sk-canary"}}},
        {"expected_version": 0},
        {"expected_version": "one"},
        {"expected_version": 2**40},
        [],
    ],
)
def test_a_wrong_change_changes_nothing(client: Client, body: Any) -> None:
    before = client.get(URL).json()
    response = patch(client, body)
    assert (response.status_code, response.json()["code"]) == (400, "invalid")
    assert b"sk-canary" not in response.content
    assert client.get(URL).json() == before
    assert ProfileVersion.objects.filter(profile__name="mine").count() == 1


def test_a_session_keeps_the_version_that_it_began_with(client: Client) -> None:
    made = client.post(
        "/api/v1/sessions/", {"profile_name": "local/mine"}, content_type="application/json"
    ).json()
    before = client.get(made["mountPlanPath"]).json()
    patch(client, {"providers": [], "instruction": "Do not."})
    assert client.get(made["mountPlanPath"]).json() == before
    assert before["session"]["profileVersion"] == 1
    assert before["instruction"] == "Help."
