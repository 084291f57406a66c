"""The Messages API of Anthropic: what is asked, and what real servers stream back."""

import json
from typing import Any

import pytest

from sessions_app.engine.messages import Text, Thinking, ToolCall
from sessions_app.engine.wire.anthropic import AnthropicReader
from sessions_app.engine.wire.events import Event, StreamError, TextDelta, ToolCallEvent
from tests.harness.wire import (
    Sent,
    check_chunks,
    check_cuts,
    check_damages,
    damaged_fields,
    encode,
    error_of,
    finish_of,
    joined,
    read,
    rearranged,
    shuffled,
    usage_of,
)


def sent(kind: str, **data: Any) -> Sent:
    return kind, {"type": kind, **data}


def start(**usage: Any) -> Sent:
    given = {"input_tokens": 25, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 65}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-fake"}
    rest = {"content": [], "stop_reason": None, "usage": {**given, "output_tokens": 1, **usage}}
    return sent("message_start", message={**message, **rest})


def begin(index: int, kind: str, **data: Any) -> Sent:
    return sent("content_block_start", index=index, content_block={"type": kind, **data})


def delta(index: int, kind: str, **data: Any) -> Sent:
    return sent("content_block_delta", index=index, delta={"type": f"{kind}_delta", **data})


def stop(index: int) -> Sent:
    return sent("content_block_stop", index=index)


def text(index: int, *pieces: str) -> list[Sent]:
    deltas = [delta(index, "text", text=piece) for piece in pieces]
    return [begin(index, "text", text=""), *deltas, stop(index)]


def call(index: int, call_id: str, name: str, *pieces: str) -> list[Sent]:
    deltas = [delta(index, "input_json", partial_json=piece) for piece in pieces]
    return [begin(index, "tool_use", id=call_id, name=name, input={}), *deltas, stop(index)]


def ending(reason: Any, **usage: Any) -> list[Sent]:
    stopped = {"stop_reason": reason, "stop_sequence": None}
    last = sent("message_delta", delta=stopped, usage={"output_tokens": 40, **usage})
    return [last, sent("message_stop")]


SIGNATURE = "c2lnbmVk+/=="
REFERENCE = [
    start(),
    sent("ping"),
    begin(0, "thinking", thinking="", signature=""),
    delta(0, "thinking", thinking="Hm, sk-canary"),
    delta(0, "thinking", thinking=" é"),
    delta(0, "signature", signature=SIGNATURE),
    stop(0),
    *text(1, "One \ud83d", "\ude00 two", " three"),
    *call(2, "toolu_1", "add", "", '{"a": 1, ', '"b": "\\ud83d\\ude00"}'),
    *ending("tool_use"),
]


def play(*events: Sent | list[Sent]) -> list[Event]:
    flat: list[Sent] = []
    for each in events:
        flat += each if isinstance(each, list) else [each]
    return read(AnthropicReader(), encode(flat))


def answer(*parts: list[Sent], reason: Any = "end_turn") -> list[Event]:
    return play(start(), *parts, ending(reason))


def test_a_stream_becomes_an_answer() -> None:
    events = play(REFERENCE)
    last = finish_of(events)
    thought = json.dumps(
        {"type": "thinking", "thinking": "Hm, sk-canary é", "signature": SIGNATURE},
        separators=(",", ":"),
    )
    assert last.parts == (
        Thinking("Hm, sk-canary é", thought),
        Text("One 😀 two three"),
        ToolCall("toolu_1", "add", '{"a": 1, "b": "\\ud83d\\ude00"}'),
    )
    assert (last.reason, last.model) == ("tool_calls", "claude-fake")
    assert usage_of(events) == (100, 40, 65, 0)
    assert [e.text for e in events if isinstance(e, TextDelta)] == ["One ", "😀 two", " three"]


def test_it_does_not_matter_where_the_bytes_are_cut() -> None:
    assert check_chunks(AnthropicReader, encode(REFERENCE)) > 200


def test_a_stream_that_is_cut_before_its_reason_to_stop_is_broken_off() -> None:
    # Without the line end: the event is whole with its last brace.
    end = len(encode(REFERENCE[:-1])) - 2
    assert check_cuts(AnthropicReader, encode(REFERENCE), end) > 200


def test_however_a_stream_is_damaged_it_is_read() -> None:
    assert len([*damaged_fields(REFERENCE)]) > 200
    check_damages(AnthropicReader, REFERENCE)


def test_no_answer_without_an_end_is_a_success() -> None:
    body = [event for event in REFERENCE if event[0] not in ("message_delta", "message_stop")]
    for events in (body, *rearranged(body), *shuffled(body, 200)):
        assert isinstance(read(AnthropicReader(), encode(events))[-1], StreamError)


@pytest.mark.parametrize(
    ("reason", "meaning"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("pause_turn", "stop"),
        ("something_new", "stop"),
        (None, "stop"),
        ("", "stop"),
    ],
)
def test_the_reason_to_stop_is_told(reason: Any, meaning: str) -> None:
    assert finish_of(answer(text(0, "One"), reason=reason)).reason == meaning


def test_a_refusal_without_a_word_is_an_error() -> None:
    details = {"stop_reason": "refusal", "stop_details": {"explanation": "Not this."}}
    error = error_of(play(start(), sent("message_delta", delta=details), sent("message_stop")))
    assert (error.kind, error.message) == ("content_filter", "Not this.")


def test_an_answer_without_content_is_a_success() -> None:
    last = finish_of(answer())
    assert (last.parts, last.reason) == ((), "stop")


def test_the_end_may_lack_its_farewell_but_not_its_reason() -> None:
    whole = [start(), *text(0, "One"), *ending("end_turn")]
    assert finish_of(play(whole[:-1])).reason == "stop"
    assert error_of(play(whole[:-2])).kind == "broken_off"
    empty = [sent("message_delta", delta={"stop_reason": ""}, usage={})]
    assert error_of(play(whole[:-2], empty)).kind == "broken_off"


def test_running_totals_are_counted_once() -> None:
    running = [sent("message_delta", delta={}, usage={"output_tokens": n}) for n in range(50)]
    repeated = {"input_tokens": 25, "cache_read_input_tokens": 65}
    events = play(start(), running, text(0, "One"), ending("end_turn", **repeated))
    assert usage_of(events) == (100, 49, 65, 0)
    details = {"output_tokens_details": {"thinking_tokens": 7}}
    assert usage_of(play(start(), ending("end_turn", **details))) == (100, 40, 65, 7)


def test_two_calls_may_have_the_same_index_or_the_same_id() -> None:
    one, two = call(0, "a", "add", '{"a": 1}'), call(0, "b", "add", '{"a": 2}')
    for events in (one + two, [*one[:-1], *two]):
        calls = finish_of(answer(events, reason="tool_use")).parts
        assert [(each.id, each.arguments) for each in calls] == [
            ("a", '{"a": 1}'),
            ("b", '{"a": 2}'),
        ]
    same = finish_of(answer(one, call(1, "a", "add", '{"a": 2}'), reason="tool_use")).parts
    assert len({each.id for each in same}) == 2


def test_arguments_come_in_pieces_whole_or_not_at_all() -> None:
    def arguments(*events: Sent) -> list[str]:
        return [
            e.arguments
            for e in answer([*events], reason="tool_use")
            if isinstance(e, ToolCallEvent)
        ]

    assert arguments(*call(0, "a", "now")) == ["{}"]
    assert arguments(*call(0, "a", "now", "", "")) == ["{}"]
    whole = begin(0, "tool_use", id="a", name="add", input={"a": "é"})
    assert arguments(whole, stop(0)) == ['{"a": "é"}']
    assert arguments(begin(0, "tool_use", id="a", name="add"), stop(0)) == ["{}"]
    assert arguments(*call(0, "a", "add", '{"a": tru')) == ['{"a": tru']


@pytest.mark.parametrize("pieces", [(), ("",), ('{"path": "a", "conte',)])
def test_a_call_that_was_cut_by_the_limit_is_not_made(pieces: tuple[str, ...]) -> None:
    events = answer(text(0, "One"), call(1, "a", "write_file", *pieces), reason="max_tokens")
    last = finish_of(events)
    assert (last.reason, last.parts) == ("length", (Text("One"),))
    assert not any(isinstance(event, ToolCallEvent) for event in events)


def test_a_whole_call_before_the_limit_stays() -> None:
    last = finish_of(answer(call(0, "a", "add", '{"a": 1}'), text(1, "Now"), reason="max_tokens"))
    assert last.parts == (ToolCall("a", "add", '{"a": 1}'), Text("Now"))


def test_blocks_may_lack_their_beginning_or_their_end() -> None:
    lost = [
        delta(0, "text", text="One"),
        delta(0, "text", text=" two"),
        delta(1, "thinking", thinking="Hm"),
    ]
    parts = finish_of(answer(lost)).parts
    assert [type(part) for part in parts] == [Text, Thinking]
    assert [part.text for part in parts] == ["One two", "Hm"]
    unended = [begin(0, "text", text="One"), begin(1, "tool_use", id="a", name="add", input={})]
    unended += [delta(1, "input_json", partial_json='{"a": 1}')]
    assert finish_of(answer(unended, reason="tool_use")).parts == (
        Text("One"),
        ToolCall("a", "add", '{"a": 1}'),
    )


def test_arguments_without_a_call_are_no_answer() -> None:
    lost = [delta(0, "input_json", partial_json='{"a": 1}')]
    assert error_of(answer(lost, reason="tool_use")).kind == "bad_answer"


def test_what_only_the_service_can_read_is_kept_as_it_came() -> None:
    found = {
        "type": "web_search_tool_result",
        "tool_use_id": "s",
        "content": [{"url": "u", "n": 1}],
    }
    cited = {"type": "char_location", "cited_text": "é\ud83d", "start": 0}
    last = finish_of(
        answer(
            [begin(0, "redacted_thinking", data="ZW5j"), stop(0)],
            [
                begin(1, "server_tool_use", id="s", name="web_search", input={}),
                delta(1, "input_json", partial_json='{"query": "x"}'),
                stop(1),
            ],
            [sent("content_block_start", index=2, content_block=found), stop(2)],
            [
                begin(3, "text", text="", citations=[]),
                delta(3, "text", text="So"),
                delta(3, "citations", citation=cited),
                stop(3),
            ],
            [
                begin(4, "tool_use", id="a", name="add", input={}, caller={"type": "x"}),
                stop(4),
            ],
        )
    )
    texts = [part.text for part in last.parts if isinstance(part, Text | Thinking)]
    assert texts == ["", "", "", "So"]
    assert [json.loads(part.opaque) for part in last.parts] == [
        {"type": "redacted_thinking", "data": "ZW5j"},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
        found,
        {"type": "text", "text": "So", "citations": [cited]},
        {"caller": {"type": "x"}},
    ]


def test_a_signature_may_come_twice_or_in_pieces() -> None:
    for signatures in (("abc", "abc"), ("a", "bc")):
        deltas = [delta(0, "signature", signature=each) for each in signatures]
        block = [begin(0, "thinking", thinking="", signature=""), *deltas, stop(0)]
        [part] = finish_of(answer(block)).parts
        assert json.loads(part.opaque)["signature"] == "abc"


@pytest.mark.parametrize(
    ("kind", "status", "meaning"),
    [
        ("overloaded_error", 529, "overloaded"),
        ("api_error", 500, "overloaded"),
        ("timeout_error", 504, "overloaded"),
        ("rate_limit_error", 429, "rate_limit"),
        ("authentication_error", 401, "auth"),
        ("billing_error", 402, "quota"),
        ("not_found_error", 404, "not_found"),
        ("request_too_large", 413, "too_long"),
        ("invalid_request_error", 400, "rejected"),
        ("new_error", 503, "overloaded"),
    ],
)
def test_an_error_in_the_stream_is_told_as_it_would_be_by_a_status(
    kind: str, status: int, meaning: str
) -> None:
    failed = sent("error", error={"type": kind, "message": "Said so."})
    for before in ([], [start(), *text(0, "One")]):
        events = play(before, failed, ending("end_turn"))
        error = error_of(events)
        assert (error.kind, error.status, error.message) == (meaning, status, "Said so.")
        assert joined(events, TextDelta) == ("One" if before else "")


def test_an_error_that_is_no_json_is_told() -> None:
    events = read(AnthropicReader(), b"event: error\ndata: upstream went away\n\n")
    assert error_of(events).message == "upstream went away"


def test_a_whole_message_is_read_as_a_stream_is() -> None:
    content = [
        {"type": "thinking", "thinking": "Hm", "signature": "c2ln"},
        {"type": "text", "text": "One"},
        {"type": "tool_use", "id": "a", "name": "add", "input": {"a": 1}},
    ]
    usage = {"input_tokens": 3, "output_tokens": 4}
    message = {"type": "message", "model": "m", "content": content, "stop_reason": "tool_use"}
    events = read(AnthropicReader(), json.dumps({**message, "usage": usage}).encode())
    last = finish_of(events)
    assert last.parts == (
        Thinking("Hm", json.dumps(content[0], separators=(",", ":"))),
        Text("One"),
        ToolCall("a", "add", '{"a": 1}'),
    )
    assert (last.reason, last.model, usage_of(events)) == ("tool_calls", "m", (3, 4, 0, 0))
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    assert error_of(read(AnthropicReader(), json.dumps(error).encode())).status == 529
    assert error_of(read(AnthropicReader(), b'{"hello": 1}')).kind == "bad_answer"


@pytest.mark.parametrize(
    "body", [b"", b": nothing\n\n", b"data: {broken\n\n", b"data: " + b"[" * 100_000 + b"\n\n"]
)
def test_what_is_no_answer_at_all_is_told(body: bytes) -> None:
    assert error_of(read(AnthropicReader(), body)).kind == "bad_answer"


def test_what_no_piece_of_text_tells_of_is_counted() -> None:
    for events in (
        call(0, "a", "add", '{"a": "', "x" * 500, '"}'),
        [begin(0, "tool_use", id="a", name="add", input={"a": "x" * 500}), stop(0)],
        [begin(0, "redacted_thinking", data="x" * 500), stop(0)],
    ):
        reader = AnthropicReader()
        read(reader, encode([start(), *events, *ending("tool_use")]))
        assert 500 <= reader.call_characters < 600
