import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amplifierd.common.text import is_blank
from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.messages import (
    AssistantMessage,
    Message,
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
from sessions_app.engine.normalize import (
    BEGINNING,
    CONTINUE,
    INTERRUPTED,
    NO_ANSWER,
    NO_OUTPUT,
    build_request,
)
from tests.harness.strict_server import complaints, is_empty

STRICT = ProviderCapabilities()
LENIENT = ProviderCapabilities(
    strict_roles=False,
    leading_system=False,
    tool_history_without_tools=True,
    call_id_pattern=r"(?s).+",
    tool_name_pattern=r"(?s).+",
    lenient_schemas=True,
)
MISTRAL = replace(STRICT, call_id_pattern="[a-zA-Z0-9]{9}")
SERVICE = "provider-x https://x.example/v1"
READ = ToolSpec("read", "Read a file.", {"type": "object", "properties": {}})


def user(content: str) -> UserMessage:
    return UserMessage(content)


def says(*parts: str | Thinking | ToolCall | Text, service: str = SERVICE) -> AssistantMessage:
    made = (Text(part) if isinstance(part, str) else part for part in parts)
    return AssistantMessage(tuple(made), service)


def call(call_id: str = "c1", name: str = "read", arguments: str = "{}", opaque: str = "") -> Any:
    return ToolCall(call_id, name, arguments, opaque)


def result(call_id: str = "c1", content: str = "ok", name: str = "read") -> ToolResult:
    return ToolResult(call_id, name, content)


def results(*each: ToolResult) -> ToolMessage:
    return ToolMessage(each)


def build(
    *messages: Message,
    tools: tuple[ToolSpec, ...] = (READ,),
    can: ProviderCapabilities = STRICT,
    instructions: str = "Be kind.",
    service: str = SERVICE,
) -> Request:
    request, _ = build_request(messages, tools, instructions, can, service)
    assert complaints(request, can, service) == []
    return request


def schema_of(parameters: Any, can: ProviderCapabilities = STRICT) -> dict[str, Any]:
    request = build(user("hi"), tools=(ToolSpec("t", "", parameters),), can=can)
    assert len(request.tools) == 1
    return request.tools[0].parameters


# Any history, any target

words = st.sampled_from(["", " ", "\u200b", "\ufeff\u2060", "\u3164", "a", "Hé", "x\n", "\u0301"])
texts = words | st.text(max_size=8)
call_ids = st.sampled_from(["", "c1", "c2", "functions.read:0", "functions/read:0", "é", "x" * 80])
tool_names = st.sampled_from(["read", "mcp.read", "mcp_read", "", "λ", "n" * 130, "9", "读取"])
services = st.sampled_from([SERVICE, "other", ""])
opaques = st.sampled_from(["", '{"signature":"abc"}'])
argument_texts = st.sampled_from(
    [
        "{}",
        "",
        "null",
        '{"a": 1',
        "[1]",
        '"{}"',
        '{"a": NaN}',
        '{"a":1e999}',
        "[" * 3000,
        '{"b": 2}',
    ]
) | st.text(max_size=6)
parts = st.one_of(
    st.builds(Text, texts, opaques),
    st.builds(Thinking, texts, opaques),
    st.builds(ToolCall, call_ids, tool_names, argument_texts, opaques),
)
tool_results = st.builds(ToolResult, call_ids, tool_names, texts, st.booleans())
histories = st.lists(
    st.one_of(
        st.builds(UserMessage, texts),
        st.builds(SystemMessage, texts),
        st.builds(
            AssistantMessage,
            st.lists(parts, max_size=5).map(tuple),
            services,
            texts,
            st.just("stop"),
        ),
        st.builds(ToolMessage, st.lists(tool_results, max_size=4).map(tuple)),
    ),
    max_size=12,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
lists_of_types = st.sampled_from([[], ["string", "null"], ["array"], ["object", "null"]])
types = lists_of_types | st.sampled_from(
    ["object", "array", "string", "integer", "null", "any", "int", "", None, 5]
)
references = st.sampled_from(
    ["#", "#/$defs/a", "#/$defs/b", "#/properties/a", "#/items", "http://x/y", "#/$defs/zz", 3]
)


def nested_schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    by_name = st.dictionaries(st.sampled_from(["a", "b", "$ref", "items", "not an id"]), inner)
    many = st.lists(inner, max_size=3)
    required = st.lists(st.sampled_from(["a", "b", "zz", 1, None]), max_size=3) | json_values
    return st.fixed_dictionaries(
        {},
        optional={
            "type": types,
            "properties": by_name | json_values,
            "$defs": by_name,
            "items": inner | many,
            "prefixItems": many,
            "anyOf": many,
            "oneOf": many | json_values,
            "allOf": many,
            "required": required,
            "enum": st.lists(json_values, max_size=3) | json_values,
            "const": json_values,
            "default": json_values,
            "$ref": references,
            "additionalProperties": inner,
            "not": inner,
            "description": json_values,
            "minimum": json_values,
        },
    )


schemas = st.recursive(st.booleans() | json_values, nested_schemas, max_leaves=12)
tools = st.lists(st.builds(ToolSpec, tool_names, texts, schemas), max_size=4)
patterns = st.sampled_from(
    [r"[A-Za-z0-9_-]{1,64}", r"[a-zA-Z0-9]{9}", r"(?s).+", r"[a-z]{1,32}", r"call_[0-9a-f]{24}"]
)
targets = st.builds(
    ProviderCapabilities,
    accepts_tools=st.booleans(),
    strict_roles=st.booleans(),
    leading_system=st.booleans(),
    tool_history_without_tools=st.booleans(),
    trailing_thinking=st.booleans(),
    call_id_pattern=patterns,
    tool_name_pattern=st.sampled_from(
        [r"[A-Za-z0-9_-]{1,64}", r"(?s).+", r"[a-zA-Z_][a-zA-Z0-9_]{0,62}", r"[a-z0-9_]{1,20}"]
    ),
    lenient_schemas=st.booleans(),
)


@settings(max_examples=100, deadline=None)
@given(histories, tools, texts, targets)
def test_any_history_is_taken_by_any_server(
    history: list[Message], offered: list[ToolSpec], instructions: str, can: ProviderCapabilities
) -> None:
    request, names = build_request(history, offered, instructions, can, SERVICE)
    assert complaints(request, can, SERVICE) == []
    assert {names.original(tool.name) for tool in request.tools} <= {tool.name for tool in offered}
    again, _ = build_request(history, offered, instructions, can, SERVICE)
    assert again == request


@settings(max_examples=100, deadline=None)
@given(histories, st.lists(st.builds(UserMessage, st.just("more")), min_size=1, max_size=2))
def test_what_is_visible_in_a_users_words_is_sent(
    history: list[Message], more: list[Message]
) -> None:
    request, _ = build_request([*history, *more], (), "", STRICT, SERVICE)
    sent = "\n".join(m.content for m in request.messages if isinstance(m, UserMessage))
    for message in history:
        if isinstance(message, UserMessage) and not is_empty(message.content):
            assert message.content in sent


@settings(max_examples=100, deadline=None)
@given(histories, histories, targets)
def test_what_is_appended_leaves_the_beginning_as_it_was(
    history: list[Message], more: list[Message], can: ProviderCapabilities
) -> None:
    # A turn that has ended: what follows does not belong to it.
    history = [*history, user("q"), says("a"), user("q2"), says("a2")]
    more = [m for m in more if not isinstance(m, SystemMessage | ToolMessage)]
    before, _ = build_request(history, (READ,), "Be kind.", can, SERVICE)
    after, _ = build_request([*history, user("q3"), *more], (READ,), "Be kind.", can, SERVICE)
    # Without the "Continue." that made it a request.
    kept = before.messages[:-1]
    assert after.messages[: len(kept)] == kept
    assert after.instructions == before.instructions


def test_the_strict_server_does_complain() -> None:
    bad = [
        Request("", ()),
        Request("", (user("a"), user("b"))),
        Request("", (says("a"), user("b"))),
        Request("", (user("a"), SystemMessage("b"), user("c"))),
        Request("", (user("\u200b"),)),
        Request("", (user("a"), says(call()), results(result()))),
        Request("", (user("a"), says(call()), user("b")), (READ,)),
        Request("", (user("a"), results(result())), (READ,)),
        Request("", (user("a"), says(call("a:1")), results(result("a:1"))), (READ,)),
        Request("", (user("a"), says(call(arguments="[")), results(result())), (READ,)),
        Request("", (user("a"), says(call()), results(result()), user("b")), (READ,)),
        Request("", (user("a"), says(Thinking("t"))), (READ,)),
        Request("", (user("a"),), (replace(READ, parameters={"type": "object"}),)),
    ]
    for request in bad:
        assert complaints(request), request


# C1: roles take turns


def test_messages_of_failed_runs_are_one_turn() -> None:
    request = build(user("one"), user("two"), user("three"))
    assert request.messages == (user("one\n\ntwo\n\nthree"),)


def test_a_server_that_takes_them_gets_messages_as_they_are() -> None:
    request = build(user("one"), user("two"), says("a"), says("b"), user("c"), can=LENIENT)
    assert request.messages == (user("one"), user("two"), says("a"), says("b"), user("c"))


def test_answers_that_follow_each_other_are_one_turn() -> None:
    request = build(user("q"), says("a"), says("b", call()), results(result()))
    assert request.messages[1] == says("a\n\nb", call())


def test_thinking_stays_at_the_beginning_of_its_turn() -> None:
    thinking = Thinking("hm", '{"signature":"s"}')
    request = build(user("q"), says("a"), says(thinking, call()), results(result()))
    assert request.messages[1:4] == (says("a"), user(CONTINUE), says(thinking, call()))


def test_a_conversation_that_begins_with_an_answer_gets_a_beginning() -> None:
    assert build(says("Hello!"), user("hi")).messages[0] == user(BEGINNING)


def test_a_run_that_ended_after_its_tools_is_followed_by_an_answer() -> None:
    request = build(user("q"), says(call()), results(result()), says(""), user("and?"))
    assert request.messages[3:] == (says(NO_ANSWER, service=""), user("and?"))


@pytest.mark.parametrize("can", [STRICT, LENIENT])
def test_a_request_ends_with_something_to_answer(can: ProviderCapabilities) -> None:
    assert build(can=can).messages == (user(CONTINUE),)
    assert build(user("q"), says("half"), can=can).messages[-1] == user(CONTINUE)


# C2: system messages


def test_system_messages_join_the_leading_one_in_their_order() -> None:
    request = build(SystemMessage("A"), user("q"), says("a"), SystemMessage("B"), user("r"))
    assert request.instructions == "Be kind.\n\nA\n\nB"
    assert request.messages == (user("q"), says("a"), user("r"))


def test_system_messages_stay_where_the_server_takes_them() -> None:
    request = build(user("q"), says("a"), SystemMessage("B"), user("r"), can=LENIENT)
    assert request.messages == (user("q"), says("a"), SystemMessage("B"), user("r"))


def test_system_messages_do_not_break_turns() -> None:
    can = replace(STRICT, leading_system=False)
    request = build(user("q"), SystemMessage("B"), user("r"), can=can)
    assert request.messages == (SystemMessage("B"), user("q\n\nr"))


def test_system_message_between_a_call_and_its_result_comes_after_them() -> None:
    request = build(
        user("q"), says(call()), SystemMessage("B"), results(result()), says("a"), can=LENIENT
    )
    assert request.messages[1:4] == (says(call()), results(result()), SystemMessage("B"))


# C3: no tool blocks without tools


def test_calls_become_text_if_no_tools_are_offered() -> None:
    made = call(arguments='{"path": "a"}', opaque="{}")
    request = build(
        user("q"),
        says(Thinking("t", "{}"), "Look:", made),
        results(result(content="text of a")),
        says("done"),
        tools=(),
    )
    assert request.messages == (
        user("q"),
        says('Look:\n\n[Call of the tool read with {"path": "a"}]'),
        user("[Result of the tool read]\ntext of a"),
        says("done"),
        user(CONTINUE),
    )


def test_calls_stay_if_the_server_takes_them_without_tools() -> None:
    can = replace(STRICT, tool_history_without_tools=True)
    request = build(user("q"), says(call()), results(result()), tools=(), can=can)
    assert request.messages[1] == says(call())


def test_a_model_without_tools_is_offered_none() -> None:
    can = replace(STRICT, accepts_tools=False)
    request = build(user("q"), says(call()), results(result()), can=can)
    assert request.tools == ()
    assert not any(isinstance(message, ToolMessage) for message in request.messages)


# C4: ids and names


def test_ids_and_names_are_put_into_the_targets_alphabet() -> None:
    messages = (
        user("q"),
        says(call("functions.read:0", "files.read"), call("functions.read:1", "files.read")),
        results(result("functions.read:1", "b"), result("functions.read:0", "a")),
    )
    tools = (ToolSpec("files.read", "", {}), ToolSpec("files_read", "", {}))
    for can in (STRICT, MISTRAL):
        request, names = build_request(messages, tools, "", can, SERVICE)
        assert complaints(request, can) == []
        first, second = request.messages[1].tool_calls
        # In the order of the calls.
        assert [r.content for r in request.messages[2].results] == ["a", "b"]
        assert [r.call_id for r in request.messages[2].results] == [first.id, second.id]
        assert [names.original(tool.name) for tool in request.tools] == ["files.read", "files_read"]
        assert names.original(first.name) == "files.read"
        assert request.tools[1].name == "files_read"


def test_ids_that_match_stay() -> None:
    request = build(user("q"), says(call("toolu_1")), results(result("toolu_1")))
    assert request.messages[1].tool_calls[0].id == "toolu_1"


def test_an_id_of_two_turns_becomes_two() -> None:
    turn = (user("q"), says(call("c1")), results(result("c1", "one")), says("a"))
    later = (user("r"), says(call("c1")), results(result("c1", "two")), says("b"))
    request = build(*turn, *later)
    first, second = (m.tool_calls[0].id for m in request.messages if getattr(m, "tool_calls", ()))
    assert first == "c1" != second
    told = [(r.call_id, r.content) for m in request.messages for r in getattr(m, "results", ())]
    assert told == [("c1", "one"), (second, "two")]


def test_an_id_of_two_calls_in_one_answer_becomes_two() -> None:
    answer = says(call("", "read"), call("", "list"))
    request = build(user("q"), answer, results(result("", "L", "list"), result("", "R")))
    assert [(r.name, r.content) for r in request.messages[2].results] == [
        ("read", "R"),
        ("list", "L"),
    ]


def test_a_made_up_id_does_not_hide_a_real_one() -> None:
    first = build(user("q"), says(call("a:1")), results(result("a:1")))
    taken = first.messages[1].tool_calls[0].id
    request = build(
        user("q"), says(call("a:1"), call(taken)), results(result("a:1", "A"), result(taken, "T"))
    )
    assert [r.content for r in request.messages[2].results] == ["A", "T"]


def test_long_names_are_shortened_and_differ() -> None:
    names = [f"{'server_' * 12}{end}" for end in ("read", "write")]
    tools = tuple(ToolSpec(name, "", {}) for name in names)
    request, given = build_request([user("q")], tools, "", STRICT, SERVICE)
    assert complaints(request) == []
    assert [given.original(tool.name) for tool in request.tools] == names
    assert request.tools[0].name.startswith("server_server_")


def test_a_name_that_the_model_made_up_stays() -> None:
    _, names = build_request([user("q")], (READ,), "", STRICT, SERVICE)
    assert names.original("no_such_tool") == "no_such_tool"


@pytest.mark.parametrize("pattern", ["", "(", "[", "(?P<x>", "x{99999999999}"])
def test_a_pattern_that_is_none_counts_as_the_usual_one(pattern: str) -> None:
    can = replace(STRICT, call_id_pattern=pattern, tool_name_pattern=pattern)
    request, _ = build_request(
        [user("q"), says(call("a:1", "b.c")), results(result("a:1"))], (READ,), "", can, SERVICE
    )
    assert complaints(request) == []


# Calls and results


def test_a_call_without_result_is_told_as_interrupted() -> None:
    request = build(user("q"), says(call("c1"), call("c2")), results(result("c2")), user("r"))
    missing, had = request.messages[2].results
    assert (missing.call_id, missing.content, missing.is_error) == ("c1", INTERRUPTED, True)
    assert had == result("c2")


def test_a_call_at_the_very_end_is_answered() -> None:
    assert build(user("q"), says(call())).messages[-1].results[0].content == INTERRUPTED


def test_a_result_without_call_is_told_as_text() -> None:
    request = build(user("q"), results(result("gone", "rows")), says("a"), user("r"))
    assert request.messages[0] == user("q\n\n[Result of the tool read]\nrows")


def test_the_first_of_two_results_counts() -> None:
    request = build(
        user("q"), says(call()), results(result(content="1"), result(content="2")), says("a")
    )
    assert request.messages[2] == results(result(content="1"))


def test_results_that_came_late_or_apart_follow_their_answer() -> None:
    request = build(
        user("q"),
        says(call("c1"), call("c2")),
        results(result("c2", "two")),
        user("hurry"),
        results(result("c1", "one")),
    )
    assert request.messages[2] == results(result("c1", "one"), result("c2", "two"))


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ('{"a": 1,  "b": "\\u0000"}', '{"a": 1,  "b": "\\u0000"}'),
        ("", "{}"),
        (" \n", "{}"),
        ("null", "{}"),
        ('"{\\"a\\": 1}"', '{"a": 1}'),
        ('{"path": "a', '{"_invalid": "{\\"path\\": \\"a"}'),
        ("[1]", '{"_invalid": "[1]"}'),
        ('{"a": NaN}', '{"_invalid": "{\\"a\\": NaN}"}'),
        ('{"a": 1e999}', '{"_invalid": "{\\"a\\": 1e999}"}'),
        ('{"a": "1e999"}', '{"a": "1e999"}'),
        ('{"a": 1} {"b": 2}', '{"_invalid": "{\\"a\\": 1} {\\"b\\": 2}"}'),
        ('{"a": "\\ud83d"}', '{"_invalid": "{\\"a\\": \\"\\\\ud83d\\"}"}'),
    ],
)
def test_arguments_are_sent_as_an_object(arguments: str, sent: str) -> None:
    request = build(user("q"), says(call(arguments=arguments)), results(result()))
    assert request.messages[1].tool_calls[0].arguments == sent


# C5: blank text


@pytest.mark.parametrize(
    "blank",
    [
        "",
        " \n\t",
        "\u200b",
        "\ufeff",
        "\u2060",
        "\u3164",
        "\u00a0",
        "\u0301",
        "\u200d\ufe0f",
        "\x00",
        "\u2028",
        "\u00ad",
        "\u180e",
        "\U000e0001",
        "\u2800",
        "\u115f",
        " \u200b " * 20,
    ],
)
def test_blank_texts_are_dropped(blank: str) -> None:
    assert is_blank(blank)
    request = build(
        user(blank),
        user("q"),
        says(blank, "a", blank),
        SystemMessage(blank),
        user("r"),
        says(blank, call()),
        results(result(content=blank)),
        says(blank),
        instructions=blank,
    )
    assert request.instructions == ""
    assert request.messages == (
        user("q"),
        says("a"),
        user("r"),
        says(call()),
        results(result(content=NO_OUTPUT)),
    )


@pytest.mark.parametrize(
    "text", ["a", ".", "é", "e\u0301", "日", "🙂", "\u200b!", "\ue000", "0\ufe0f"]
)
def test_what_can_be_seen_is_not_blank(text: str) -> None:
    assert not is_blank(text)
    assert build(user(text)).messages == (user(text),)


# A2 and B10: opaque content


def test_opaque_content_goes_back_byte_for_byte() -> None:
    opaque = '{"signature": "sk-secret\\u0000 \\ud83d"}'
    answer = says(
        Thinking("sk-secret", opaque), Thinking("", opaque), Text("a", opaque), call(opaque=opaque)
    )
    assert build(user("q"), answer, results(result())).messages[1] == answer


@pytest.mark.parametrize("service", ["provider-x https://y.example/v1", "provider-y", ""])
def test_opaque_content_goes_to_no_other_service(service: str) -> None:
    answer = says(Thinking("t", "{}"), Text("a", "{}"), call(opaque="{}"))
    request = build(user("q"), answer, results(result()), service=service)
    assert request.messages[1] == says("a", call())


def test_thinking_after_which_nothing_was_said_is_left_out() -> None:
    thinking = Thinking("t", "{}")
    silent = says(thinking, Text("", "{}"))
    request = build(user("q"), says(thinking), silent, user("r"), says("a", thinking))
    assert request.messages == (user("q\n\nr"), says("a"), user(CONTINUE))
    can = replace(STRICT, trailing_thinking=True)
    assert build(user("q"), says("a", thinking), can=can).messages[1] == says("a", thinking)


# C6: schemas of tools


@pytest.mark.parametrize("bad", [None, "x", 5, [], False, {"type": "string"}, {"type": ["array"]}])
def test_only_the_tool_without_a_usable_schema_is_left_out(bad: Any) -> None:
    tools = [ToolSpec(f"t{n}", "", {} if n != 2 else bad) for n in range(5)]
    request, names = build_request([user("q")], tools, "", STRICT, SERVICE)
    assert [tool.name for tool in request.tools] == ["t0", "t1", "t3", "t4"]
    (note,) = names.notes
    assert note.startswith("The tool t2 is not offered to the model: ")


def test_of_two_tools_with_one_name_the_first_is_offered() -> None:
    other = replace(READ, description="Another.")
    request, names = build_request(
        [user("q")], (READ, other, ToolSpec(" ", "", {})), "", STRICT, ""
    )
    assert request.tools == (READ,)
    assert len(names.notes) == 2


NOTHING = {"type": "object", "properties": {}}
ANY_ITEMS = {"type": ["string", "number", "boolean", "object"]}


@pytest.mark.parametrize(
    "schema", [{}, True, {"properties": {}}, {"type": "object"}, {"type": None}]
)
def test_missing_types_at_the_top(schema: Any) -> None:
    assert schema_of(schema) == NOTHING


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"type": "array"}, {"type": "array", "items": ANY_ITEMS}),
        ({"type": "array", "items": {}}, {"type": "array", "items": ANY_ITEMS}),
        ({"type": "array", "items": True}, {"type": "array", "items": ANY_ITEMS}),
        ({"type": "list"}, {"type": "array", "items": ANY_ITEMS}),
        ({"type": ["array", "null"]}, {"type": ["array", "null"], "items": ANY_ITEMS}),
        (
            {"type": "array", "items": [{"type": "string"}, {"type": "integer"}]},
            {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
        ),
        (
            {"prefixItems": [{"type": "string"}], "items": False},
            {"type": "array", "items": {"type": "string"}},
        ),
        ({"type": ["string", "null"], "default": None}, {"type": ["string", "null"]}),
        ({"type": "str", "description": None}, {"type": "string"}),
        ({"type": "any"}, {}),
        (True, {}),
        ("text", {}),
        ({"enum": []}, {}),
        ({"enum": ["a", "b", "a"]}, {"type": "string", "enum": ["a", "b"]}),
        ({"type": "string", "enum": [1, True, None]}, {"type": "string", "enum": ["1", "true"]}),
        ({"type": "integer", "enum": [1, True]}, {"type": "integer", "enum": [1, True]}),
        ({"type": "string", "required": True}, {"type": "string"}),
        (
            {"properties": {"not an id": {"type": "number"}}, "required": ["x", "not an id"]},
            {
                "type": "object",
                "properties": {"not an id": {"type": "number"}},
                "required": ["not an id"],
            },
        ),
        (
            {"type": "object", "additionalProperties": {"type": "array"}},
            {"type": "object", "additionalProperties": {"type": "array", "items": ANY_ITEMS}},
        ),
        ({"type": "object", "additionalProperties": False},) * 2,
        (
            {"anyOf": [{"type": "string"}, {"type": "array"}]},
            {"anyOf": [{"type": "string"}, {"type": "array", "items": ANY_ITEMS}]},
        ),
        ({"anyOf": []}, {}),
        ({"const": None}, {"type": "null"}),
        ({"type": "number", "default": float("nan")}, {"type": "number"}),
        ({"$ref": "#/$defs/none", "description": "d"}, {"description": "d"}),
    ],
)
def test_properties(given: Any, sent: Any) -> None:
    for can in (STRICT, LENIENT):
        assert schema_of({"properties": {"p": given}}, can)["properties"] == {"p": sent}


def test_a_property_that_must_not_be_there_is_left_out() -> None:
    schema = {"properties": {"a": False, "b": {"type": "string"}}, "required": ["a"]}
    assert schema_of(schema) == {"type": "object", "properties": {"b": {"type": "string"}}}


def test_properties_may_have_the_names_of_keywords() -> None:
    properties = {name: {"type": "string"} for name in ("$ref", "items", "type", "enum", "$id")}
    assert schema_of({"properties": properties})["properties"] == properties


ALTERNATIVES = {
    "type": "object",
    "properties": {"id": {"type": "string"}},
    "required": ["id"],
    "anyOf": [
        {
            "properties": {"kind": {"const": "file"}, "path": {"type": "string"}},
            "required": ["kind", "path"],
        },
        {"properties": {"kind": {"const": "url"}, "url": {"type": "array"}}, "required": ["kind"]},
        {"type": "null"},
    ],
}


def test_alternatives_at_the_top_become_one_object() -> None:
    assert schema_of(ALTERNATIVES) == {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "kind": {"type": "string", "enum": ["file", "url"]},
            "path": {"type": "string"},
            "url": {"type": "array", "items": ANY_ITEMS},
        },
        "required": ["id", "kind"],
    }


def test_what_is_required_of_the_alternatives_properties_stays_required() -> None:
    schema = {"required": ["a", "zz"], "oneOf": [{"properties": {"a": {"type": "string"}}}]}
    assert schema_of(schema)["required"] == ["a"]
    either = {
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    }
    assert "required" not in schema_of(either)


def test_alternatives_stay_at_a_server_that_takes_them() -> None:
    assert len(schema_of(ALTERNATIVES, LENIENT)["anyOf"]) == 3


def test_all_of_at_the_top_is_joined() -> None:
    definitions = {"base": {"properties": {"a": {"type": "string"}}, "required": ["a"]}}
    schema = {
        "allOf": [{"$ref": "#/$defs/base"}, {"properties": {"b": {"type": "integer"}}}],
        "$defs": definitions,
    }
    assert schema_of(schema) == {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
        "required": ["a"],
    }


def test_references_are_put_in_their_place() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "properties": {"p": {"$ref": "#/definitions/a~1b", "description": "mine"}},
        "definitions": {"a/b": {"type": "string", "description": "its"}},
    }
    assert schema_of(schema) == {
        "type": "object",
        "properties": {"p": {"type": "string", "description": "mine"}},
    }
    assert schema_of(schema, LENIENT)["definitions"] == schema["definitions"]


def test_recursive_references_end() -> None:
    node = {
        "type": "object",
        "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
    }
    schema = {"properties": {"root": {"$ref": "#/$defs/node"}}, "$defs": {"node": node}}
    children = schema_of(schema)["properties"]["root"]["properties"]["children"]
    assert children == {"type": "array", "items": {"type": "object"}}


def test_references_that_multiply_are_bounded() -> None:
    definitions = {
        f"d{n}": {"properties": {p: {"$ref": f"#/$defs/d{n + 1}"} for p in "abcdef"}}
        for n in range(30)
    }
    began = time.process_time()
    sent = schema_of({"properties": {"p": {"$ref": "#/$defs/d0"}}, "$defs": definitions})
    assert len(json.dumps(sent)) < 1_000_000
    assert time.process_time() - began < 2


def test_what_is_no_json_is_left_out() -> None:
    loop: dict[str, Any] = {"type": "object"}
    loop["properties"] = {"again": loop, 5: {"default": {1, 2}, "type": "integer"}}
    assert schema_of(loop)["properties"]["5"] == {"type": "integer"}


# Speed


def test_a_long_history_is_fast() -> None:
    turn = [
        user("q"),
        says(Thinking("t", "{}"), "Look:", call("functions.read:0", "files.read", '{"path": "a"}')),
        results(result("functions.read:0", "text")),
        says("done"),
    ]
    messages = turn * 2_500
    seconds = []
    for _ in range(3):
        began = time.process_time()
        request, _ = build_request(messages, (READ,), "", STRICT, SERVICE)
        seconds.append(time.process_time() - began)
    assert len(request.messages) == 10_001
    # 60 ms; a bound that a busy machine keeps, and that what is quadratic does not.
    assert min(seconds) < 0.5
