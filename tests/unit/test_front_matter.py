"""The limits of front matter: whatever stands there, it is read in bounds or refused."""

import pytest
import yaml

from profiles_app import front_matter
from profiles_app.exceptions import InvalidDefinition

LIMIT = 16 * 1024


def read(front: str) -> dict[str, object]:
    return front_matter.read_front_matter(f"---\n{front}\n---\n".encode())[0]


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
    _, body = front_matter.read_front_matter(f"---\na: 1\n---\n{'x' * 2 * LIMIT}".encode())
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
        "a: 0x" + "f" * 16_000,
        "a: 0o" + "7" * 16_000,
        "a: " + "9" * 16_000,
        "a: .inf",
        "a: 1.0e+999",
    ],
)
def test_numbers_that_cannot_be_kept_are_refused(front: str) -> None:
    assert "number" in refusal(front)


@pytest.mark.parametrize("text", [":".join(["59"] * 5_000), "0b" + "1" * 16_000])
def test_what_is_a_number_in_yaml_1_1_alone_is_text(text: str) -> None:
    assert read(f"a: {text}") == {"a": text}


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
    assert front_matter.find_line(content, refusal) == line


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        *(("yes", "yes"), ("no", "no"), ("on", "on"), ("12:30", "12:30"), ("1:2:3", "1:2:3")),
        *(("2024-01-01", "2024-01-01"), ("2024-01-01 10:00:00", "2024-01-01 10:00:00")),
        *(("1_000", "1_000"), ("0b11", "0b11"), ("=", "="), ("<<", "<<"), ("1.2.3", "1.2.3")),
        *(("0755", 755), ("0o17", 15), ("0x10", 16), ("+7", 7), ("-0", 0), ("08", 8)),
        *(("1e3", 1000.0), ("1.10", 1.1), (".5", 0.5), ("1.", 1.0), ("-1.5E-2", -0.015)),
        *(("true", True), ("FALSE", False), ("~", None), ("null", None), ("", None)),
    ],
)
def test_scalars_are_read_by_the_core_schema_of_yaml_1_2(written: str, read_as: object) -> None:
    value = read(f"a: {written}")["a"]
    assert (value, type(value)) == (read_as, type(read_as))


WRITTEN = ["0755", "1e3", "yes", "1.10", "0x10", "12:30", "2024-01-01", "true", "null", "~", "1_0"]


@pytest.mark.parametrize("written", WRITTEN)
def test_what_a_program_is_given_stays_as_it_was_written(written: str) -> None:
    front = (
        f"tools: [{{module: tool-mcp, config: {{args: [{written}, [{written}]], port: 08,\n"
        f" servers: {{a: {{env: {{A: {written}, B: }}, headers: {{X: {written}}}}}}}}}}}]"
    )
    config = read(front)["tools"][0]["config"]  # type: ignore[index]
    assert config["args"] == [written, [written]]
    assert config["servers"]["a"] == {"env": {"A": written, "B": None}, "headers": {"X": written}}
    assert config["port"] == 8


def test_only_a_config_has_texts_of_a_program() -> None:
    assert read("args: [1]\ncontext: {env: [1]}\na: {config: {args: }}") == {
        "args": [1],
        "context": {"env": [1]},
        "a": {"config": {"args": None}},
    }
