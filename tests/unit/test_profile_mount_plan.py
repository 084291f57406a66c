"""A mount plan: its shape, and what overrides change in it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from profiles_app import modules
from profiles_app.definition import validate_definition
from profiles_app.exceptions import InvalidDefinition
from profiles_app.models import Profile
from profiles_app.services import mount_plans
from profiles_app.services.mount_plans import build_mount_plan

DEFINITION = {
    "session": {"orchestrator": {"module": "loop", "config": {"max_iterations": 9}}},
    "providers": [
        {"module": "provider-zeta", "config": {"temperature": 0.5, "api_key": "${ZETA}"}},
        {"module": "provider-alpha", "source": "git+https://host/alpha", "config": {"top_p": 1}},
    ],
    "tools": [{"module": "tool-web", "config": {"hosts": ["a", "b"], "limits": {"x": 1, "y": 2}}}],
    "agents": {"critic": "Find the flaw."},
    "context": {"house-rules": "Be kind."},
}


@pytest.fixture(autouse=True)
def no_module_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules of these profiles count as known, though they are made up."""
    monkeypatch.setattr(mount_plans, "require_known", lambda *_, **__: None)


def plan(**overrides: Any) -> dict[str, Any]:
    profile = Profile(
        collection="c", name="p", definition=validate_definition(DEFINITION), instruction="Help."
    )
    return build_mount_plan(
        profile,
        session_id="session_1",
        parent_session_id=None,
        amplified_dir="projects/app",
        settings_overrides=overrides,
        created_at=datetime(2026, 1, 31, tzinfo=UTC),
    )


def configs(section: str, **overrides: Any) -> dict[str, Any]:
    mounts = plan(**overrides)[section].values()
    return {mount["metadata"]["module"]: mount["metadata"]["config"] for mount in mounts}


def refusal(**overrides: Any) -> str:
    with pytest.raises(InvalidDefinition) as caught:
        plan(**overrides)
    return str(caught.value)


def test_session_names_what_the_plan_was_made_for() -> None:
    assert plan(llm={"model": "m"})["session"] == {
        "sessionId": "session_1",
        "profileId": "c/p",
        "profileVersion": 1,
        "parentSessionId": None,
        "amplifiedDir": "projects/app",
        "settings": {"llm": {"model": "m"}},
        "createdAt": "2026-01-31T00:00:00.000000Z",
    }


def test_code_is_referenced_by_its_source() -> None:
    assert plan()["providers"]["c/p.provider.alpha"] == {
        "moduleId": "c/p.provider.alpha",
        "mountType": "referenced",
        "moduleType": "provider",
        "sourcePath": "git+https://host/alpha",
        "metadata": {"module": "provider-alpha", "config": {"top_p": 1}},
    }


def test_code_without_a_source_is_a_module_of_the_daemon() -> None:
    assert plan()["providers"]["c/p.provider.zeta"]["sourcePath"] == "builtin:provider-zeta"


def test_agents_and_context_are_embedded_whole() -> None:
    assert plan()["agents"] == {
        "c/p.agent.critic": {
            "moduleId": "c/p.agent.critic",
            "mountType": "embedded",
            "moduleType": "agent",
            "content": "Find the flaw.",
            "metadata": {"name": "critic"},
        }
    }
    assert plan()["context"]["c/p.context.house-rules"]["content"] == "Be kind."


def test_mount_points_keep_the_order_of_the_profile() -> None:
    assert [mount["moduleId"] for mount in plan()["mountPoints"]] == [
        "c/p.orchestrator.loop",
        "c/p.provider.zeta",
        "c/p.provider.alpha",
        "c/p.tool.web",
        "c/p.agent.critic",
        "c/p.context.house-rules",
    ]


@pytest.mark.parametrize("key", sorted(modules.find_settings("provider")))
def test_a_setting_of_a_session_reaches_each_of_its_providers(key: str) -> None:
    providers = plan(**{key: 1})["providers"]
    assert [each["metadata"]["config"][key] for each in providers.values()] == [1, 1]


def test_a_module_is_overridden_by_its_id_and_keeps_the_rest() -> None:
    override = [{"module": "provider-zeta", "config": {"temperature": 0}}]
    assert configs("providers", providers=override) == {
        "provider-zeta": {"temperature": 0, "api_key": "${ZETA}"},
        "provider-alpha": {"top_p": 1},
    }


def test_a_module_that_the_profile_lacks_is_added_last() -> None:
    mounts = plan(providers=[{"module": "provider-mock"}])["mountPoints"]
    providers = [mount for mount in mounts if mount["moduleType"] == "provider"]
    assert providers[-1]["moduleId"] == "c/p.provider.mock"


def test_mappings_merge_deeply_and_lists_replace() -> None:
    override = [{"module": "tool-web", "config": {"hosts": ["c"], "limits": {"y": 3}}}]
    assert configs("tools", tools=override) == {
        "tool-web": {"hosts": ["c"], "limits": {"x": 1, "y": 3}}
    }


def test_sampling_settings_reach_every_provider_unless_it_says_otherwise() -> None:
    own = [{"module": "provider-alpha", "config": {"temperature": 1}}]
    temperatures = configs("providers", temperature=0.1, providers=own)
    assert temperatures["provider-zeta"]["temperature"] == 0.1
    assert temperatures["provider-alpha"]["temperature"] == 1


def test_session_settings_merge_over_the_profile() -> None:
    session = plan(session={"orchestrator": {"config": {"max_iterations": 1}}, "maxTurns": 5})
    assert session["settings"]["session"] == {
        "orchestrator": {"module": "loop", "source": None, "config": {"max_iterations": 1}},
        "maxTurns": 5,
    }


def test_unknown_settings_are_kept_for_whoever_reads_them() -> None:
    assert plan(llm={"model": "m"})["settings"]["llm"] == {"model": "m"}


def test_agents_and_context_merge_by_name() -> None:
    texts = plan(context={"more": "Be brief."})["context"]
    assert [text["content"] for text in texts.values()] == ["Be kind.", "Be brief."]


def test_the_instruction_can_be_replaced() -> None:
    assert plan()["instruction"] == "Help."
    assert plan(instruction="Rhyme.")["instruction"] == "Rhyme."


def test_references_to_the_environment_are_not_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZETA", "sk-live")
    assert "sk-live" not in str(plan())


def test_the_definition_is_not_changed_by_a_plan() -> None:
    configs("providers", temperature=0, providers=[{"module": "provider-zeta", "config": {"a": 1}}])
    assert configs("providers")["provider-zeta"] == {"temperature": 0.5, "api_key": "${ZETA}"}


@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        ({"providers": {}}, "settings_overrides.providers: must be a list"),
        ({"providers": None}, "settings_overrides.providers: must be a list"),
        ({"providers": [{"config": {}}]}, "settings_overrides.providers[0].module:"),
        ({"tools": [{"module": "t", "kind": 1}]}, "unknown key 'kind'"),
        ({"tools": [{"module": "t", "config": 1}]}, "settings_overrides.tools[1].config:"),
        ({"session": 1}, "settings_overrides.session: must be a mapping"),
        ({"session": {"orchestrator": {"module": 1}}}, "settings_overrides.session.orchestrator"),
        ({"context": {"a": 1}}, "settings_overrides.context.a: must be text"),
        ({"instruction": 1}, "settings_overrides.instruction: must be text"),
        ({"a": "\0"}, "settings_overrides.a: NUL"),
        ({"a": "\ud800"}, "settings_overrides.a: half a surrogate"),
        ({"a": float("inf")}, "settings_overrides.a: not a number"),
        ({"k" * 201: 1}, "settings_overrides: a key has at most 200"),
    ],
)
def test_wrong_overrides_are_refused_by_their_place(overrides: dict[str, Any], place: str) -> None:
    assert place in refusal(**overrides)


def test_overrides_that_nest_without_end_are_refused() -> None:
    deep: Any = 1
    for _ in range(900):
        deep = {"a": deep}
    assert "nested too deeply" in refusal(a=deep)
