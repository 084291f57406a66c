import json
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    Text,
    Thinking,
    ToolCall,
    ToolMessage,
    ToolResult,
    ToolSpec,
    UserMessage,
    dump_checkpoint,
    load_checkpoints,
)
from sessions_app.engine.normalize import NO_OUTPUT, build_request
from tests.harness.strict_server import complaints

# As release 0.1 has written them; `parts` has every kind, `run` is one whole run.
FIRST_RELEASE: dict[str, list[Any]] = json.loads(
    Path(__file__).with_name("checkpoints_0_1.json").read_text()
)

storable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
parts = st.one_of(
    st.builds(Text, storable, storable),
    st.builds(Thinking, storable, storable),
    st.builds(ToolCall, storable, storable, storable, storable),
)
results = st.builds(ToolResult, storable, storable, storable, st.booleans())
messages = st.one_of(
    st.builds(AssistantMessage, st.lists(parts).map(tuple), storable, storable, storable),
    st.builds(ToolMessage, st.lists(results).map(tuple)),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | storable,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["role", "kind", "parts", "results", "type", "part_kind", "id", "content"]
            ),
            inner
            | st.sampled_from(["assistant", "tool", "request", "response", "text", "tool-return"]),
            max_size=4,
        )
    ),
)


def keep(data: Any) -> Any:
    """Return JSON data as PostgreSQL gives it back."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::jsonb", [json.dumps(data)])
        return json.loads(cursor.fetchone()[0])


@given(messages)
def test_any_message_comes_back(message: AssistantMessage | ToolMessage) -> None:
    dumped = json.loads(json.dumps(dump_checkpoint(message)))
    assert load_checkpoints([dumped]) == [message]


@pytest.mark.django_db
def test_opaque_content_comes_back_from_the_database_byte_for_byte() -> None:
    opaque = '{"signature":"a\\u0000b\\ud83d \\u2028", "b" : 1.0e5, "b": 12345678901234567890123}'
    message = AssistantMessage(
        (
            Thinking("", opaque),
            Text("\u2028é\U0001f600", opaque),
            ToolCall("1", "a", opaque, opaque),
        ),
        "provider-x https://x.example/v1",
        "m",
        "tool_calls",
    )
    assert load_checkpoints([keep(dump_checkpoint(message))]) == [message]


@pytest.mark.django_db
def test_a_tools_output_that_the_database_cannot_keep_is_replaced() -> None:
    message = ToolMessage((ToolResult("1", "bash", "a\0b\ud83d", is_error=True),))
    (kept,) = load_checkpoints([keep(dump_checkpoint(message))])
    assert kept == ToolMessage((ToolResult("1", "bash", "a\ufffdb\ufffd", is_error=True),))


@settings(max_examples=200)
@given(st.lists(anything, max_size=3))
def test_any_json_is_read(data: list[Any]) -> None:
    request, _ = build_request(load_checkpoints(data), (), "", ProviderCapabilities(), "x")
    assert complaints(request) == []


def test_what_is_unknown_is_left_out() -> None:
    data = [
        {"role": "director", "parts": []},
        {"engine": "amplifier"},
        "text",
        {"role": "assistant", "parts": [{"type": "image"}, {"type": "text", "text": "a"}, 5]},
    ]
    assert load_checkpoints(data) == [AssistantMessage((Text("a"),))]


# Release 0.1


def test_a_run_of_the_first_release() -> None:
    _, asked, told, asked_more, told_more, *rest = load_checkpoints(FIRST_RELEASE["run"])
    assert asked == AssistantMessage(
        (
            Text("Let me see."),
            ToolCall("call_a", "read_file", '{"pth": 1}'),
            ToolCall("call_b", "missing", '{"x": 1}'),
        )
    )
    assert [(r.call_id, r.is_error) for r in told.results] == [("call_a", True), ("call_b", True)]
    assert "Field required" in told.results[0].content
    assert [call.arguments for call in asked_more.tool_calls] == [
        '{"path": "a"}',
        '{"path":"a"}',
        "{}",
    ]
    assert told_more.results == (
        ToolResult("call_c", "read_file", "text of a"),
        ToolResult("call_d", "stat", '{"size": 3, "name": "ä"}'),
        ToolResult("call_e", "again", "not now", is_error=True),
    )
    assert rest == [
        AssistantMessage(()),
        UserMessage("Please return text or call a tool."),
        AssistantMessage((Text("Done."),)),
    ]


def test_parts_of_the_first_release() -> None:
    loaded = load_checkpoints(FIRST_RELEASE["parts"])
    assert loaded[:2] == [SystemMessage("Be kind."), UserMessage("Read a.txt")]
    # Signatures and thinking were not kept whole.
    assert not any(
        part.opaque or isinstance(part, Thinking)
        for message in loaded
        if isinstance(message, AssistantMessage)
        for part in message.parts
    )
    # A prompt beside a result comes after it.
    place = next(i for i, m in enumerate(loaded) if m == UserMessage("look at"))
    assert loaded[place - 1] == ToolMessage(
        (ToolResult("call_4", "list", "Unknown tool 'list'", is_error=True),)
    )
    told = {r.call_id: r for m in loaded if isinstance(m, ToolMessage) for r in m.results}
    assert {call_id for call_id, r in told.items() if not r.is_error} == {
        "call_1",
        "call_3",
        "call_8",
    }
    # A feedback that belongs to no call is none's result.
    assert UserMessage("Please return text.") in loaded
    assert loaded[-3] == AssistantMessage((Text("Done: \U0001f600\u2028"),))


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["parts", "run", "without_ids"])
def test_the_first_release_can_go_on(name: str) -> None:
    history: list[Message] = load_checkpoints(map(keep, FIRST_RELEASE[name]))
    tools = (ToolSpec("read_file", "", {}),)
    for offered in (tools, ()):
        request, _ = build_request(
            [UserMessage("q"), *history, UserMessage("go on")],
            offered,
            "",
            ProviderCapabilities(),
            "provider-x",
        )
        assert complaints(request, service="provider-x") == []


def test_calls_of_the_first_release_without_ids_get_their_results() -> None:
    history = load_checkpoints(FIRST_RELEASE["without_ids"])
    request, _ = build_request(
        [UserMessage("q"), *history],
        (ToolSpec("read_file", "", {}),),
        "",
        ProviderCapabilities(),
        "",
    )
    assert [(r.name, r.content) for r in request.messages[2].results] == [
        ("read_file", "R"),
        ("list", "L"),
    ]


def test_a_result_of_nothing_is_told_as_no_output() -> None:
    history = load_checkpoints(FIRST_RELEASE["parts"])
    request, _ = build_request(
        history, (ToolSpec("x", "", {}),), "", ProviderCapabilities(), "provider-x"
    )
    contents = [r.content for m in request.messages for r in getattr(m, "results", ())]
    assert NO_OUTPUT in contents and "null" not in contents
