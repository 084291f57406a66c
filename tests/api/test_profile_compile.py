"""POST /profiles/{name}/compile"""

from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from profiles_app.definition import validate_definition
from profiles_app.models import Profile
from profiles_app.services import profiles

pytestmark = pytest.mark.usefixtures("catalogue")

BASE = "/api/v1/profiles"


def post(client: Client, url: str) -> HttpResponse:
    return client.post(url, content_type="application/json")


def compiled(client: Client, **sections: Any) -> HttpResponse:
    """Compile a profile as it may be in the database, whatever can be made now."""
    session = sections.pop("modules", {})
    profiles.create("mine")
    content = validate_definition({"session": session, **sections})
    Profile.objects.filter(name="mine").update(definition=content)
    return post(client, f"{BASE}/local/mine/compile")


def problems(response: HttpResponse) -> list[tuple[str, str]]:
    assert (response.status_code, response.json()["code"]) == (400, "invalid")
    return [(error["field"], error["code"]) for error in response.json()["errors"]]


@pytest.mark.parametrize("name", ["base", "foundation/base", "foundation%2Fbase"])
def test_a_shipped_profile_compiles(client: Client, name: str) -> None:
    response = post(client, f"{BASE}/{name}/compile")
    assert response.status_code == 200
    assert response.json() == {
        "status": "compiled",
        "collectionId": "foundation",
        "profileName": "base",
        "name": "foundation/base",
        "compiledPath": "/api/v1/profiles/foundation/base/versions/1",
        "warnings": [],
    }


def test_every_shipped_profile_compiles(client: Client) -> None:
    answers = [post(client, f"{BASE}/{profile}/compile") for profile in Profile.objects.all()]
    assert [answer.status_code for answer in answers] == [200] * 7


def test_the_path_is_that_of_the_version_that_was_checked(client: Client) -> None:
    profiles.create("mine")
    profiles.update("mine", description="x")
    path = post(client, f"{BASE}/mine/compile").json()["compiledPath"]
    assert client.get(path).json()["number"] == 2


def test_an_unknown_provider_is_told_with_those_that_are_known(client: Client) -> None:
    response = compiled(client, providers=[{"module": "provider-x", "source": "git+https://h/x"}])
    assert problems(response) == [("providers[0].module", "unknown_module")]
    assert "provider-local, provider-mock" in response.json()["detail"]


def test_a_module_without_a_source_is_known_or_an_error(client: Client) -> None:
    response = compiled(
        client,
        tools=[{"module": "tool-web"}, {"module": "tool-b"}],
        hooks=[{"module": "hooks-log"}, {"module": "hooks-b", "source": "git+https://h/b@main"}],
        modules={"orchestrator": {"module": "loop-x"}, "context": {"module": "context-simple"}},
    )
    assert problems(response) == [
        ("session.orchestrator.module", "unknown_module"),
        ("tools[1].module", "unknown_module"),
        ("hooks[0].module", "unknown_module"),
    ]


def test_a_tool_is_the_daemons_own_wherever_its_code_would_be(client: Client) -> None:
    source = "git+https://h/b@main"
    tools = [{"module": "tool-web", "source": source}, {"module": "tool-b", "source": source}]
    response = compiled(client, tools=tools)
    assert problems(response) == [("tools[1].module", "unknown_module")]
    detail = response.json()["errors"][0]["detail"]
    assert "tool-bash, tool-filesystem, tool-mcp" in detail
    assert "The daemon executes its own tools and MCP servers." in detail


@pytest.mark.parametrize("asked", [1, "true", "bash", {}, [1], [""], [None]])
def test_who_asks_a_person_is_told_by_true_or_by_names(client: Client, asked: Any) -> None:
    config = {"require_approval": asked}
    response = compiled(client, tools=[{"module": "tool-bash", "config": config}])
    assert problems(response) == [("tools[0].config.require_approval", "invalid")]
    assert "a list of names" in response.json()["errors"][0]["detail"]


@pytest.mark.parametrize("asked", [True, False, None, [], ["write_file", "edit_file"]])
def test_a_switch_and_names_of_functions_compile(client: Client, asked: Any) -> None:
    config = {"require_approval": asked}
    response = compiled(client, tools=[{"module": "tool-filesystem", "config": config}])
    assert response.status_code == 200


@pytest.mark.parametrize("source", ["a b", "://x", "-rf"])
def test_a_source_is_somewhere(client: Client, source: str) -> None:
    response = compiled(client, hooks=[{"module": "hooks-b", "source": source}])
    assert problems(response) == [("hooks[0].source", "reference")]


@pytest.mark.parametrize("value", ["${", "${KEY", "${A B}", "${1}", "x ${}"])
def test_a_reference_that_is_none_is_told(client: Client, value: str) -> None:
    config = {"hosts": [{"name": value}]}
    response = compiled(client, providers=[{"module": "provider-mock", "config": config}])
    assert problems(response) == [("providers[0].config.hosts[0].name", "reference")]


OPENAI = {"module": "provider-openai", "config": {"default_model": "m"}}
OTHER = {
    "module": "provider-openai-compatible",
    "config": {"base_url": "${A_HOST}", "api_key": "${A_KEY}", "default_model": "m"},
}
NAMES = ("OPENAI_API_KEY", "A_HOST", "A_KEY")


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("nothing_set")
def test_variables_that_are_not_set_are_told_each_by_its_name(client: Client) -> None:
    response = compiled(client, providers=[OPENAI, OTHER])
    places = ["providers[0].config", "providers[1].config", "providers[1].config"]
    assert problems(response) == [(place, "missing_key") for place in places]
    told = [error["detail"] for error in response.json()["errors"]]
    assert [name in detail for name, detail in zip(NAMES, told, strict=True)] == [True] * 3


@pytest.mark.usefixtures("nothing_set")
def test_variables_that_are_set_are_found_and_not_told(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789")
    response = compiled(client, providers=[OPENAI])
    assert response.status_code == 200
    assert "sk-canary" not in response.content.decode()


@pytest.mark.usefixtures("nothing_set")
@pytest.mark.parametrize("first", [OPENAI, OTHER], ids=["one before", "two before"])
def test_one_provider_that_has_its_key_is_enough(client: Client, first: dict[str, Any]) -> None:
    response = compiled(client, providers=[first, {"module": "provider-mock"}])
    assert response.status_code == 200


@pytest.mark.usefixtures("nothing_set")
def test_a_provider_that_does_not_exist_is_not_enough(client: Client) -> None:
    response = compiled(client, providers=[OPENAI, {"module": "provider-x"}])
    assert problems(response) == [
        ("providers[1].module", "unknown_module"),
        ("providers[0].config", "missing_key"),
    ]


@pytest.mark.parametrize(
    ("module", "config", "words"),
    [
        ("provider-ollama", {}, "`default_model`"),
        ("provider-ollama", {"default_model": "m", "temperature": "warm"}, "`temperature`"),
        ("provider-ollama", {"default_model": "m", "thinking_budget": 9}, "`thinking_budget`"),
        ("provider-mock", {"timeout": -1}, "`timeout`"),
        ("provider-mock", {"priority": []}, "`priority`"),
    ],
    ids=["none", "no number", "not had", "a limit", "a priority"],
)
def test_a_config_that_cannot_be_used_is_told_even_beside_one_that_can(
    client: Client, module: str, config: dict[str, Any], words: str
) -> None:
    wrong = {"module": module, "config": config}
    response = compiled(client, providers=[{"module": "provider-local"}, wrong])
    assert problems(response) == [("providers[1].config", "bad_config")]
    assert words in response.json()["detail"]


def test_a_definition_that_is_none_is_told(client: Client) -> None:
    profiles.create("mine")
    empty = Profile.objects.get(name="mine").definition
    Profile.objects.filter(name="mine").update(definition=empty | {"providers": [{"module": 1}]})
    assert problems(post(client, f"{BASE}/mine/compile")) == [("providers[0].module", "invalid")]


def test_an_unknown_profile_is_not_found(client: Client) -> None:
    assert post(client, f"{BASE}/local/missing/compile").status_code == 404
