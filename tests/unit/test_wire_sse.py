"""Server-sent events and JSON text, however the bytes are cut."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions_app.engine.wire.json_text import (
    TextJoiner,
    clean_arguments,
    clean_text,
    dump_arguments,
    dump_body,
    dump_json,
    parse_json,
)
from sessions_app.engine.wire.sse import (
    EVENT_LIMIT,
    LINE_LIMIT,
    EventDecoder,
    EventTooLongError,
    ServerEvent,
)


def decode(*chunks: bytes) -> list[tuple[str, str]]:
    decoder = EventDecoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return [(event.event, event.data) for event in [*events, *decoder.finish()]]


def cut(body: bytes, seed: int) -> list[bytes]:
    """The body in pieces of random sizes."""
    dice, pieces, at = random.Random(seed), [], 0
    while at < len(body):
        size = dice.choice((1, 1, 2, 3, 7, 50))
        pieces.append(body[at : at + size])
        at += size
    return pieces


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [("", "a"), ("", "b")]),
        (b"data: a\r\rdata: b\r\r", [("", "a"), ("", "b")]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [("", "a"), ("", "b")]),
        (b"data: a\r\n\ndata: b\n\r\n", [("", "a"), ("", "b")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("", "a")]),
        (b"\n\n: a comment\n\ndata: a\n\n", [("", "a")]),
        (b"data:a\n\ndata:  b\n\n", [("", "a"), ("", " b")]),
        (b"data: a\ndata: b\ndata:\ndata: c\n\n", [("", "a\nb\n\nc")]),
        (b"event: error\ndata: {}\n\ndata: a\n\n", [("error", "{}"), ("", "a")]),
        (b"event: ping\n\ndata: a\n\n", [("", "a")]),
        (b"id: 1\nretry: 5\nnonsense\ndata: a\n\n", [("", "a")]),
        (
            "data: a\u2028b\u2029c\u0085d\v\f\x1ce\n\n".encode(),
            [("", "a\u2028b\u2029c\x85d\v\f\x1ce")],
        ),
        (b"data: a\xffb\n\n", [("", "a\ufffdb")]),
        (b'data: {"a":1}', [("", '{"a":1}')]),
        (b'data: {"a":1}\n', [("", '{"a":1}')]),
        (b'data: {"a":\ndata: 1}\n', [("", '{"a":\n1}')]),
        (b"data: [DONE]", [("", "[DONE]")]),
        (b"event: error\ndata: it broke", [("error", "it broke")]),
        (b'data: {"a":', []),
        (b"data: a\n\ndata: plain", [("", "a")]),
        (b"", []),
        (b" \n\n", []),
    ],
    ids=repr,
)
def test_events_are_the_same_wherever_the_bytes_are_cut(
    body: bytes, events: list[tuple[str, str]]
) -> None:
    assert decode(body) == events
    assert decode(*(body[at : at + 1] for at in range(len(body)))) == events
    for seed in range(10):
        assert decode(*cut(body, seed)) == events


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "error", "ping"]),
            st.text(
                st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1
            ),
        ),
        max_size=5,
    ),
    st.sampled_from([b"\n", b"\r", b"\r\n"]),
    st.integers(0, 999),
)
def test_what_was_encoded_is_decoded(events: list[tuple[str, str]], end: bytes, seed: int) -> None:
    lines = [
        line
        for event, data in events
        for line in (f"event: {event}".encode() if event else b":", b"data: " + data.encode(), b"")
    ]
    body = b"".join(line + end for line in [b": begins", *lines])
    assert decode(*cut(body, seed)) == events


def test_a_body_that_is_json_is_one_event_or_one_for_each_item() -> None:
    body = b' \n{"choices":\n\n[1]}\n'
    for chunks in ([body], [body[at : at + 1] for at in range(len(body))]):
        decoder = EventDecoder()
        assert [event for chunk in chunks for event in decoder.feed(chunk)] == []
        [event] = decoder.finish()
        assert (parse_json(event.data), event.is_document) == ({"choices": [1]}, True)
    assert decode(b'[{"a": "\xe2\x80\xa8"},\n\n{"b":2}]') == [
        ("", '{"a":"\\u2028"}'),
        ("", '{"b":2}'),
    ]
    assert decode(b'{"a":1}\n{"b":2}\n') == [("", '{"a":1}'), ("", '{"b":2}')]
    assert decode(b'{"a":1') == []


@pytest.mark.parametrize(
    "again",
    [b"x" * 10_000, b"data: x\n" * 1000, b": c\n" * 100 + b"data: x\n"],
    ids=["a line", "lines", "comments"],
)
def test_an_event_without_an_end_is_refused(again: bytes) -> None:
    decoder = EventDecoder()
    decoder.feed(b"data: ")
    with pytest.raises(EventTooLongError, match=f"{EVENT_LIMIT} bytes, or {LINE_LIMIT} lines"):
        for _ in range(EVENT_LIMIT * 2 // len(again)):
            decoder.feed(again)


def test_comments_alone_are_no_event_and_no_burden() -> None:
    decoder = EventDecoder()
    for _ in range(20_000):
        assert decoder.feed(b": keep-alive\n\n") == []


def test_halves_of_a_character_are_joined_across_pieces() -> None:
    joiner = TextJoiner()
    pieces = [
        joiner.add(each) for each in ("a\ud83d", "\ude00b", "\ud83d", "c", "\ude00", "d\ud83d")
    ]
    assert [*pieces, joiner.finish()] == ["a", "😀b", "", "\ufffdc", "\ufffd", "d", "\ufffd"]


@given(st.text(st.characters(categories=["Cs", "Lu", "So"]), max_size=20), st.integers(0, 20))
def test_a_text_is_clean_the_same_way_in_pieces_as_whole(text: str, at: int) -> None:
    joiner = TextJoiner()
    pieces = joiner.add(text[:at]) + joiner.add(text[at:]) + joiner.finish()
    assert pieces == clean_text(text)
    pieces.encode()


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (r'{"a":"\u0000"}', r'{"a":"\ufffd"}'),
        (r'{"a":"\ud83d\ude00"}', r'{"a":"\ud83d\ude00"}'),
        (r'{"a":"\ud83d"}', r'{"a":"\ufffd"}'),
        (r'{"a":"\uDE00\ud83d\uD83D\uDE00"}', r'{"a":"\ufffd\ufffd\uD83D\uDE00"}'),
        (r'{"a":"\\u0000 \\\u0000"}', r'{"a":"\\u0000 \\\ufffd"}'),
        ('{"a":"\ud83d\ude00\0"}', '{"a":"😀\ufffd"}'),
        ('{"a":"\\ud83d', '{"a":"\\ufffd'),
        ("not JSON \\", "not JSON \\"),
    ],
)
def test_arguments_are_clean_in_their_escapes_too(text: str, clean: str) -> None:
    assert clean_arguments(text) == clean


@pytest.mark.parametrize("value", [{"a": "\0", "\ud83d": [1.5, None]}, "\ude00", []])
def test_arguments_that_came_as_a_value_are_clean_json(value: object) -> None:
    text = dump_arguments(value)
    stored = json.dumps(json.loads(text), ensure_ascii=False)
    assert "\\u0000" not in stored and "\0" not in stored
    stored.encode()


def test_opaque_json_comes_back_as_it_was() -> None:
    value = {"signature": "\ud83d\0é", "n": 12345678901234567890, "f": 0.1}
    text = dump_json(value)
    assert text.isascii() and parse_json(text) == value


@pytest.mark.parametrize("text", ["{broken", "", b"\xff\xfe", "[" * 100_000, "9" * 10_000, "{}{}"])
def test_what_is_no_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_json_that_only_some_parsers_take_is_read() -> None:
    assert parse_json('"\\ud83d"') == "\ud83d"
    assert parse_json('"a\tb"') == "a\tb"
    assert parse_json(b'"\xff"') == "\ufffd"


def test_a_body_is_utf8_whatever_is_in_it() -> None:
    assert dump_body({"a": "é", "n": float("nan")}) == '{"a":"é","n":null}'.encode()
    assert json.loads(dump_body({"a": "\ud83d"})) == {"a": "\ud83d"}


def test_an_event_without_data_is_none() -> None:
    assert EventDecoder().feed(b"data:\n\nevent: x\n\n") == []
    assert EventDecoder().feed(b"data: x\n\n") == [ServerEvent("", "x")]
