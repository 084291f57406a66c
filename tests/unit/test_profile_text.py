"""A version written as a profile file."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from amplifierd.common.redaction import redact
from profiles_app import definition, profile_format
from profiles_app.models import Profile, ProfileVersion
from profiles_app.profile_format import render_profile
from profiles_app.services.collections import SHIPPED

WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
LINES = st.lists(WORDS, min_size=1, max_size=3).map("\n".join).filter(str.strip)
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | LINES
CONFIGS = st.dictionaries(WORDS.map(lambda word: f"x{word}"), SCALARS, min_size=1, max_size=3)


def version(sections: dict[str, Any], **fields: str) -> ProfileVersion:
    content = {"version": "1", "description": "d", "instruction": "i", **fields}
    profile = Profile(collection="c", name="p")
    return ProfileVersion(
        profile=profile, number=1, definition=definition.validate_definition(sections), **content
    )


def test_a_version_reads_like_a_file_that_somebody_wrote() -> None:
    sections = {
        "providers": [{"module": "provider-a", "config": {"api_key": "${KEY}"}}],
        "agents": {"critic": "Find the flaw.\nSay it."},
    }
    assert render_profile(version(sections, description="It's mine.", instruction="Help.")) == (
        "---\nschema_version: 2\nprofile:\n  name: p\n  version: '1'\n  description: It's mine.\n"
        "providers:\n- module: provider-a\n  config:\n    api_key: ${KEY}\n"
        "agents:\n  critic: |-\n    Find the flaw.\n    Say it.\n---\n\nHelp.\n"
    )


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*/*.md")), ids=lambda path: path.stem)
def test_a_shipped_profile_reads_back_as_it_is(path: Any) -> None:
    file = profile_format.parse_profile(path.read_bytes())
    again = profile_format.parse_profile(
        render_profile(
            ProfileVersion(
                profile=Profile(collection="c", name=file.name),
                version=file.version,
                description=file.description,
                definition=file.definition,
                instruction=file.instruction,
            )
        ).encode()
    )
    assert (again.definition, again.instruction) == (file.definition, file.instruction)


@settings(max_examples=50, deadline=None)
@given(config=CONFIGS, agents=st.dictionaries(NAMES, LINES, max_size=2))
def test_what_was_written_reads_back_as_it_was(
    config: dict[str, Any], agents: dict[str, str]
) -> None:
    assume(redact(config) == config)
    written = version({"providers": [{"module": "p", "config": config}], "agents": agents})
    assert (
        profile_format.parse_profile(render_profile(written).encode()).definition
        == written.definition
    )


def test_secrets_are_masked_and_names_of_texts_are_none() -> None:
    config = {"api_key": "sk-canary", "base_url": "https://me:sk-canary@host"}
    sections = {
        "providers": [{"module": "p", "config": config}],
        "agents": {"token": "Count the tokens."},
    }
    text = render_profile(version(sections))
    assert "sk-canary" not in text
    assert "Count the tokens." in text


@pytest.mark.parametrize(
    "value",
    ["0755", "1e3", "yes", "1.10", "0x10", "0o17", "12:30", "2024-01-01", "null", "~", ".5"],
)
def test_a_text_that_looks_like_something_else_is_a_text_again(value: str) -> None:
    config = {"args": [value], "mode": value, "env": {"A": value}}
    written = render_profile(version({"tools": [{"module": "tool-mcp", "config": config}]}))
    [tool] = profile_format.parse_profile(written.encode()).definition["tools"]
    assert tool["config"] == config
