"""Frames, byte by byte."""

import json

from amplifierd.common.formats import dump_line
from sessions_app.events import Connected, Content
from sessions_app.streaming import journal_reader as frames


def test_an_event_has_its_seq_as_id_and_its_data_on_one_line() -> None:
    assert (
        frames.encode_event(7, "content", '{"a": 1}')
        == b'id: 7\nevent: content\ndata: {"a": 1}\n\n'
    )


def test_text_is_sent_as_utf_8_and_not_escaped() -> None:
    sent = frames.encode_event(1, "content", '{"content": "Grüße 🎈"}')
    assert "Grüße 🎈".encode() in sent


def test_line_breaks_between_json_tokens_do_not_end_the_data() -> None:
    pretty = json.dumps({"a": [1, "b"]}, indent=2).replace("\n", "\r\n")
    sent = frames.encode_event(1, "content", pretty).decode()
    [line] = [line for line in sent.splitlines() if line.startswith("data: ")]
    assert json.loads(line.removeprefix("data: ")) == {"a": [1, "b"]}
    assert sent.count("\n") == 4


LINE_ENDS = "a\u2028b\u2029c\u0085d\vx\fy\x1c\x1d\x1e\r\n"


def test_readers_of_lines_find_no_end_in_a_text() -> None:
    data = json.dumps({"content": LINE_ENDS, LINE_ENDS: 1}, ensure_ascii=False)
    for sent in (
        frames.encode_event(1, "content", data).decode(),
        frames.encode_notice(Content, json.loads(data)).decode(),
        frames.encode_without_id("content", data).decode(),
        f"data: {dump_line(json.loads(data))}",
    ):
        [line] = [line for line in sent.splitlines() if line.startswith("data: ")]
        assert json.loads(line.removeprefix("data: ")) == json.loads(data)


def test_a_name_cannot_smuggle_in_another_field() -> None:
    assert b"\nid: 9" not in frames.encode_event(1, "content\nid: 9", "{}")


def test_a_notice_leaves_the_clients_cursor_alone() -> None:
    assert frames.encode_notice(Connected, {"lastEventId": 3}) == (
        b'event: connected\ndata: {"lastEventId": 3}\n\n'
    )


def test_keepalive_has_no_id_and_some_data_so_that_browsers_dispatch_it() -> None:
    name, data = frames.encode_keepalive().decode().strip().split("\n")
    assert name == "event: keepalive"
    assert json.loads(data.removeprefix("data: "))["timestamp"].endswith("Z")
