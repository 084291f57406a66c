"""The limits of front matter: whatever stands there, it is read in bounds or refused."""

import pytest
import yaml

from profiles_app import front_matter
from profiles_app.exceptions import InvalidDefinition

LIMIT = 16 * 1024


def read(front: str) -> dict[str, object]:
    return front_matter.read(f"---\n{front}\n---\n".encode())[0]


def refusal(front: str) -> str:
    with pytest.raises(InvalidDefinition) as caught:
        read(front)
    return str(caught.value)


def test_front_matter_has_16_kb_at_most() -> None:
    head = "a: "
    assert read(head + "x" * (LIMIT - len(head)))
    assert "larger than 16 KB" in refusal(head + "x" * (LIMIT - len(head) + 1))


def test_the_limit_counts_bytes_and_not_characters() -> None:
    assert "larger than 16 KB" in refusal("a: " + "ä" * (LIMIT // 2))


def test_the_body_does_not_count() -> None:
    _, body = front_matter.read(f"---\na: 1\n---\n{'x' * 2 * LIMIT}".encode())
    assert len(body) == 2 * LIMIT


def test_the_loader_is_the_safe_one_in_pure_python() -> None:
    assert issubclass(front_matter._Loader, yaml.SafeLoader)
    assert issubclass(front_matter._Loader, yaml.reader.Reader)


def test_20_levels_are_read() -> None:
    assert read("a: " + "[" * 19 + "]" * 19)
    assert "at most 20 levels" in refusal("a: " + "[" * 20 + "]" * 20)


@pytest.mark.parametrize(
    "front",
    [
        "[" * 30 * 1024,
        "a: " + "[" * 30 * 1024,
        "[" * 16_000,
        "{" * 16_000,
        "- " * 8_000,
        "? " * 8_000,
        "a: " + "{a: " * 4_000,
        "".join(f"{' ' * level}a:\n" for level in range(150)),
    ],
)
def test_deep_nesting_is_refused(front: str) -> None:
    assert refusal(front)


@pytest.mark.parametrize(
    "front",
    [
        "a: &x [1]\nb: *x",
        "a: &x 1",
        "a: *x",
        "&x a: 1",
        "a: &a [&b [&c [1]]]",
        "a: {<<: *x}",
        "- &x a",
    ],
)
def test_anchors_and_aliases_are_refused(front: str) -> None:
    assert "anchors and aliases" in refusal(front)


@pytest.mark.parametrize(
    "front",
    [
        "a: !!python/object/apply:os.system [id]",
        "a: !!binary aGk=",
        "a: !!set {x}",
        "!x a: 1",
        "a: !!str 1",
        "%TAG ! tag:yaml.org,2002:python/\n--- !x",
    ],
)
def test_tags_are_refused(front: str) -> None:
    assert refusal(front)


@pytest.mark.parametrize(
    "front",
    [
        "a: " + ":".join(["59"] * 5_000),
        "a: 0x" + "f" * 16_000,
        "a: 0b" + "1" * 16_000,
        "a: " + "9" * 16_000,
        "a: .inf",
        "a: 1.0e+999",
    ],
)
def test_numbers_that_cannot_be_kept_are_refused(front: str) -> None:
    assert "number" in refusal(front)


@pytest.mark.parametrize(
    ("front", "value"),
    [
        ("a: " + "x" * 16_000, "x" * 16_000),
        ("a: [" + "b," * 8_000 + "]", ["b"] * 8_000),
        ('a: "' + "\\n" * 8_000 + '"', "\n" * 8_000),
        ("a: 2026-01-01", "2026-01-01"),
        ("a: <<", "<<"),
        ("a: 64", 64),
    ],
)
def test_plain_data_are_read_as_they_are(front: str, value: object) -> None:
    assert read(front) == {"a": value}


@pytest.mark.parametrize(
    ("refusal", "line"),
    [
        ("b: must be a list", 3),
        ("b[1].config.key: must be text", 6),
        ("b[1].config.other: is missing", 5),
        ("b[7]: must be text", 3),
        ("front matter: unknown key 'c'; known are b", 7),
        ("b[1]: unknown key 'config'; known are x", 5),
        ("nothing: is missing", 2),
        ("no place at all", 2),
    ],
)
def test_the_line_of_a_key_is_found(refusal: str, line: int) -> None:
    content = b"---\na: 1\nb:\n- module: x\n- config:\n    key: 1\nc: 2\n---\n"
    assert front_matter.line_of(content, refusal) == line
