"""What differs between two versions."""

import time
from typing import Any

import pytest

from profiles_app import definition
from profiles_app.diff import compare_versions, unified_diff
from profiles_app.models import Profile, ProfileVersion

A = {"module": "provider-a", "config": {"hosts": ["a", "b"], "limits": {"x": 1}}}
B = {"module": "provider-b", "config": {}}


def version(sections: dict[str, Any], **fields: str) -> ProfileVersion:
    content = {"version": "1", "description": "d", "instruction": "i", **fields}
    return ProfileVersion(
        profile=Profile(collection="c", name="p"),
        definition=definition.validate_definition(sections),
        **content,
    )


def paths(old: dict[str, Any], new: dict[str, Any]) -> dict[str, list[str]]:
    found = compare_versions(version(old), version(new))
    return {
        kind: [entry["path"] for entry in getattr(found, kind)]
        for kind in ("added", "removed", "changed")
        if getattr(found, kind)
    }


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({}, {}, {}),
        ({}, {"providers": [A]}, {"added": ["providers.provider-a"]}),
        ({"providers": [A]}, {}, {"removed": ["providers.provider-a"]}),
        ({"providers": [A]}, {"providers": [B, A]}, {"added": ["providers.provider-b"]}),
        ({"providers": [A, B]}, {"providers": [B, A]}, {"changed": ["providers"]}),
        (
            {"providers": [A]},
            {"providers": [{**A, "config": {"hosts": ["b", "a"], "limits": {"x": 1}}}]},
            {"changed": ["providers.provider-a.config.hosts"]},
        ),
        (
            {"providers": [A]},
            {"providers": [{**A, "config": {"hosts": ["a", "b"], "limits": {"x": True}}}]},
            {"changed": ["providers.provider-a.config.limits.x"]},
        ),
        (
            {"session": {"orchestrator": {"module": "loop-a"}}},
            {"session": {"orchestrator": {"module": "loop-b"}}},
            {"changed": ["session.orchestrator.module"]},
        ),
        (
            {"agents": {"a": "x"}},
            {"agents": {"b": "x"}},
            {"added": ["agents.b"], "removed": ["agents.a"]},
        ),
    ],
)
def test_a_difference_has_its_path(
    old: dict[str, Any], new: dict[str, Any], found: dict[str, list[str]]
) -> None:
    assert paths(old, new) == found


def test_secrets_are_masked_and_names_of_texts_are_none() -> None:
    secret = {"module": "p", "config": {"api_key": "sk-canary", "nested": {"token": "sk-canary"}}}
    found = compare_versions(
        version({}), version({"providers": [secret], "agents": {"token": "Count."}})
    )
    assert "sk-canary" not in str(found)
    assert found.added[-1] == {"path": "agents.token", "after": "Count."}


def test_comments_and_files_make_no_difference() -> None:
    one, two = version({}), version({})
    one.digest, two.digest = "0" * 64, "1" * 64
    assert unified_diff(one, two) == ""


def test_what_is_too_long_is_not_compared_line_by_line() -> None:
    one, two = (version({}, instruction=f"{word}\n" * 5000) for word in ("a", "b"))
    assert unified_diff(one, two) is None
    assert unified_diff(version({}), version({}, instruction="x" * 600_000)) is None


def test_a_long_version_is_written_in_time() -> None:
    began = time.process_time()
    assert (
        unified_diff(*(version({"agents": {"a": f"{word} word\n" * 30_000}}) for word in "ab"))
        is None
    )
    assert time.process_time() - began < 10


def test_the_longest_texts_are_compared_in_time() -> None:
    """Every other line differs: the worst that there is for comparing."""
    one = "\n".join(f"line {n}" for n in range(1900))
    two = "\n".join(f"line {n}" if n % 2 else f"other {n}" for n in range(1900))
    began = time.process_time()
    assert unified_diff(version({}, instruction=one), version({}, instruction=two))
    assert time.process_time() - began < 5
