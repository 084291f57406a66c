"""OpenAI's Responses API: what is asked, and what servers stream back."""

import json
from typing import Any

import pytest

from sessions_app.engine.messages import Part, Text, Thinking, ToolCall
from sessions_app.engine.wire.events import Event, StreamError, TextDelta, ThinkingDelta
from sessions_app.engine.wire.responses import ResponsesReader
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

USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 60},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
}


def sent(kind: str, **data: Any) -> Sent:
    return f"response.{kind}", {"type": f"response.{kind}", "sequence_number": 1, **data}


def response(kind: str, *output: dict[str, Any], **more: Any) -> Sent:
    body = {"id": "resp_1", "object": "response", "model": "fake", "status": kind, "usage": USAGE}
    return sent(kind, response={**body, "output": [*output], **more})


def message(text: str, number: int = 1, **more: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}] if text else []
    named = {"id": f"msg_{number}", "type": "message", "role": "assistant", "status": "completed"}
    return {**named, "content": content, **more}


def reasoning(*summaries: str, number: int = 0, **more: Any) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": each} for each in summaries]
    return {"id": f"rs_{number}", "type": "reasoning", "summary": summary, **more}


def function_call(arguments: str, call_id: str = "call_1", **more: Any) -> dict[str, Any]:
    named = {"id": f"fc_{call_id}", "type": "function_call", "call_id": call_id, "name": "add"}
    return {**named, "arguments": arguments, "status": "completed", **more}


def added(index: int, item: dict[str, Any]) -> Sent:
    return sent("output_item.added", output_index=index, item={**item, "status": "in_progress"})


def done(index: int, item: dict[str, Any]) -> Sent:
    return sent("output_item.done", output_index=index, item=item)


def delta(kind: str, index: int, item_id: str, text: str, **more: Any) -> Sent:
    return sent(f"{kind}.delta", output_index=index, item_id=item_id, delta=text, **more)


THOUGHT = reasoning("Hm, so", "Well", encrypted_content="ZW5j+/==")
SAID = message("One 😀 two", phase="final_answer")
CALLED = function_call('{"a": 1, "b": "é"}')
DELTAS = [
    response("created", usage=None),
    added(0, reasoning()),
    delta("reasoning_summary_text", 0, "rs_0", "Hm", summary_index=0),
    delta("reasoning_summary_text", 0, "rs_0", ", so", summary_index=0),
    sent(
        "reasoning_summary_text.done",
        output_index=0,
        item_id="rs_0",
        summary_index=0,
        text="Hm, so",
    ),
    delta("reasoning_summary_text", 0, "rs_0", "Well", summary_index=1),
    done(0, THOUGHT),
    added(1, message("")),
    delta("output_text", 1, "msg_1", "One \ud83d", content_index=0),
    delta("output_text", 1, "msg_1", "\ude00 two", content_index=0),
    sent("output_text.done", output_index=1, item_id="msg_1", content_index=0, text="One 😀 two"),
    done(1, SAID),
    added(2, function_call("")),
    delta("function_call_arguments", 2, "fc_call_1", '{"a": 1, '),
    delta("function_call_arguments", 2, "fc_call_1", '"b": "é"}'),
    sent(
        "function_call_arguments.done",
        output_index=2,
        item_id="fc_call_1",
        arguments=CALLED["arguments"],
    ),
    done(2, CALLED),
]
REFERENCE = [*DELTAS, response("completed", THOUGHT, SAID, CALLED)]


def play(*events: Sent | list[Sent]) -> list[Event]:
    flat: list[Sent] = []
    for each in events:
        flat += each if isinstance(each, list) else [each]
    return read(ResponsesReader(), encode(flat))


def plain(parts: tuple[Part, ...]) -> list[Any]:
    """The parts without what belongs to the service."""
    kinds = {Text: "text", Thinking: "thinking"}
    return [
        (part.id, part.name, part.arguments)
        if isinstance(part, ToolCall)
        else (kinds[type(part)], part.text)
        for part in parts
    ]


WHOLE = [
    ("thinking", "Hm, so\n\nWell"),
    ("text", "One 😀 two"),
    ("call_1", "add", '{"a": 1, "b": "é"}'),
]


def test_a_stream_becomes_an_answer() -> None:
    events = play(REFERENCE)
    last = finish_of(events)
    assert plain(last.parts) == WHOLE
    assert (last.reason, last.model) == ("tool_calls", "fake")
    assert usage_of(events) == (100, 20, 60, 5)
    assert joined(events, TextDelta) == "One 😀 two"
    assert joined(events, ThinkingDelta) == "Hm, so\n\nWell"


def test_what_only_the_service_can_read_is_kept_as_it_came() -> None:
    search = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"q": "é"}}
    last = finish_of(
        play(DELTAS, done(3, search), response("completed", THOUGHT, SAID, CALLED, search))
    )
    opaque = [json.loads(part.opaque) for part in last.parts]
    assert opaque[0] == THOUGHT
    assert opaque[1] == {"id": "msg_1", "status": "completed", "phase": "final_answer"}
    assert opaque[2] == {"id": "fc_call_1", "status": "completed"}
    assert (last.parts[3].text, opaque[3]) == ("", search)


def test_it_does_not_matter_where_the_bytes_are_cut() -> None:
    assert check_chunks(ResponsesReader, encode(REFERENCE)) > 200


def test_a_stream_that_is_cut_before_its_end_is_broken_off() -> None:
    body = encode(REFERENCE)
    assert check_cuts(ResponsesReader, body, len(body) - 2) > 200


def test_however_a_stream_is_damaged_it_is_read() -> None:
    assert len([*damaged_fields(REFERENCE)]) > 200
    check_damages(ResponsesReader, REFERENCE)


def test_no_answer_without_an_end_is_a_success() -> None:
    for events in (DELTAS, *rearranged(DELTAS), *shuffled(DELTAS, 200)):
        assert isinstance(read(ResponsesReader(), encode(events))[-1], StreamError)
    assert (
        error_of(read(ResponsesReader(), encode(DELTAS) + b"data: [DONE]\n\n")).kind == "broken_off"
    )


def without(*words: str) -> list[Sent]:
    return [event for event in REFERENCE if not any(word in event[0] for word in words)]


@pytest.mark.parametrize(
    "missing",
    [
        (".added",),
        (".delta",),
        ("text.done", "arguments.done"),
        ("item.done",),
        (".done",),
        (".added", ".done"),
        (".delta", "text.done", "arguments.done"),
        (".added", ".delta"),
        (".added", ".delta", ".done"),
        (".created",),
    ],
    ids=str,
)
def test_what_is_told_twice_need_be_told_only_once(missing: tuple[str, ...]) -> None:
    assert plain(finish_of(play(without(*missing))).parts) == WHOLE


def test_the_end_need_not_repeat_the_items() -> None:
    assert plain(finish_of(play(DELTAS, response("completed"))).parts) == WHOLE


def changed(events: list[Sent], key: str, make: Any) -> list[Sent]:
    """The events with another value of a key, wherever it is in them."""

    def change(data: Any, number: int) -> Any:
        if isinstance(data, list):
            return [change(each, number) for each in data]
        if not isinstance(data, dict):
            return data
        given = {name: change(each, number) for name, each in data.items()}
        if key not in given or not isinstance(given[key], str | int):
            return given
        other = make(given[key], number)
        return {n: v for n, v in {**given, key: other}.items() if n != key or v is not None}

    return [(name, change(data, number)) for number, (name, data) in enumerate(events)]


@pytest.mark.parametrize(
    ("key", "make"),
    [
        ("sequence_number", lambda value, number: None),
        ("output_index", lambda value, number: None),
        ("output_index", lambda value, number: 0),
        ("item_id", lambda value, number: None),
        ("item_id", lambda value, number: f"other_{number}"),
        ("id", lambda value, number: f"other_{number}"),
        ("id", lambda value, number: None),
        ("id", lambda value, number: ""),
        ("summary_index", lambda value, number: value + 1),
        ("content_index", lambda value, number: None),
        ("type", lambda value, number: None if value.startswith("response.") else value),
    ],
    ids=[
        "no sequence_number",
        "no output_index",
        "every output_index is 0",
        "no item_id",
        "another item_id",
        "another id",
        "no id",
        "an empty id",
        "another summary_index",
        "no content_index",
        "no type",
    ],
)
def test_ids_and_numbers_may_be_missing_or_others(key: str, make: Any) -> None:
    events = changed(REFERENCE, key, make)
    parts = plain(finish_of(play(events)).parts)
    if key == "summary_index":
        parts[0] = parts[0][0], parts[0][1][: len("Hm, so\n\nWell")]
    assert parts == WHOLE


def test_two_calls_may_have_the_same_number_or_the_same_id() -> None:
    one, two = function_call('{"a": 1}', "a"), function_call('{"a": 2}', "b")
    both = [
        [added(0, one), done(0, one), added(0, two), done(0, two)],
        [added(0, one), added(0, two), done(0, one), done(0, two)],
        [done(0, one), done(0, two)],
        [],
    ]
    for events in both:
        made = finish_of(play(events, response("completed", one, two))).parts
        assert plain(made) == [("a", "add", '{"a": 1}'), ("b", "add", '{"a": 2}')]
    same = [
        done(0, function_call('{"a": 1}', "a", id="x")),
        done(1, function_call('{"a": 2}', "c", id="x")),
    ]
    assert [part.id for part in finish_of(play(same, response("completed"))).parts] == ["a", "c"]


@pytest.mark.parametrize(
    ("details", "meaning"),
    [
        ({"reason": "max_output_tokens"}, "length"),
        ({"reason": "content_filter"}, "content_filter"),
        (None, "length"),
        ({"reason": "new"}, "length"),
    ],
)
def test_an_answer_that_was_cut_says_why(details: Any, meaning: str) -> None:
    said = [added(0, message("")), delta("output_text", 0, "msg_1", "One", content_index=0)]
    begun = [
        added(1, function_call("")),
        delta("function_call_arguments", 1, "fc_call_1", '{"a": '),
    ]
    for cut in ([], begun, begun[:1]):
        last = finish_of(play(said, cut, response("incomplete", incomplete_details=details)))
        assert (last.reason, plain(last.parts)) == (meaning, [("text", "One")])


def test_an_answer_that_is_withheld_as_a_whole_is_an_error() -> None:
    ended = response("incomplete", incomplete_details={"reason": "content_filter"})
    assert error_of(play(ended)).kind == "content_filter"


def test_a_refusal_is_told_as_one() -> None:
    deltas = [delta("refusal", 0, "msg_1", each, content_index=0) for each in ("I ", "cannot.")]
    refused = message("", content=[{"type": "refusal", "refusal": "I cannot."}])
    for events in ([*deltas, done(0, refused)], deltas, [done(0, refused)], []):
        output = [refused] if not events else []
        last = finish_of(play(events, response("completed", *output)))
        assert (last.reason, plain(last.parts)) == ("content_filter", [("text", "I cannot.")])


def test_an_answer_without_content_is_a_success() -> None:
    last = finish_of(play(response("completed")))
    assert (last.reason, last.parts) == ("stop", ())


@pytest.mark.parametrize("given", ["", "{}", None])
def test_a_call_may_have_no_arguments(given: Any) -> None:
    item = function_call("") | {"arguments": given}
    made = finish_of(play(added(0, item), done(0, item), response("completed", item))).parts
    assert plain(made) == [("call_1", "add", "{}")]


def test_reasoning_may_be_told_in_the_open() -> None:
    item = {
        "id": "rs_0",
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "Hm, so"}],
    }
    deltas = [delta("reasoning_text", 0, "rs_0", each, content_index=0) for each in ("Hm", ", so")]
    for events in ([*deltas, done(0, item)], deltas, [done(0, item)]):
        events += [done(1, message("One"))]
        assert plain(finish_of(play(events, response("completed"))).parts) == [
            ("thinking", "Hm, so"),
            ("text", "One"),
        ]


@pytest.mark.parametrize(
    ("code", "status", "meaning"),
    [
        ("server_error", 503, "overloaded"),
        ("rate_limit_exceeded", 429, "rate_limit"),
        ("insufficient_quota", 429, "quota"),
        ("invalid_prompt", 400, "rejected"),
        ("context_length_exceeded", 400, "too_long"),
        (None, 503, "overloaded"),
    ],
)
def test_an_error_in_the_stream_is_told(code: Any, status: int, meaning: str) -> None:
    told = {"code": code, "message": "Said so."}
    for failed in (
        ("error", {"type": "error", **told}),
        ("error", {"type": "error", "error": told}),
        ("", {"error": told}),
        response("failed", error=told),
        response("completed", error=told, status="failed"),
    ):
        for before in ([], DELTAS):
            error = error_of(play(before, failed, response("completed")))
            assert (error.kind, error.status, error.message) == (meaning, status, "Said so.")


@pytest.mark.parametrize("kind", ["failed", "cancelled"])
def test_a_failure_without_a_reason_is_one(kind: str) -> None:
    assert error_of(play(DELTAS, response(kind))).message


def test_a_whole_response_is_read_as_a_stream_is() -> None:
    body = response("completed", THOUGHT, SAID, CALLED)[1]["response"]
    events = read(ResponsesReader(), json.dumps(body).encode())
    assert plain(finish_of(events).parts) == WHOLE
    assert usage_of(events) == (100, 20, 60, 5)
    cut = {**body, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    assert finish_of(read(ResponsesReader(), json.dumps(cut).encode())).reason == "length"
    for status in ("in_progress", "queued", None, 1):
        waiting = json.dumps({**body, "status": status}).encode()
        assert error_of(read(ResponsesReader(), waiting)).kind == "bad_answer"
    refused = b'{"error": {"message": "no", "code": "server_error"}}'
    assert error_of(read(ResponsesReader(), refused)).message == "no"
    assert error_of(read(ResponsesReader(), b'{"hello": 1}')).kind == "bad_answer"


@pytest.mark.parametrize(
    "body", [b"", b": nothing\n\n", b"data: {broken\n\n", b"data: " + b"[" * 100_000 + b"\n\n"]
)
def test_what_is_no_answer_at_all_is_told(body: bytes) -> None:
    assert error_of(read(ResponsesReader(), body)).kind == "bad_answer"


def test_what_no_piece_of_text_tells_of_is_counted() -> None:
    made = function_call(json.dumps({"a": "x" * 500}))
    pieces = [delta("function_call_arguments", 0, made["id"], made["arguments"])]
    for events in (
        [*pieces, done(0, made)],
        [done(0, made)],
        [],
        [done(0, reasoning(encrypted_content="x" * 500))],
    ):
        reader = ResponsesReader()
        output = [] if events else [made]
        read(reader, encode([*events, response("completed", *output)]))
        assert 500 <= reader.call_characters < 600
