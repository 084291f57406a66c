"""The Gemini API: what is asked, and what is streamed back."""

import json
from typing import Any

import pytest

from sessions_app.engine.messages import Text, Thinking, ToolCall
from sessions_app.engine.wire.events import Event, StreamError, TextDelta
from sessions_app.engine.wire.gemini import GeminiReader, simplify_schema
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
    "promptTokenCount": 90,
    "toolUsePromptTokenCount": 10,
    "cachedContentTokenCount": 60,
    "candidatesTokenCount": 15,
    "thoughtsTokenCount": 5,
}


def chunk(*parts: dict[str, Any], finish: Any = None, **more: Any) -> Sent:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    ended = {"finishReason": finish} if finish else {}
    named = {"modelVersion": "gemini-fake", "responseId": "r", "usageMetadata": USAGE}
    return "", {"candidates": [{**candidate, **ended}], **named, **more}


def text(*pieces: str) -> list[Sent]:
    return [chunk({"text": piece}) for piece in pieces]


def call(name: str = "add", args: Any = None, **more: Any) -> dict[str, Any]:
    return {"functionCall": {"name": name, "args": {"a": 1} if args is None else args}, **more}


SIGNATURE = "c2lnbmVk+/=="
REFERENCE = [
    chunk({"text": "Hm", "thought": True}, {"text": ", so", "thought": True}),
    *text("One \ud83d", "\ude00 two"),
    chunk({"text": " three", "thoughtSignature": "dGV4dA=="}),
    chunk(call(args={"a": 1, "b": "é"}, thoughtSignature=SIGNATURE), call("now", {})),
    chunk({"text": ""}, finish="STOP"),
]


def play(*events: Sent | list[Sent]) -> list[Event]:
    flat: list[Sent] = []
    for each in events:
        flat += each if isinstance(each, list) else [each]
    return read(GeminiReader(), encode(flat))


@pytest.fixture
def numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of calls are counted instead of made up, so that answers can be compared."""

    def count(self: GeminiReader, given: Any, prefix: str = "call_") -> str:
        call_id = given if isinstance(given, str) and given not in self._call_ids and given else ""
        call_id = call_id or f"{prefix}{len(self._call_ids)}"
        self._call_ids.add(call_id)
        return call_id

    monkeypatch.setattr(GeminiReader, "choose_id", count)


def test_a_stream_becomes_an_answer(numbered: None) -> None:
    events = play(REFERENCE)
    last = finish_of(events)
    signed = {"text": " three", "thoughtSignature": "dGV4dA=="}
    assert last.parts == (
        Thinking("Hm, so"),
        Text("One 😀 two"),
        Text(" three", json.dumps(signed, separators=(",", ":"))),
        ToolCall("call_0", "add", '{"a": 1, "b": "é"}', f'{{"thoughtSignature":"{SIGNATURE}"}}'),
        ToolCall("call_1", "now", "{}"),
    )
    assert (last.reason, last.model) == ("tool_calls", "gemini-fake")
    assert usage_of(events) == (100, 20, 60, 5)
    assert joined(events, TextDelta) == "One 😀 two three"


def test_it_does_not_matter_where_the_bytes_are_cut(numbered: None) -> None:
    assert check_chunks(GeminiReader, encode(REFERENCE)) > 200


def test_a_stream_that_is_cut_before_its_reason_to_finish_is_broken_off(numbered: None) -> None:
    body = encode(REFERENCE)
    assert check_cuts(GeminiReader, body, len(body) - 2) > 200


def test_however_a_stream_is_damaged_it_is_read() -> None:
    assert len([*damaged_fields(REFERENCE)]) > 200
    check_damages(GeminiReader, REFERENCE)


def test_no_answer_without_an_end_is_a_success() -> None:
    body = REFERENCE[:-1]
    for events in (body, *rearranged(body), *shuffled(body, 200)):
        assert isinstance(read(GeminiReader(), encode(events))[-1], StreamError)


@pytest.mark.parametrize(
    ("reason", "meaning"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("OTHER", "error"),
        ("SOMETHING_NEW", "stop"),
    ],
)
def test_the_reason_to_finish_is_told(reason: str, meaning: str) -> None:
    assert finish_of(play(text("One"), chunk(finish=reason))).reason == meaning


@pytest.mark.parametrize("reason", [None, "", "FINISH_REASON_UNSPECIFIED", 1, []])
def test_what_is_no_reason_to_finish_is_none(reason: Any) -> None:
    assert error_of(play(text("One"), chunk(finish=reason))).kind == "broken_off"


@pytest.mark.parametrize("reason", ["SAFETY", "SPII", "IMAGE_SAFETY"])
def test_an_answer_that_is_withheld_as_a_whole_is_an_error(reason: str) -> None:
    error = error_of(play(chunk({"text": "Hm", "thought": True}), chunk(finish=reason)))
    assert error.kind == "content_filter"
    assert reason in error.message


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"])
def test_a_call_that_the_service_cannot_read_may_be_asked_for_again(reason: str) -> None:
    error = error_of(play(chunk(finish=reason)))
    assert (error.kind, error.retry) == ("bad_answer", True)


@pytest.mark.parametrize("candidates", [None, []])
def test_a_prompt_that_is_blocked_is_told(candidates: Any) -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": USAGE}
    more = {} if candidates is None else {"candidates": candidates}
    error = error_of(play(("", {**blocked, **more})))
    assert (error.kind, "SAFETY" in error.message) == ("content_filter", True)


def test_an_answer_without_content_is_a_success() -> None:
    assert finish_of(play(chunk(finish="STOP"))).parts == ()


def test_empty_candidates_and_pieces_are_passed_over() -> None:
    empty: list[Any] = [
        [],
        [{}],
        [{"content": None}],
        [{"content": {}}],
        [{"content": {"parts": []}}],
    ]
    nothing = [("", {"candidates": each}) for each in empty]
    last = finish_of(play(text("One"), nothing, text(" two"), chunk(finish="STOP")))
    assert last.parts == (Text("One two"),)


def test_of_several_candidates_the_first_one_counts() -> None:
    def both(one: str, two: str, **ended: Any) -> Sent:
        made = [
            {"index": index, "content": {"parts": [{"text": each}]}, **ended}
            for index, each in enumerate((one, two))
        ]
        return "", {"candidates": made}

    last = finish_of(play(both("One", "Uno"), both(" two", " dos", finishReason="STOP")))
    assert last.parts == (Text("One two"),)


def test_a_reason_with_each_piece_means_the_last_one() -> None:
    pieces = [chunk({"text": each}, finish="STOP") for each in ("One", " two", " three")]
    assert finish_of(play(pieces)).parts == (Text("One two three"),)
    assert error_of(play(pieces, text(" four"))).kind == "broken_off"


def test_usage_may_come_after_the_reason_to_finish() -> None:
    late = ("", {"usageMetadata": {**USAGE, "candidatesTokenCount": 30}})
    assert usage_of(play(text("One"), chunk(finish="STOP"), late)) == (100, 35, 60, 5)


def test_running_totals_are_counted_once() -> None:
    running = [
        chunk({"text": "x"}, usageMetadata={"promptTokenCount": 100, "candidatesTokenCount": n})
        for n in range(50)
    ]
    events = play(running, chunk(finish="STOP", usageMetadata={"promptTokenCount": 100}))
    assert usage_of(events) == (100, 49, 0, 0)


def test_calls_without_ids_get_ids_of_their_own() -> None:
    calls = finish_of(play(chunk(call(), call()), chunk(finish="STOP"))).parts
    assert len({each.id for each in calls if isinstance(each, ToolCall)}) == 2


def test_a_call_that_is_repeated_is_made_once_and_another_one_with_its_id_too() -> None:
    one = {"functionCall": {"id": "x", "name": "add", "args": {"a": 1}}}
    two = {"functionCall": {"id": "x", "name": "add", "args": {"a": 2}}}
    calls = finish_of(play(chunk(one), chunk(one, two), chunk(finish="STOP"))).parts
    assert [each.arguments for each in calls] == ['{"a": 1}', '{"a": 2}']
    assert calls[0].id == "x" != calls[1].id


@pytest.mark.parametrize(
    ("args", "arguments"),
    [({}, "{}"), ("", "{}"), ('{"a": 1}', '{"a": 1}'), ({"a": "\ud83d\0"}, r'{"a": "�\ufffd"}')],
)
def test_arguments_come_as_an_object_or_as_text(args: Any, arguments: str) -> None:
    [made] = finish_of(play(chunk(call(args=args)), chunk(finish="STOP"))).parts
    assert json.loads(made.arguments) == json.loads(arguments)


@pytest.mark.parametrize("given", [{"name": "now"}, {"name": "now", "args": None}])
def test_a_call_may_have_no_arguments(given: dict[str, Any]) -> None:
    [made] = finish_of(play(chunk({"functionCall": given}), chunk(finish="MAX_TOKENS"))).parts
    assert (made.name, made.arguments) == ("now", "{}")


def test_what_only_the_service_can_read_is_kept_as_it_came() -> None:
    parts = [
        {"executableCode": {"language": "PYTHON", "code": "print(1)"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
        {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
        {"thoughtSignature": SIGNATURE},
        {"text": "", "thoughtSignature": SIGNATURE},
        {"text": "Hm \ud83d", "thought": True, "thoughtSignature": SIGNATURE},
        {"somethingNew": {"a": 1.5}},
    ]
    made = finish_of(play(chunk(*parts), chunk(finish="STOP"))).parts
    assert [json.loads(part.opaque) for part in made] == parts


def test_an_error_in_the_stream_is_told() -> None:
    failed = {
        "error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}
    }
    for before in ([], text("One")):
        error = error_of(play(before, ("", failed), chunk(finish="STOP")))
        assert (error.kind, error.status) == ("overloaded", 503)
        assert error.message == "The model is overloaded."
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}]
    limited = {"code": 429, "message": "Slow.", "status": "RESOURCE_EXHAUSTED", "details": details}
    error = error_of(play(("", {"error": limited})))
    assert (error.kind, error.retry_after) == ("rate_limit", 7.0)


def test_a_json_array_is_read_as_a_stream_is(numbered: None) -> None:
    documents = [data for _, data in REFERENCE]
    whole = play(REFERENCE)
    for body in (json.dumps(documents), json.dumps(documents, indent=2)):
        assert read(GeminiReader(), body.encode()) == whole
    assert finish_of(
        read(GeminiReader(), json.dumps(chunk({"text": "One"}, finish="STOP")[1]).encode())
    )
    assert error_of(read(GeminiReader(), json.dumps(documents[:-1]).encode())).kind == "broken_off"
    failed = json.dumps([{"error": {"code": 500, "message": "no", "status": "INTERNAL"}}])
    assert error_of(read(GeminiReader(), failed.encode())).status == 500
    assert error_of(read(GeminiReader(), b'{"hello": 1}')).kind == "bad_answer"


def test_line_ends_of_unicode_and_the_web_s_line_ends_are_read() -> None:
    separated = json.dumps(
        chunk({"text": "One\u2028two\u2029\x85"}, finish="STOP")[1], ensure_ascii=False
    )
    body = f"data: {separated}\r\n\r\n".encode()
    assert finish_of(read(GeminiReader(), body)).parts == (Text("One\u2028two\u2029\x85"),)


@pytest.mark.parametrize(
    "body", [b"", b": nothing\n\n", b"data: {broken\n\n", b"data: " + b"[" * 100_000 + b"\n\n"]
)
def test_what_is_no_answer_at_all_is_told(body: bytes) -> None:
    assert error_of(read(GeminiReader(), body)).kind == "bad_answer"


def test_a_schema_keeps_what_gemini_understands() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "v": {"const": 3}}}
    schema = {
        "$schema": "x",
        "title": "T",
        "type": "object",
        "additionalProperties": False,
        "required": ["path", "gone"],
        "$defs": {"Node": node, "Mode": {"enum": ["r", "w"], "description": "How."}},
        "properties": {
            "path": {"type": "string", "minLength": 1, "pattern": "^/", "default": "/"},
            "mode": {"$ref": "#/$defs/Mode"},
            "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}], "description": "N."},
            "either": {"oneOf": [{"type": "string"}, {"type": "number", "format": "double"}]},
            "kinds": {"type": ["string", "integer", "null"]},
            "list": {"type": "array"},
            "pair": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}]},
            "free": {"type": "object"},
            "all": {"allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}]},
            "count": {"enum": [1, 2]},
            "node": {"$ref": "#/$defs/Node"},
            "any": {},
            "when": {"type": "string", "format": "date-time"},
        },
    }
    simple = simplify_schema(schema)
    assert simple["required"] == ["path"]
    properties = simple["properties"]
    assert properties["path"] == {
        "type": "string",
        "minLength": 1,
        "description": 'Pattern: "^/". Default: "/".',
    }
    assert properties["mode"] == {"type": "string", "enum": ["r", "w"], "description": "How."}
    assert properties["maybe"] == {"type": "integer", "nullable": True, "description": "N."}
    assert properties["either"] == {
        "anyOf": [{"type": "string"}, {"type": "number", "format": "double"}]
    }
    assert properties["kinds"] == {
        "anyOf": [{"type": "string"}, {"type": "integer"}],
        "nullable": True,
    }
    assert properties["list"]["items"] == {"type": "string"}
    assert properties["pair"]["items"] == {"anyOf": [{"type": "string"}, {"type": "number"}]}
    assert properties["free"]["type"] == "string"
    assert properties["all"]["required"] == ["a"]
    assert properties["count"] == {"type": "integer", "description": "One of: 1, 2."}
    assert properties["node"]["properties"]["v"]["type"] == "integer"
    check_schema(simple)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        {"$ref": "#"},
        {"$ref": "#/$defs/gone"},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"anyOf": [{"properties": {"a": {}}}, {"properties": {"b": True, "c": False}}]},
        {"type": "object", "properties": {str(n): {"$ref": "#"} for n in range(30)}},
        {"properties": {"a": None, "b": 1, "c": {"type": 1}, "d": {"enum": []}}, "required": 1},
        {"properties": {"a": {"type": "array", "items": [{"type": "string"}]}}},
        {"properties": {"a": {"anyOf": [{"anyOf": [{"type": "string"}, {"type": "null"}]}]}}},
    ],
    ids=str,
)
def test_any_schema_becomes_one_that_gemini_understands(schema: dict[str, Any]) -> None:
    simple = simplify_schema(schema)
    assert simple["type"] == "object"
    check_schema(simple)
    assert len(json.dumps(simple)) < 500_000


KNOWN = {"type", "format", "description", "nullable", "enum", "items", "properties", "required"}
KNOWN |= {"minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum", "anyOf"}


def check_schema(schema: dict[str, Any], is_root: bool = True) -> None:
    """What the API itself asks of a schema."""
    assert schema.keys() <= KNOWN
    assert ("type" in schema) != ("anyOf" in schema)
    if schema.get("type") == "object":
        assert schema["properties"] or is_root
        assert set(schema.get("required", ())) <= schema["properties"].keys()
    if schema.get("type") == "array":
        assert schema["items"]
    if "enum" in schema:
        assert schema["type"] == "string" and all(schema["enum"])
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]
    for each in [*inner, *([schema["items"]] if "items" in schema else [])]:
        check_schema(each, is_root=False)


def test_what_no_piece_of_text_tells_of_is_counted() -> None:
    for part in (call(args={"a": "x" * 500}), {"inlineData": {"data": "x" * 500}}):
        reader = GeminiReader()
        read(reader, encode([chunk(part), chunk(finish="STOP")]))
        assert 500 <= reader.call_characters < 600
