"""Chat completions: what is asked, and what is made of what real servers answer."""

import json
import random
import time
from collections.abc import Collection
from typing import Any

import pytest

from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.messages import (
    AssistantMessage,
    Request,
    SystemMessage,
    Text,
    Thinking,
    ToolCall,
    ToolMessage,
    ToolResult,
    ToolSpec,
    UserMessage,
)
from sessions_app.engine.providers.chat_completions import find_optional_field
from sessions_app.engine.settings import RequestOptions, ThinkingSettings
from sessions_app.engine.wire.chat import ChatReader, build_body
from sessions_app.engine.wire.events import Event, Finish, TextDelta, ThinkingDelta
from sessions_app.engine.wire.sse import EventDecoder
from tests.harness.wire import (
    check_chunks,
    check_cuts,
    check_damages,
    encode,
    error_of,
    finish_of,
    joined,
    read,
    usage_of,
)

DONE = b"data: [DONE]\n\n"


def chunk(delta: Any = None, finish: Any = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **more}


def stream(*chunks: dict[str, Any], end: bytes = DONE) -> bytes:
    return encode([("", each) for each in chunks]) + end


def answer(*chunks: dict[str, Any], end: bytes = DONE) -> list[Event]:
    return read(ChatReader(), stream(*chunks, end=end))


def says(*deltas: dict[str, Any], finish: Any = "stop") -> list[Event]:
    return answer(*map(chunk, deltas), chunk({}, finish))


def function(name: Any = None, arguments: Any = None) -> dict[str, Any]:
    given = {"name": name, "arguments": arguments}
    return {key: value for key, value in given.items() if value is not None}


def piece(index: Any, call_id: Any, name: Any, arguments: Any, **more: Any) -> dict[str, Any]:
    call = {"index": index, "id": call_id, "type": "function", **more}
    given = {key: value for key, value in call.items() if value is not None}
    return {"tool_calls": [{**given, "function": function(name, arguments)}]}


def calls_of(events: list[Event]) -> list[tuple[str, str, Any]]:
    parts = [part for part in finish_of(events).parts if isinstance(part, ToolCall)]
    return [(part.id, part.name, json.loads(part.arguments)) for part in parts]


def texts(events: list[Event]) -> tuple[str, str]:
    """The thinking and the text of an answer."""
    finish_of(events)
    return joined(events, ThinkingDelta), joined(events, TextDelta)


def test_an_answer_comes_piece_by_piece() -> None:
    events = says({"role": "assistant", "content": ""}, {"content": "One"}, {"content": " two"})
    assert events == [
        TextDelta("One"),
        TextDelta(" two"),
        Finish("stop", (Text("One two"),), "m"),
    ]


F, G = ("a", "f", {"x": 1}), ("b", "g", {"y": 2})


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        ([piece(0, "a", "f", '{"x":'), piece(0, None, None, "1}")], [F]),
        ([piece(0, "a", "f", ""), piece(0, "a", "f", '{"x":'), piece(0, "a", "f", "1}")], [F]),
        ([piece(0, "a", "f", ""), piece(0, "", "", '{"x":1}')], [F]),
        ([piece(0, "a", "f", '{"x":'), piece(0, "other", None, "1}")], [F]),
        ([piece(0, "a", None, None), piece(0, None, "f", '{"x":1}')], [F]),
        ([piece(None, "a", "f", '{"x":'), piece(None, None, None, "1}")], [F]),
        ([piece("0", "a", "f", {"x": 1})], [F]),
        (
            [piece(0, "a", "get_", None), piece(0, None, "it", '{"x":1}')],
            [("a", "get_it", {"x": 1})],
        ),
        ([piece(0, "a", "f", '{"x":1}'), piece(0, "b", "g", '{"y":2}')], [F, G]),
        ([piece(0, "a", "f", '{"x":1}'), piece(0, "b", "f", '{"x":1}')], [F, ("b", "f", {"x": 1})]),
        ([piece(None, "a", "f", '{"x":1}'), piece(None, "b", "g", '{"y":2}')], [F, G]),
        (
            [
                piece(0, "a", "f", '{"x":'),
                piece(0, None, None, "1}"),
                piece(0, "b", "g", '{"y":'),
                piece(0, None, None, "2}"),
            ],
            [F, G],
        ),
        (
            [
                piece(0, "a", "f", '{"x":'),
                piece(1, "b", "g", '{"y":'),
                piece(0, None, None, "1}"),
                piece(1, None, None, "2}"),
            ],
            [F, G],
        ),
        ([piece(0, "a", "f", ""), piece(0, "b", "g", "")], [("a", "f", {}), ("b", "g", {})]),
        ([piece(3, "a", "f", '{"x":1}'), piece(3, "a", "f", '{"x":1}')], [F]),
        ([{"tool_calls": piece(0, "a", "f", '{"x":1}')["tool_calls"][0]}], [F]),
        (
            [
                {
                    "tool_calls": [
                        *piece(0, "a", "f", {"x": 1})["tool_calls"],
                        *piece(0, "b", "g", {"y": 2})["tool_calls"],
                    ]
                }
            ],
            [F, G],
        ),
        ([{"tool_calls": []}, {"tool_calls": None}, piece(0, "a", "f", '{"x":1}')], [F]),
    ],
    ids=[
        "in pieces",
        "id and name in every piece",
        "empty id and name in later pieces",
        "another id in every piece",
        "the name after the id",
        "without an index",
        "an index as text, arguments as an object",
        "a name in pieces",
        "one index, two ids",
        "one index, two ids, the same call",
        "two ids without an index",
        "an index that starts again",
        "pieces of two calls in turn",
        "two calls without parameters",
        "repeated whole",
        "a call that is not in a list",
        "two in one chunk",
        "empty lists before",
    ],
)
@pytest.mark.parametrize("finish", ["tool_calls", "stop", "function_call", "tool_use"])
def test_calls_are_told_apart(
    deltas: list[dict[str, Any]], expected: list[Any], finish: str
) -> None:
    events = says(*deltas, finish=finish)
    assert calls_of(events) == expected
    assert finish_of(events).reason == "tool_calls"


def test_calls_without_ids_get_their_own() -> None:
    events = says(piece(None, None, "f", '{"x":1}'), piece(None, None, "g", '{"y":2}'))
    calls = calls_of(events)
    assert [call[1:] for call in calls] == [F[1:], G[1:]]
    assert calls[0][0] and calls[1][0] and calls[0][0] != calls[1][0]


def test_two_calls_with_one_id_get_two() -> None:
    events = says(piece(0, "a", "f", '{"x":1}'), piece(1, "a", "g", '{"y":2}'))
    (first, *f), (second, *g) = calls_of(events)
    assert (f, g, first != second) == ([*F[1:]], [*G[1:]], True)


def test_a_call_of_the_first_protocol_is_read() -> None:
    events = says(
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": '{"x":1}'}},
        finish="function_call",
    )
    assert [call[1:] for call in calls_of(events)] == [("f", {"x": 1})]


def test_an_end_that_speaks_of_calls_without_any_is_a_stop() -> None:
    assert finish_of(says({"content": "One"}, finish="tool_calls")).reason == "stop"


def test_a_call_that_was_cut_is_left_out() -> None:
    events = says({"content": "One"}, piece(0, "a", "f", '{"x":'), finish="length")
    assert finish_of(events) == Finish("length", (Text("One"),), "m")


def test_halves_of_characters_are_joined_in_text_thinking_and_arguments() -> None:
    events = says(
        {"reasoning_content": "\ud83d"},
        {"reasoning_content": "\ude00"},
        {"content": "a\ud83d"},
        {"content": "\ude00\u2028\0"},
        {"content": "\ude00"},
        piece(0, "a", "f", '{"x":"\ud83d'),
        piece(0, None, None, '\ude00\\ud83d\\ude00\\udc00\\u0000"}'),
    )
    assert texts(events) == ("😀", "a😀\u2028\ufffd\ufffd")
    assert calls_of(events) == [("a", "f", {"x": "😀😀\ufffd\ufffd"})]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["<think>hm</think>One"], ("hm", "One")),
        (["<thi", "nk>h", "m</", "thi", "nk>\n\nOne"], ("hm", "One")),
        (
            ["\n<think>", "\nhm", "</think>", "\n", "\nOne", " <think>two</think>"],
            ("hm", "One <think>two</think>"),
        ),
        (["<thinking>a</think>b</thinking>", "One"], ("a</think>b", "One")),
        (["<think></think>One"], ("", "One")),
        (["<thin", " air>"], ("", "<thin air>")),
        ([" <", "b>One"], ("", " <b>One")),
        (["One <think>two</think>"], ("", "One <think>two</think>")),
        (["<think>a < b </ c", "</think>One"], ("a < b </ c", "One")),
        (["<thi"], ("", "<thi")),
        (["  "], ("", "  ")),
    ],
    ids=repr,
)
def test_thinking_between_tags_is_thinking(pieces: list[str], expected: tuple[str, str]) -> None:
    assert texts(says(*({"content": each} for each in pieces))) == expected
    letters = [{"content": letter} for letter in "".join(pieces)]
    assert texts(says(*letters)) == expected


def test_thinking_without_its_end_stays_thinking() -> None:
    assert texts(says({"content": "<think>hm</th"}, finish="length")) == ("hm</th", "")


def test_tags_are_text_after_thinking_in_a_field_of_its_own() -> None:
    events = says({"reasoning": "hm"}, {"content": "<think>One</think>"})
    assert texts(events) == ("hm", "<think>One</think>")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_a_field_of_thinking_goes_back_as_it_came(field: str) -> None:
    events = says({field: "h\ud83d", "content": None}, {field: "\ude00"}, {"content": "One"})
    assert texts(events) == ("h😀", "One")
    thought = finish_of(events).parts[0]
    assert json.loads(thought.opaque) == {field: "h😀"}
    assert built(finish_of(events))["messages"][-1][field] == "h😀"


def test_thinking_that_comes_twice_counts_once() -> None:
    events = says({"reasoning": "hm", "reasoning_content": "hm"}, {"content": "One"})
    assert texts(events) == ("hm", "One")


def test_details_of_reasoning_go_back_joined() -> None:
    kind = {"type": "reasoning.text", "index": 0, "format": "x"}
    secret = {"type": "reasoning.encrypted", "index": 1, "data": "c2"}
    events = says(
        {"reasoning": "h", "reasoning_details": [{**kind, "text": "h"}]},
        {"reasoning": "m", "reasoning_details": [{**kind, "text": "m"}]},
        {"reasoning_details": [{**kind, "signature": "c2ln"}, secret]},
        piece(0, "a", "f", '{"x":1}', extra_content={"google": {"thought_signature": "s"}}),
    )
    message = built(finish_of(events))["messages"][-1]
    assert message["reasoning_details"] == [{**kind, "text": "hm", "signature": "c2ln"}, secret]
    assert message["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "s"}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([{"type": "text", "text": "One"}, {"type": "text", "text": " two"}], ("", "One two")),
        (["One", " two"], ("", "One two")),
        ({"type": "text", "text": "One two"}, ("", "One two")),
        (
            [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "One"},
                {"type": "image_url", "image_url": {"url": "x"}},
            ],
            ("hm", "One"),
        ),
    ],
    ids=["parts", "texts", "one part", "thinking"],
)
def test_a_content_of_parts_is_read(content: Any, expected: tuple[str, str]) -> None:
    assert texts(says({"content": content})) == expected


def test_what_is_empty_or_missing_does_no_harm() -> None:
    events = answer(
        {"choices": [], "prompt_filter_results": []},
        {"id": "x"},
        {"choices": None, "usage": None},
        chunk(None),
        chunk({"content": None, "tool_calls": None, "refusal": None}),
        chunk({"content": "One"}, ""),
        chunk({"content": ""}),
        {"choices": [{"index": 1, "delta": {"content": "another"}}]},
        chunk({}, "stop", usage=None),
        {"choices": [{}]},
    )
    assert texts(events) == ("", "One")


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}, (7, 3, 0, 0)),
        ({"prompt_tokens": "7", "completion_tokens": 3.0}, (7, 3, 0, 0)),
        ({"prompt_tokens": -1, "completion_tokens": None}, (0, 0, 0, 0)),
        ({"input_tokens": 7, "output_tokens": 3}, (7, 3, 0, 0)),
        (
            {
                "prompt_tokens": 7,
                "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 5},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            (7, 3, 5, 2),
        ),
        (
            {"prompt_tokens": 7, "prompt_cache_hit_tokens": 5, "prompt_tokens_details": None},
            (7, 0, 5, 0),
        ),
        ({"prompt_tokens": "many", "prompt_tokens_details": "x"}, (0, 0, 0, 0)),
    ],
)
def test_usage_is_read_whatever_its_form(usage: dict[str, Any], expected: Any) -> None:
    before = answer(chunk({"content": "One"}, usage=usage), chunk({}, "stop"))
    after = answer(chunk({"content": "One"}, "stop"), {"choices": [], "usage": usage})
    for events in (before, after):
        assert texts(events) == ("", "One")
        assert (usage_of(events) if any(expected) else expected) == expected


def test_running_totals_count_once() -> None:
    pieces = [
        chunk({"content": "x"}, usage={"prompt_tokens": 100, "completion_tokens": n + 1})
        for n in range(50)
    ]
    last = {"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 50}}
    assert usage_of(answer(*pieces, chunk({}, "stop"), last)) == (100, 50, 0, 0)


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("content_filter", "content_filter"),
        ("SAFETY", "content_filter"),
        ("eos_token", "stop"),
        ("end_turn", "stop"),
        ("something new", "stop"),
        (17, "stop"),
    ],
)
def test_the_reason_of_the_end_is_known(finish: Any, reason: str) -> None:
    assert finish_of(says({"content": "One"}, finish=finish)).reason == reason


@pytest.mark.parametrize("finish", ["error", "network_error", "insufficient_system_resource"])
def test_an_answer_that_ends_in_an_error_is_no_success(finish: str) -> None:
    error = error_of(says({"content": "One"}, finish=finish))
    assert (error.kind, finish in error.message) == ("overloaded", True)


def test_what_is_withheld_as_a_whole_is_an_error() -> None:
    assert error_of(says(finish="content_filter")).kind == "content_filter"


@pytest.mark.parametrize("finish", ["", None])
@pytest.mark.parametrize("end", [b"", b": bye\n\n"])
def test_without_a_reason_and_a_mark_of_the_end_it_is_broken_off(finish: Any, end: bytes) -> None:
    pieces = [chunk({"content": "x"}, finish) for _ in range(10)]
    events = answer(*pieces, end=end)
    assert (error_of(events).kind, joined(events, TextDelta)) == ("broken_off", "x" * 10)


@pytest.mark.parametrize("end", [b"", b"data: [DONE]", DONE + b"data: {broken\n\n" + DONE])
def test_either_mark_of_the_end_makes_an_answer_whole(end: bytes) -> None:
    assert texts(answer(chunk({"content": "One"}, "stop"), end=end)) == ("", "One")
    assert texts(answer(chunk({"content": "One"}), end=DONE)) == ("", "One")


def test_an_empty_answer_is_one_if_the_server_says_that_it_is_whole() -> None:
    assert answer(chunk({"role": "assistant", "content": ""}), chunk({}, "stop")) == [
        Finish("stop", (), "m")
    ]
    for body in (DONE, b"", b": nothing\n\n"):
        error = error_of(read(ChatReader(), body))
        assert (error.kind, error.retry) == ("bad_answer", True)


ERRORS = [
    (b'event: error\ndata: {"error": {"message": "it broke", "code": 503}}\n\n', "overloaded", 503),
    (b'data: {"error": {"message": "it broke", "code": 429}}\n\n', "rate_limit", 429),
    (b'data: {"error": "it broke"}\n\n', "overloaded", 503),
    (b"event: error\ndata: it broke\n\n", "overloaded", 503),
    (b'event: error\ndata: {"message": "it broke"}\n\n', "overloaded", 503),
    (b'data: {"object": "error", "message": "it broke", "code": 400}\n\n', "rejected", 400),
    (b'data: {"detail": "it broke"}\n\n', "overloaded", 503),
    (
        b'data: {"choices": [{"error": {"message": "it broke", "code": 502}}]}\n\n',
        "overloaded",
        502,
    ),
    (
        b'data: {"error": {"message": "it broke", "code": "context_length_exceeded"}}\n\n',
        "too_long",
        None,
    ),
]


@pytest.mark.parametrize(("event", "kind", "status"), ERRORS)
def test_an_error_in_the_stream_ends_it_with_its_message(
    event: bytes, kind: str, status: int | None
) -> None:
    for before in (b"", stream(chunk({"content": "One"}), end=b"")):
        events = read(ChatReader(), before + event + DONE)
        error = error_of(events)
        assert (error.kind, error.message, error.status) == (kind, "it broke", status)
        assert joined(events, TextDelta) == ("One" if before else "")


@pytest.mark.parametrize(
    "shape",
    [
        [1, 2],
        "text",
        None,
        {"choices": "no"},
        {"choices": {"a": 1}},
        {"choices": [1]},
        {"choices": [{"index": 0, "delta": "x"}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [3]}}]},
        {"choices": [{"index": 0, "delta": {"content": 5}}]},
        {"choices": [], "usage": "none"},
    ],
    ids=str,
)
def test_another_shape_is_a_bad_answer(shape: Any) -> None:
    events = read(ChatReader(), stream(chunk({"content": "One"}), end=b"") + encode([("", shape)]))
    assert (error_of(events).kind, joined(events, TextDelta)) == ("bad_answer", "One")


def test_no_json_is_a_bad_answer() -> None:
    for line in (b"{broken", b"\xff\xfe", b"[" * 100_000, b"9" * 10_000):
        body = stream(chunk({"content": "One"}), end=b"") + b"data: " + line + b"\n\n"
        assert error_of(read(ChatReader(), body)).kind == "bad_answer"


WHOLE = {
    "object": "chat.completion",
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "One",
                "reasoning_content": "hm",
                "tool_calls": [
                    {"id": "a", "type": "function", "function": function("f", {"x": 1})}
                ],
            },
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3},
}


@pytest.mark.parametrize(
    "body",
    [json.dumps(WHOLE).encode(), json.dumps(WHOLE, indent=1).encode(), stream(WHOLE)],
    ids=["a document", "with line breaks", "an event"],
)
def test_a_whole_completion_is_read(body: bytes) -> None:
    events = read(ChatReader(), body)
    assert (texts(events), calls_of(events)) == (("hm", "One"), [F])
    assert usage_of(events) == (7, 3, 0, 0)


def test_a_whole_message_after_its_pieces_says_nothing_new() -> None:
    events = answer(chunk({"content": "One"}), WHOLE)
    assert texts(events) == ("", "One")


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({}, "bad_answer"),
        ({"choices": []}, "bad_answer"),
        ([], "bad_answer"),
        ({"error": {"message": "no", "code": 401}}, "auth"),
        ({"detail": "Not Found", "status": 404}, "not_found"),
    ],
)
def test_a_document_without_an_answer_is_an_error(document: Any, kind: str) -> None:
    assert error_of(read(ChatReader(), json.dumps(document).encode())).kind == kind


REFERENCE = [
    ("", chunk({"role": "assistant", "content": ""})),
    ("", chunk({"reasoning_content": "Hm, so \ud83d"})),
    ("", chunk({"reasoning_content": "\ude00."})),
    ("", chunk({"content": "One \ud83d"})),
    ("", chunk({"content": "\ude00 two\u2028"})),
    ("", chunk(piece(0, "a", "f", ""))),
    ("", chunk(piece(0, None, None, '{"x":'))),
    ("", chunk(piece(0, None, None, "1}"))),
    ("", chunk(piece(1, "b", "g", '{"y":2}'))),
    ("", chunk({}, "tool_calls")),
    ("", {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}),
]


def test_it_does_not_matter_where_a_stream_is_cut_into_chunks() -> None:
    assert check_chunks(ChatReader, encode(REFERENCE) + DONE) > 1000


def test_a_stream_that_ends_early_is_never_a_success() -> None:
    body = encode(REFERENCE) + DONE
    end = len(encode(REFERENCE[:10])) - 2
    assert check_cuts(ChatReader, body, end) == len(body)


def test_a_damaged_stream_ends_in_an_answer_or_an_error() -> None:
    check_damages(ChatReader, REFERENCE, DONE)


def generate(seed: int) -> tuple[bytes, tuple[str, str], list[tuple[str, str, Any]]]:
    """A stream as a server may send it, and what it says."""
    dice = random.Random(seed)
    letters = "ab \n<é€😀\u2028"
    thought = "".join(dice.choices(letters, k=dice.randint(0, 8)))
    text = "a" + "".join(dice.choices(letters, k=dice.randint(0, 12)))
    calls = [
        (f"id{number}", dice.choice("fgh"), {"x": dice.choice([1, "é", "😀", None])})
        for number in range(dice.randint(0, 3))
    ]
    field = dice.choice(["reasoning_content", "reasoning", "thinking"])
    style = dice.choice(["index", "none", "zero", "repeated"])
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": dice.choice(["", None])}]
    deltas += [{field: each} for each in pieces_of(thought, dice)]
    deltas += [{"content": each} for each in pieces_of(text, dice)]
    for number, (call_id, name, arguments) in enumerate(calls):
        index = {"index": number, "none": None, "zero": 0, "repeated": number}[style]
        first = True
        for each in pieces_of(json.dumps(arguments, ensure_ascii=dice.random() < 0.5), dice):
            is_named = first or style == "repeated"
            names = (call_id, name) if is_named else dice.choice([(None, None), ("", "")])
            deltas.append(piece(index, *names, each))
            first = False
    noise = [{"choices": []}, chunk({}), chunk({"content": None}), chunk(None), chunk({}, "")]
    chunks = [each for delta in deltas for each in noisy(chunk(delta), noise, dice)]
    chunks.append(chunk({}, "tool_calls" if calls and dice.random() < 0.5 else "stop"))
    if dice.random() < 0.5:
        chunks.append({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
    end = dice.choice([DONE, b"", b"data: [DONE]"])
    body = encode([("", each) for each in chunks]) + end
    return body.replace(b"\n", dice.choice([b"\n", b"\r\n", b"\r"])), (thought, text), calls


def noisy(
    one: dict[str, Any], noise: list[dict[str, Any]], dice: random.Random
) -> list[dict[str, Any]]:
    return [dice.choice(noise), one] if dice.random() < 0.3 else [one]


def pieces_of(text: str, dice: random.Random) -> list[str]:
    """The text in pieces, cut between the halves of characters, too."""
    units = text.encode("utf-16-le", "surrogatepass")
    pieces, at = [], 0
    while at < len(units):
        size = 2 * dice.randint(1, 4)
        pieces.append(units[at : at + size].decode("utf-16-le", "surrogatepass"))
        at += size
    return pieces


@pytest.mark.parametrize("seed", range(200))
def test_what_a_server_says_is_what_is_read(seed: int) -> None:
    body, said, calls = generate(seed)
    events = read(ChatReader(), body)
    assert (texts(events), calls_of(events)) == (said, calls)
    dice = random.Random(seed)
    for _ in range(5):
        cut = dice.randrange(len(body))
        assert read(ChatReader(), body[:cut], body[cut:]) == events
    end = body.rindex(b"finish_reason")
    for cut in range(0, end, end // 40):
        assert error_of(read(ChatReader(), body[:cut])).kind in ("broken_off", "bad_answer")


def built(finish: Finish, service: str = "here", **options: Any) -> dict[str, Any]:
    """The body of a request that goes on after an answer."""
    before = AssistantMessage(finish.parts, "here", finish.model, finish.reason)
    return build(Request("", (UserMessage("Go."), before)), service=service, **options)


def build(
    request: Request, service: str = "here", *, without: Collection[str] = (), **options: Any
) -> dict[str, Any]:
    given = {"settings": {}, "can": ProviderCapabilities(without=tuple(without)), **options}
    return build_body(request, RequestOptions("m", service, **given))


def test_a_request_says_all_that_was_said() -> None:
    call, result = ToolCall("a", "f", '{"x":1}'), ToolResult("a", "f", "It is 1.")
    request = Request(
        "Be brief.",
        (
            UserMessage("Hi."),
            AssistantMessage((Thinking("hm"), Text("Hello."), call)),
            ToolMessage((result, ToolResult("b", "g", "no", is_error=True))),
            SystemMessage("Careful."),
            UserMessage("Go."),
        ),
        (ToolSpec("f", "Does it.", {"type": "object"}),),
    )
    body = build(request)
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi."},
        {
            "role": "assistant",
            "content": "Hello.",
            "tool_calls": [
                {
                    "id": "a",
                    "type": "function",
                    "function": {"name": "f", "arguments": '{"x":1}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "It is 1."},
        {"role": "tool", "tool_call_id": "b", "content": "no"},
        {"role": "system", "content": "Careful."},
        {"role": "user", "content": "Go."},
    ]
    parameters = {"name": "f", "description": "Does it.", "parameters": {"type": "object"}}
    assert body["tools"] == [{"type": "function", "function": parameters}]
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


def test_a_request_without_tools_names_none() -> None:
    assert "tools" not in build(Request("", (UserMessage("Go."),)))


def test_capabilities_decide_about_fields() -> None:
    settings = {
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 1.0,
        "seed": 3,
        "stop": ["E"],
    }
    can = ProviderCapabilities(
        stream_options=False,
        max_tokens_field="max_completion_tokens",
        system_role="developer",
        without=("seed",),
    )
    thinking = ThinkingSettings(effort="low")
    body = build(Request("I", (UserMessage("Go."),)), settings=settings, can=can, thinking=thinking)
    assert body["messages"][0] == {"role": "developer", "content": "I"}
    assert body.keys() == {
        *("model", "messages", "stream", "max_completion_tokens"),
        *("temperature", "top_p", "stop", "reasoning_effort"),
    }
    assert (body["max_completion_tokens"], body["stop"], body["reasoning_effort"]) == (
        9,
        ["E"],
        "low",
    )


def test_a_limit_of_tokens_has_two_names() -> None:
    request, settings = Request("", (UserMessage("Go."),)), {"max_tokens": 9}
    assert build(request, settings=settings, without={"max_tokens"})["max_completion_tokens"] == 9
    both = {"max_tokens", "max_completion_tokens"}
    assert not both & build(request, settings=settings, without=both).keys()


def test_opaque_fields_go_back_to_their_service_only() -> None:
    events = says(
        {"reasoning_content": "hm"},
        piece(0, "a", "f", "{}", extra_content={"x": 1}),
    )
    finish = finish_of(events)
    message = built(finish)["messages"][-1]
    assert (message["reasoning_content"], message["content"]) == ("hm", None)
    assert message["tool_calls"][0]["extra_content"] == {"x": 1}
    other = built(finish, service="there")["messages"][-1]
    assert other.keys() == {"role", "content", "tool_calls"}
    assert other["tool_calls"][0].keys() == {"id", "type", "function"}
    refused = built(finish, without={"reasoning_content", "extra_content"})["messages"][-1]
    assert refused == other


@pytest.mark.parametrize("opaque", ['{"type":"reasoning","id":"x"}', "{broken", "[1]", '"x"'])
def test_opaque_content_of_another_protocol_is_left_out(opaque: str) -> None:
    finish = Finish("stop", (Thinking("hm", opaque), Text("One")), "m")
    assert built(finish)["messages"][-1] == {"role": "assistant", "content": "One"}


@pytest.mark.parametrize(
    ("place", "field"),
    [
        ("stream_options", "stream_options"),
        ("stream_options.include_usage", "stream_options"),
        ("body.max_completion_tokens", "max_completion_tokens"),
        ("messages.3.reasoning_content", "reasoning_content"),
        ("messages[3].assistant.reasoning_content", "reasoning_content"),
        ("messages.1.tool_calls.0.extra_content", "extra_content"),
        ("messages", ""),
        ("model", ""),
        ("", ""),
    ],
)
def test_only_what_is_optional_is_left_out(place: str, field: str) -> None:
    assert find_optional_field(place) == field


def test_a_chunk_costs_little() -> None:
    body = stream(*[chunk({"content": " word"})] * 20_000, chunk({}, "stop"))
    decoder, reader, count = EventDecoder(), ChatReader(), 0
    began = time.process_time()
    for at in range(0, len(body), 4096):
        for event in decoder.feed(body[at : at + 4096]):
            count += len(reader.read(event))
    cost = (time.process_time() - began) / 20_000
    assert count == 20_001
    # Some 8 µs; machines that are busy take longer.
    assert cost < 50e-6
