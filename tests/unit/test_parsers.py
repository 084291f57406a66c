import json
import time
from typing import Any

import pytest
from rest_framework.exceptions import ParseError, UnsupportedMediaType, ValidationError

from amplifierd.common.parsers import DEPTH, check_charset, parse

DEEPEST = b"[" * DEPTH + b"]" * DEPTH


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b' {"a": [1, -2, 3.5, 1e3, true, false, null, "b", {"c": {}}]} ',
        b'{"\\ud83d\\ude00": "\\ud83d\\ude00", "\xc3\xa4": "\\u00e4\\n\\\\u0000"}',
        b"9223372036854775807",
        b"-9223372036854775808",
        b"1.7976931348623157e308",
        b'"a scalar"',
        DEEPEST,
    ],
)
def test_json_is_read_as_the_library_reads_it(body: bytes) -> None:
    assert parse(body) == json.loads(body)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "Expecting value at line 1, column 1"),
        (b"  ", "Expecting value"),
        (b'{"a": 1,\n "b": }', "line 2, column 7"),
        (b"{} {}", "Extra data at line 1, column 4"),
        (b"{'a': 1}", "property name"),
        (b'{"a": 1,}', "line 1"),
        (b'{"a": "tab\t"}', "control character"),
        (b'{"a": 01}', "column 8"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a": "\xff"}', "the byte at position 7"),
        (b'"\xed\xa0\x80"', "the byte at position 1"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        (b'{"a": [1, NaN]}', "a[1]: NaN"),
        (b'{"a": {"b": Infinity}}', "a.b: Infinity"),
        (b"-Infinity", "body: -Infinity"),
        (b"[" + DEEPEST + b"]", "64 levels"),
        (b"[" * 1_000_000, "64 levels"),
        (b'{"a":' * 900 + b"NaN" + b"}" * 900, "64 levels"),
    ],
)
def test_what_is_no_json_is_a_parse_error_that_says_where(body: bytes, detail: str) -> None:
    with pytest.raises(ParseError) as refusal:
        parse(body)
    assert detail in str(refusal.value.detail)


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        (b'{"a": 1, "a": 1}', "body", "duplicate"),
        (b'{"a": [{"b": 1, "b": 2}]}', "a[0]", "duplicate"),
        (b'{"a": 9223372036854775808}', "a", "too_large"),
        (b'{"a": {"b": [0, -9223372036854775809]}}', "a.b[1]", "too_large"),
        (b"[" + b"9" * 1_000_000 + b"]", "[0]", "too_large"),
        (b'{"a": 1e309}', "a", "too_large"),
        (b'{"a": -1e9999}', "a", "too_large"),
        (b'{"a": "\\u0000"}', "a", "null_characters_not_allowed"),
        (b'{"a": ["\\ud800"]}', "a[0]", "null_characters_not_allowed"),
        (b'{"a": "\\ude00\\ud83d"}', "a", "null_characters_not_allowed"),
        (b'{"a": {"b\\u0000": 1}}', "a.b\ufffd", "null_characters_not_allowed"),
        (b'{"\\udfff": 1}', "\ufffd", "null_characters_not_allowed"),
    ],
)
def test_what_could_not_be_kept_is_refused_with_its_place(
    body: bytes, field: str, code: str
) -> None:
    with pytest.raises(ValidationError) as refusal:
        parse(body)
    assert {
        key: [error.code for error in errors] for key, errors in detail_of(refusal).items()
    } == {field: [code]}


def detail_of(refusal: pytest.ExceptionInfo[ValidationError]) -> dict[str, Any]:
    # It can be written into an answer, whatever the body was.
    json.dumps(refusal.value.detail, ensure_ascii=False).encode()
    return dict(refusal.value.detail)


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", 'application/json;charset="UTF-8"', ""],
)
def test_json_is_utf_8(content_type: str) -> None:
    check_charset(content_type)
    for charset in ("utf-16", "latin-1", "bz2_codec", "nonsense"):
        with pytest.raises(UnsupportedMediaType):
            check_charset(f"application/json; charset={charset}")


def test_strictness_costs_little() -> None:
    body = json.dumps({"content": "some text " * 100_000, "metadata": {"n": [1, 2.5]}}).encode()
    assert seconds(parse, body) < 10 * seconds(json.loads, body) + 0.01


def seconds(read: Any, body: bytes) -> float:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        read(body)
        times.append(time.perf_counter() - began)
    return min(times)
