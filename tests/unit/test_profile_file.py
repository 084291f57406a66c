"""What a profile file may say, and how a wrong one is refused."""

from pathlib import Path

import pytest

from profiles_app.exceptions import InvalidDefinition
from profiles_app.profile_format import ProfileFile, parse_profile
from profiles_app.services.collections import SHIPPED

HEAD = 'schema_version: 2\nprofile: {name: mine, version: "1.0", description: Mine.}\n'


def profile(front: str = "", body: str = "Be kind.") -> ProfileFile:
    return parse_profile(f"---\n{HEAD}{front}\n---\n\n{body}\n".encode())


def refusal(content: str | bytes) -> str:
    with pytest.raises(InvalidDefinition) as caught:
        parse_profile(content.encode() if isinstance(content, str) else content)
    return str(caught.value)


def refusal_of(front: str) -> str:
    return refusal(f"---\n{HEAD}{front}\n---\n")


def test_body_is_the_instruction() -> None:
    assert (
        profile(body="Be kind.\n\n---\n\nBe brief.").instruction == "Be kind.\n\n---\n\nBe brief."
    )


def test_missing_sections_are_empty() -> None:
    empty = {"providers": [], "tools": [], "hooks": [], "session": {}, "agents": {}, "context": {}}
    assert profile("tools: null").definition == empty


def test_a_module_is_kept_in_its_full_form() -> None:
    assert profile("providers: [{module: provider-x}]").definition["providers"] == [
        {"module": "provider-x", "source": None, "config": {}}
    ]


def test_references_to_the_environment_stay_as_they_are_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KEY", "resolved")
    [provider] = profile('providers: [{module: p, config: {api_key: "${KEY}"}}]').definition[
        "providers"
    ]
    assert provider["config"] == {"api_key": "${KEY}"}


def test_digest_is_that_of_the_file() -> None:
    assert profile(body="One.").digest != profile(body="Two.").digest
    assert profile().digest == profile().digest


def test_line_ends_and_byte_order_mark_of_windows_are_read() -> None:
    content = f"\ufeff---\n{HEAD}---\nBe kind.\n".replace("\n", "\r\n")
    assert parse_profile(content.encode()).instruction == "Be kind."


def test_schema_version_may_stand_below_profile() -> None:
    front = 'profile: {name: a, version: "1", description: A., schema_version: 2}'
    assert parse_profile(f"---\n{front}\n---\n".encode()).name == "a"


def test_dates_stay_text() -> None:
    config = profile("tools: [{module: t, config: {since: 2026-01-31}}]").definition["tools"][0]
    assert config["config"] == {"since": "2026-01-31"}


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*/*.md")), ids=lambda path: path.stem)
def test_shipped_profiles_are_valid(path: Path) -> None:
    assert parse_profile(path.read_bytes()).name == path.stem


@pytest.mark.parametrize(
    ("front", "place"),
    [
        ("colour: red", "unknown key 'colour'"),
        ("providers: {}", "providers: must be a list"),
        ("providers: [{config: {}}]", "providers[0].module:"),
        ("providers: [{module: a, kind: b}]", "unknown key 'kind'"),
        ("providers: [{module: a, config: [1]}]", "providers[0].config:"),
        ("providers: [{module: provider-a}, {module: a}]", "the module 'a' stands twice"),
        ("tools: [{module: a, source: 1}]", "tools[0].source:"),
        ("session: {engine: a}", "unknown key 'engine'"),
        ("session: {orchestrator: loop}", "session.orchestrator[0]:"),
        ("agents: [a]", "agents: must be a mapping"),
        ("context: {a: ''}", "context.a: must be text"),
        ("tools: [{module: t, config: {a: .nan}}]", "tools[0].config.a:"),
        ("tools: [{module: t, config: {a: 123456789012345678901}}]", "tools[0].config.a:"),
        ('tools: [{module: t, config: {a: "\\0"}}]', "NUL"),
        ('tools: [{module: t, config: {a: "\\ud800"}}]', "surrogate"),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(front: str, place: str) -> None:
    assert place in refusal_of(front)


@pytest.mark.parametrize(
    ("front", "reason"),
    [
        ("tools: [", "Line 4: "),
        ("tools: []\ntools: []", "Line 5: the key 'tools' stands twice"),
        ("hooks: &a []", "Line 4: anchors"),
        ("hooks: *a", "Line 4: anchors"),
        ("hooks: !!python/name:os.system", "Line 4: tags"),
        ("1: a", "Line 4: a key must be text"),
        ("true: a", "Line 4: a key must be text"),
        ("? [a]\n: b", "Line 4: a key must be text"),
        ("tools:\n\t- a", "Line 5: "),
        ("agents: " + "[" * 30 + "]" * 30, "Line 4: nested too deeply"),
        ("agents: " + "[" * 15_000, "Line 4: nested too deeply"),
        ("...\n--- second", "Line 5: "),
    ],
)
def test_wrong_yaml_is_refused_by_its_line(front: str, reason: str) -> None:
    assert reason in refusal_of(front)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Line 1: begin the file with `---`"),
        ("# A heading", "Line 1: begin the file with `---`"),
        ("---\nschema_version: 2\n", "has no end"),
        ("---\n---\n", "must be a mapping"),
        ("---\n- a\n---\n", "must be a mapping"),
        ("---\nschema_version: 2\n---\n", "profile: must be a mapping"),
        ("---\nprofile: {name: a}\n---\n", "schema_version: must be 2"),
        ("---\nprofile: {name: a}\nschema_version: true\n---\n", "schema_version: must be 2"),
        (f"---\n{HEAD}---\nA\0B", "Line 5: NUL"),
        (f"---\n{HEAD}tools: \x07\n---\n", "characters that YAML does not allow"),
        (f"---\n{HEAD}tools: {'1' * 5000}\n---\n", "a number that cannot be read"),
        (f"---\n{HEAD}# {'a' * 16_384}\n---\n", "larger than 16 KB"),
        (f"---\n{HEAD}---\n{'a' * 262_144}", "larger than 256 KB"),
        (b"---\n\xff", "Line 2: not UTF-8"),
    ],
)
def test_what_is_no_profile_file_is_refused(content: str | bytes, reason: str) -> None:
    assert reason in refusal(content)


@pytest.mark.parametrize("name", ["Upper", "a/b", "", "a" * 65, "tab\\t"])
def test_a_name_has_lower_case_letters_digits_and_hyphens_only(name: str) -> None:
    front = f'schema_version: 2\nprofile: {{name: "{name}", version: "1", description: A.}}'
    assert refusal(f"---\n{front}\n---\n").startswith("profile.name: must be")


def test_a_version_that_is_a_number_asks_for_quotes() -> None:
    front = "schema_version: 2\nprofile: {name: a, version: 1.0, description: A.}"
    assert refusal(f"---\n{front}\n---\n").startswith("profile.version: must be text")


def test_a_refusal_does_not_quote_the_file() -> None:
    secret = "sk-live-canary"
    for broken in (f"api_key: {secret}: {secret}", f"hooks: [{secret}", f"hooks: '{secret}"):
        assert secret not in refusal_of(broken)
