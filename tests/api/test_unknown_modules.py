"""Modules that the daemon does not have: no profile and no session is made with them."""

from typing import Any

import pytest

from profiles_app.definition import validate_definition
from profiles_app.models import Collection, Profile
from profiles_app.services import profiles
from sessions_app.models import Session
from tests.conftest import Api

# The section or module of a profile → its place in errors, and a module that is known.
UNKNOWN: dict[str, tuple[dict[str, Any], str, str]] = {
    "provider": ({"providers": [{"module": "provider-x"}]}, "providers[0].module", "provider-mock"),
    "tool": ({"tools": [{"module": "tool-x"}]}, "tools[0].module", "tool-bash"),
    "tool with a source": (
        {"tools": [{"module": "tool-x", "source": "git+https://h/x"}]},
        "tools[0].module",
        "MCP servers",
    ),
    "hook": ({"hooks": [{"module": "hooks-x"}]}, "hooks[0].module", "`source`"),
    "orchestrator": (
        {"orchestrator": {"module": "loop-x"}},
        "session.orchestrator.module",
        "loop-streaming",
    ),
    "context": ({"context": {"module": "context-x"}}, "session.context.module", "context-simple"),
}


@pytest.fixture
def old(catalogue: None) -> Profile:
    """A profile of an earlier version of the daemon, with a hook that is not here."""
    made = profiles.create("old", sections={"providers": [{"module": "provider-mock"}]})
    made.definition |= {"hooks": validate_definition({"hooks": [{"module": "hooks-x"}]})["hooks"]}
    made.save()
    return made


def refused(answer: Any, place: str, *words: str) -> bool:
    """Return whether an answer is a 400 that names the place and has the words."""
    detail = answer.json()["detail"]
    return (answer.status_code, answer.json()["code"]) == (400, "invalid") and all(
        word in detail for word in (place, *words)
    )


@pytest.mark.parametrize("name", UNKNOWN)
def test_no_profile_is_made_or_changed_so(api: Api, name: str) -> None:
    body, place, known = UNKNOWN[name]
    assert refused(api("post", "/profiles/", {"name": "mine", **body}), place, known)
    assert not Profile.objects.filter(name="mine").exists()
    profiles.create("mine")
    assert refused(api("patch", "/profiles/local/mine", body), place, known)
    assert Profile.objects.get(name="mine").version_number == 1


@pytest.mark.parametrize(
    "body",
    [
        {"description": "Older"},
        {"tools": [{"module": "tool-todo"}]},
        {"hooks": [{"module": "hooks-x", "config": {"a": 1}}]},
    ],
)
def test_what_an_older_profile_has_may_stay(api: Api, old: Profile, body: dict[str, Any]) -> None:
    assert api("patch", "/profiles/local/old", body).status_code == 200
    assert api("get", "/profiles/local/old").json()["hooks"][0]["module"] == "hooks-x"
    assert api("post", "/profiles/local/old/copy", {"new_name": "new"}).status_code == 201


def test_no_session_begins_with_it(api: Api, old: Profile) -> None:
    words = ("local/old: hooks[0].module", "There is no hook module 'hooks-x'")
    assert refused(api("post", "/sessions/", {"profile_name": "local/old"}), *words)
    assert refused(api("post", "/mount-plans/generate", {"profile_id": "local/old"}), *words)
    made = api("post", "/sessions/", {"profile_name": "foundation/test"}).json()["sessionId"]
    api("post", f"/sessions/{made}/start")
    changed = api("post", f"/sessions/{made}/change-profile", {"profile_name": "local/old"})
    assert refused(changed, *words)
    assert [*Session.objects.values_list("profile_name", flat=True)] == ["foundation/test"]


@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        ({"hooks": [{"module": "hooks-x"}]}, "hooks[0].module"),
        ({"providers": [{"module": "provider-x"}]}, "providers[1].module"),
        ({"session": {"context": {"module": "context-x"}}}, "session.context.module"),
    ],
)
def test_overrides_add_none(api: Api, overrides: dict[str, Any], place: str) -> None:
    body = {"profile_name": "foundation/test", "settings_overrides": overrides}
    assert refused(api("post", "/sessions/", body), place)
    assert not Session.objects.exists()


def test_an_engine_has_to_be_there(api: Api, old: Profile) -> None:
    content = validate_definition({"session": {"engine": "none"}, "tools": [{"module": "any"}]})
    Profile.objects.filter(pk=old.pk).update(definition=content)
    answer = api("post", "/sessions/", {"profile_name": "local/old"})
    assert refused(answer, "session.engine", "There is no engine 'none'; known are:", "builtin")
    assert api("get", "/profiles/local/old").status_code == 200


def test_modules_of_a_collection_are_known(api: Api, old: Profile) -> None:
    hook = {"id": "ours/hooks-x", "type": "hook", "name": "hooks-x", "location": "ours"}
    contents = {"modules": [hook], "agents": [], "context": []}
    Collection.objects.create(name="ours", kind="folder", source="/srv", contents=contents)
    assert api("post", "/sessions/", {"profile_name": "local/old"}).status_code == 201
    body = {"name": "mine", "hooks": [{"module": "ours/hooks-x"}]}
    assert api("post", "/profiles/", body).status_code == 201
