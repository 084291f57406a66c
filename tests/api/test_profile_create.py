"""POST /profiles/"""

from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from profiles_app.models import Profile

pytestmark = pytest.mark.usefixtures("catalogue")

URL = "/api/v1/profiles/"
# What the web app's form sends: blank sources, texts by name, one module each.
FORM = {
    "name": "mine",
    "version": "2.0.0",
    "description": "Mine.",
    "providers": [{"module": "provider-mock", "source": "", "config": {"delay_ms": 1}}],
    "tools": [],
    "hooks": [],
    "orchestrator": {"module": "loop-streaming", "source": "git+https://host/loop@main"},
    "context": {"module": "context-simple", "source": "", "config": {"max_tokens": 400}},
    "agents": {"critic": "Find the flaw."},
    "contexts": {"rules": "Be kind."},
    "instruction": "Help.",
}


def create(client: Client, body: Any) -> HttpResponse:
    return client.post(URL, body, content_type="application/json")


def stored(name: str = "mine") -> Profile:
    return Profile.objects.get(collection="local", name=name)


def test_a_profile_is_created_in_local_and_answered_in_full(client: Client) -> None:
    response = create(client, FORM)
    assert response.status_code == 201
    assert response.json() == client.get(f"{URL}local/mine").json()
    assert response.json() == {
        "name": "mine",
        "collectionId": "local",
        "source": "local/mine",
        "sourceType": "local",
        "isActive": False,
        "schemaVersion": 2,
        "description": "Mine.",
        "version": "2.0.0",
        "versionNumber": 1,
        "inheritanceChain": [],
        "instruction": "Help.",
        "providers": [{"module": "provider-mock", "source": None, "config": {"delay_ms": 1}}],
        "tools": [],
        "hooks": [],
        "behaviors": [],
        "session": {
            "orchestrator": {**FORM["orchestrator"], "config": {}},
            "context": {**FORM["context"], "source": None},
            "contextManager": {**FORM["context"], "source": None},
        },
        "agents": ["critic"],
        "context": ["rules"],
        "warnings": [],
    }


def test_agents_and_contexts_are_kept_whole(client: Client) -> None:
    create(client, FORM)
    definition = stored().definition
    assert definition["agents"] == {"critic": "Find the flaw."}
    assert definition["context"] == {"rules": "Be kind."}


@pytest.mark.parametrize("slash", ["", "/"])
def test_only_a_name_is_needed(client: Client, slash: str) -> None:
    url = URL.rstrip("/") + slash
    response = client.post(url, {"name": "mine"}, content_type="application/json")
    assert response.status_code == 201
    assert (response.json()["version"], response.json()["description"]) == ("1.0.0", "")


def test_a_session_can_be_made_of_it(client: Client) -> None:
    create(client, FORM)
    body = {"profile_name": "local/mine"}
    response = client.post("/api/v1/sessions/", body, content_type="application/json")
    plan = client.get(response.json()["mountPlanPath"]).json()
    assert plan["providers"]["local/mine.provider.mock"]["metadata"]["config"] == {"delay_ms": 1}
    assert plan["session"]["profileVersion"] == 1


def test_a_name_stands_once_in_local(client: Client) -> None:
    create(client, FORM)
    response = create(client, {"name": "mine", "description": "another"})
    assert (response.status_code, response.json()["code"]) == (409, "conflict")
    assert "local/mine already" in response.json()["detail"]
    assert stored().description == "Mine."


def test_a_local_profile_may_be_named_like_a_shipped_one(client: Client) -> None:
    assert create(client, {"name": "base"}).status_code == 201
    assert client.get(f"{URL}base").json()["collectionId"] == "local"
    assert client.get(f"{URL}foundation/base").json()["collectionId"] == "foundation"


@pytest.mark.parametrize(
    "name", ["", "Upper", "a b", "a/b", "ä", "a\n", "a" * 65, "active", "versions", "diff", 1, None]
)
def test_a_name_that_is_none_is_refused(client: Client, name: Any) -> None:
    response = create(client, {"name": name})
    assert (response.status_code, response.json()["code"]) == (400, "invalid")
    assert "name" in response.json()["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"session": {}}, "session"),
        ({"version": ""}, "version"),
        ({"version": "1" * 65}, "version"),
        ({"description": "d" * 1001}, "description"),
        ({"description": "a\0b"}, "description"),
        ({"instruction": 1}, "instruction"),
        ({"providers": {}}, "providers"),
        ({"providers": ["provider-mock"]}, "providers"),
        ({"providers": [{"module": ""}]}, "providers"),
        ({"providers": [{"module": "m", "colour": "red"}]}, "providers"),
        ({"providers": [{"module": "m"}, {"module": "m"}]}, "providers"),
        ({"providers": None}, "providers"),
        ({"tools": [{"module": "m", "config": []}]}, "tools"),
        ({"orchestrator": []}, "orchestrator"),
        ({"context": ["rules"]}, "context"),
        ({"agents": ["critic"]}, "agents"),
        ({"contexts": {"rules": 1}}, "contexts"),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(client: Client, body: Any, field: str) -> None:
    response = create(client, {"name": "mine", **body})
    assert (response.status_code, response.json()["code"]) == (400, "invalid")
    assert response.json()["errors"][0]["field"] == field
    assert not Profile.objects.filter(name="mine").exists()


@pytest.mark.parametrize("body", [[], "name", 1, None])
def test_a_body_that_is_no_object_is_refused(client: Client, body: Any) -> None:
    assert create(client, body).status_code == 400


def test_a_key_may_be_in_camel_case_but_once(client: Client) -> None:
    body = {"name": "mine", "expectedVersion": 1}
    assert create(client, body).json()["errors"][0]["field"] == "expectedVersion"


@pytest.mark.parametrize(
    "config",
    [
        {"api_key": "sk-canary"},
        {"apiKey": "********"},
        {"headers": {"Authorization": "Bearer sk-canary"}},
        {"api_key": "${NAME}sk-canary"},
        {"base_url": "https://me:sk-canary@host/v1"},
    ],
)
def test_a_literal_secret_is_refused(client: Client, config: dict[str, Any]) -> None:
    response = create(client, {"name": "mine", "providers": [{"module": "p", "config": config}]})
    assert response.status_code == 400
    assert "${NAME}" in response.json()["detail"]
    assert b"sk-canary" not in response.content
    assert not Profile.objects.filter(name="mine").exists()


@pytest.mark.parametrize(
    "module",
    [
        {
            "module": "provider-openai",
            "config": {"api_key": "${KEY}", "headers": {"token": "Bearer ${T}"}},
        },
        {"module": "provider-mock", "config": {"base_url": "https://${USER}@host/v1"}},
        {"module": "provider-mock", "source": "git+ssh://git@host/module@main"},
    ],
)
def test_references_and_users_that_are_no_secrets_are_kept(
    client: Client, module: dict[str, Any]
) -> None:
    response = create(client, {"name": "mine", "providers": [module]})
    assert response.status_code == 201
    full = {"source": None, "config": {}, **module}
    assert response.json()["providers"] == [full]


def test_a_definition_has_a_size(client: Client) -> None:
    response = create(client, {"name": "mine", "agents": {"a": "x" * 300_000}})
    assert response.status_code == 400
    assert "256 KB" in response.json()["detail"]


def test_a_retry_with_the_same_key_gets_the_first_answer(client: Client) -> None:
    answers = [
        client.post(
            URL,
            {"name": "mine"},
            content_type="application/json",
            headers={"Idempotency-Key": "once"},
        )
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
