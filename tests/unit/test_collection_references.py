"""Texts that a profile names, from its own collection."""

from pathlib import Path

import pytest

from profiles_app import collection_contents
from profiles_app.collection_contents import Contents
from profiles_app.exceptions import SourceUnreadable
from profiles_app.sources import tree
from tests.harness.repositories import profile, write

TEXTS = {
    "agents/zen.md": "---\nmeta: {name: zen}\n---\nBe calm.",
    "agents/team/lead.md": "Lead.",
    "context/notes.txt": "Notes.",
    "context/shared/base.md": "Base.",
    "context/shared/more.md": "More.",
}


def read(place: Path, front: str, **files: str) -> Contents:
    write(place, {"profiles/one.md": profile("one", front), **TEXTS, **files})
    return collection_contents.parse_collection("mine", tree.read_folder(str(place)))


@pytest.mark.parametrize(
    ("front", "agents"),
    [
        ("agents: [zen]", {"zen": TEXTS["agents/zen.md"]}),
        ("agents: [zen.md, team/lead]", {"zen": TEXTS["agents/zen.md"], "team/lead": "Lead."}),
        ("agents: [agents/team/lead.md]", {"team/lead": "Lead."}),
        ("agents: [./agents/team/lead.md]", {"team/lead": "Lead."}),
        ("agents: [../agents/team/lead.md]", {"team/lead": "Lead."}),
        ('agents: ["mine:agents/team/lead.md"]', {"team/lead": "Lead."}),
        ('agents: ["@mine:team/lead"]', {"team/lead": "Lead."}),
        ("agents: [team]", {"team/lead": "Lead."}),
        ("agents: {boss: ./agents/team/lead.md}", {"boss": "Lead."}),
        ("agents: {boss: team/lead}", {"boss": "Lead."}),
        ("agents: {boss: You lead.}", {"boss": "You lead."}),
        ("agents: {boss: Lead}", {"boss": "Lead"}),
        ("agents: []", {}),
        ("agents: null", {}),
    ],
)
def test_agents_are_named_in_many_ways(tmp_path: Path, front: str, agents: dict[str, str]) -> None:
    found = read(tmp_path, front)
    assert found.errors == []
    assert found.profiles["one"]["definition"]["agents"] == agents


@pytest.mark.parametrize(
    ("front", "context"),
    [
        ("context: [notes.txt]", {"notes.txt": "Notes."}),
        ("context: [shared/base]", {"shared/base.md": "Base."}),
        ("context: [shared]", {"shared/base.md": "Base.", "shared/more.md": "More."}),
        ("context: {all: ./context/shared/}", {"all": "Base.\n\nMore."}),
        ("context: {base: shared/base.md}", {"base": "Base."}),
        ("context: [context/shared/]", {"shared/base.md": "Base.", "shared/more.md": "More."}),
        (
            "context: [./context]",
            {"notes.txt": "Notes.", "shared/base.md": "Base.", "shared/more.md": "More."},
        ),
    ],
)
def test_context_is_a_file_or_a_folder(tmp_path: Path, front: str, context: dict[str, str]) -> None:
    assert read(tmp_path, front).profiles["one"]["definition"]["context"] == context


@pytest.mark.parametrize(
    ("front", "line", "reason"),
    [
        ("agents: [nobody]", 4, "the collection has no agents/nobody"),
        ("agents:\n  - zen\n  - nobody", 6, "agents[1]: the collection has no"),
        ("agents:\n  boss: ./agents/nobody.md", 5, "agents.boss: the collection has no"),
        ("agents: [1]", 4, "must be the name of a text"),
        ("agents: ['']", 4, "must be the name of a text"),
        ("agents: zen", 4, "agents: must be a mapping"),
        ("agents: [{zen: a}]", 4, "must be the name of a text"),
        ("agents: [../../etc/passwd]", 4, "leaves the collection"),
        ("agents: [a/../../b]", 4, "leaves the collection"),
        ("agents: [/etc/passwd]", 4, "from the collection only"),
        ("agents: [~/a.md]", 4, "from the collection only"),
        ('agents: ["other:agents/zen.md"]', 4, "from the collection 'mine' only"),
        ('agents: {a: "https://host/a.md"}', 4, "from the collection only"),
        ('context: {a: "git+https://host/a@main#subdirectory=b"}', 4, "from the collection only"),
    ],
)
def test_a_wrong_reference_is_refused_with_its_line(
    tmp_path: Path, front: str, line: int, reason: str
) -> None:
    [refused] = read(tmp_path, front).errors
    assert (refused.file, refused.line) == ("profiles/one.md", line)
    assert reason in refused.detail


def test_a_secret_is_refused_with_its_line_and_not_quoted(tmp_path: Path) -> None:
    front = "providers:\n  - module: provider-x\n    config:\n      api_key: sk-live-canary"
    [refused] = read(tmp_path, front).errors
    assert (refused.line, "sk-live-canary" in refused.detail) == (7, False)


def test_a_reference_to_the_environment_is_kept(tmp_path: Path) -> None:
    found = read(tmp_path, 'providers: [{module: p, config: {api_key: "${KEY}"}}]')
    assert found.profiles["one"]["definition"]["providers"][0]["config"] == {"api_key": "${KEY}"}


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"a\xff", 1), (b"a\nb\0", 2), (b" \n", 1)],
)
def test_a_text_that_cannot_be_kept_is_refused(tmp_path: Path, content: bytes, line: int) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/bad.txt").write_bytes(content)
    [refused] = read(tmp_path, "").errors
    assert (refused.file, refused.line) == ("context/bad.txt", line)


def test_a_profile_is_named_like_its_file(tmp_path: Path) -> None:
    write(tmp_path, {"profiles/other.md": profile("name")})
    [refused] = read(tmp_path, "").errors
    assert (refused.file, refused.line) == ("profiles/other.md", 3)
    assert "must be 'other'" in refused.detail


def test_profiles_at_the_top_are_read_where_there_is_no_folder_of_them(tmp_path: Path) -> None:
    files = {"one.md": profile("one"), "notes.md": "# Notes", "page.md": "---\ntitle: A\n---\n"}
    found = collection_contents.parse_collection(
        "mine", tree.read_folder(str(write(tmp_path, files)))
    )
    assert (list(found.profiles), found.errors) == (["one"], [])


def test_an_empty_collection_is_one(tmp_path: Path) -> None:
    assert (
        collection_contents.parse_collection("mine", tree.read_folder(str(tmp_path))) == Contents()
    )


def test_the_texts_of_a_profile_are_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiles_app.profile_format.TEXT_LIMIT", 9)
    [refused] = read(tmp_path, "context: [shared]").errors
    assert "at most 9 characters in all" in refused.detail


def test_the_profiles_of_a_collection_are_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection_contents, "PROFILE_LIMIT", 1)
    write(tmp_path, {"profiles/two.md": profile("two")})
    with pytest.raises(SourceUnreadable, match="at most 1 profiles"):
        read(tmp_path, "")
