"""GET /modules/, /modules/{providers,tools,hooks,orchestrators}, /modules/{id}."""

from pathlib import Path

import pytest

from profiles_app.services import collections
from sessions_app.engine.registry import PROVIDERS, TOOLS
from tests.conftest import Api
from tests.harness.repositories import profile, write


@pytest.fixture
def mine(catalogue: None, tmp_path: Path) -> None:
    """A collection with a module of each kind."""
    files = {
        "profiles/one.md": profile("one"),
        "modules/amplifier-module-tool-x/tool.py": "",
        "modules/hooks-log/__init__.py": "",
        "modules/loop-fast/loop.py": "",
        "modules/providers/acme/provider.py": "",
        "modules/thing/module.yaml": "type: tool\nname: Thing\ndescription: Does it.\n",
        "modules/library/code.py": "",
        "modules/loose.py": "",
    }
    collections.add("mine", str(write(tmp_path / "mine", files)))


def ids(api: Api, path: str) -> list[str]:
    return [module["id"] for module in api("GET", path).json()]


def test_the_daemons_providers_are_those_of_the_engine(api: Api) -> None:
    assert ids(api, "/modules/providers") == list(PROVIDERS.classes)


def test_the_daemons_tools_are_those_of_the_engine(api: Api) -> None:
    assert ids(api, "/modules/tools") == list(TOOLS.classes)


def test_a_module_of_the_daemon_is_told_in_full(api: Api) -> None:
    assert api("GET", "/modules/provider-mock").json() == {
        "id": "provider-mock",
        "type": "provider",
        "name": "provider-mock",
        "location": "builtin:provider-mock",
        "collection": None,
        "description": None,
        "configSchema": None,
    }


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("providers", {"mine/acme"}),
        ("tools", {"mine/tool-x", "mine/thing"}),
        ("hooks", {"mine/hooks-log"}),
        ("orchestrators", {"mine/loop-fast"}),
        ("?type=unknown", {"mine/library"}),
    ],
)
def test_modules_of_a_collection_are_listed_by_their_type(
    api: Api, path: str, found: set[str]
) -> None:
    listed = {id for id in ids(api, f"/modules/{path}") if "/" in id}
    assert listed == found


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("path", ["mine/thing", "mine%2Fthing", "mine/thing/"])
def test_an_id_may_have_a_slash(api: Api, path: str) -> None:
    module = api("GET", f"/modules/{path}").json()
    assert (module["collection"], module["location"], module["description"]) == (
        "mine", "modules/thing", "Does it.",
    )  # fmt: skip


def test_the_list_may_be_narrowed_to_a_type(api: Api) -> None:
    modules = api("GET", "/modules/?type=orchestrator").json()
    assert {module["type"] for module in modules} == {"orchestrator"}


def test_every_module_of_a_shipped_profile_is_known(api: Api) -> None:
    known = set(ids(api, "/modules/"))
    for name in ("foundation/base", "developer-expertise/full"):
        profile = api("GET", f"/profiles/{name}").json()
        named = {entry["module"] for entry in [*profile["providers"], *profile["tools"]]}
        assert named | {profile["session"]["orchestrator"]["module"]} <= known


@pytest.mark.parametrize("id", ["nothing", "a/b/c", "provider-mock/x"])
def test_an_unknown_module_is_not_found(api: Api, id: str) -> None:
    answer = api("GET", f"/modules/{id}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
