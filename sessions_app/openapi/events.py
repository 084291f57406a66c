"""The events of a session's journal, and the frames of its stream, each with its data."""

from amplifierd.common.openapi.schema import (
    MOMENT,
    Schema,
    anything,
    choice,
    flag,
    free,
    listed,
    nullable,
    number,
    record,
    ref,
    text,
    time,
    whole,
)
from sessions_app.api.serializers import FINISH_REASON
from sessions_app.models.message import Role
from sessions_app.openapi.waits import WAITS
from sessions_app.states import SessionStatus

SESSION_ID = "session_019c13a5d0f57d3e9a4cb6e07a1b2c3d"
RUN_ID = "run_019c13a5d0f57d3e9a4cb6e07a1b2c3d"
_said = {
    "role": choice(*Role.values),
    "content": text(),
    "timestamp": time(),
    "messageId": text(),
    "seq": whole("Its place in the transcript."),
}
_said_example = {
    "role": "user",
    "content": "What is the capital of France?",
    "timestamp": MOMENT,
    "messageId": "message_019c13a5d0f57d3e9a4cb6e07a1b2c3d",
    "seq": 1,
}
_tool = {
    "hook_event": text(),
    "hook_data": record(
        "The call.",
        {
            "tool_name": text(),
            "tool_input": anything(),
            "tool_call_id": text(),
            "tool_response": anything(),
            "error": nullable(text()),
            "result": anything("In `hook:tool:post`: what came of it, `tool_response` or `error`."),
            "is_error": flag("In `hook:tool:post`: whether `result` is the error."),
        },
        optional="tool_response error result is_error",
    ),
    "runId": text(),
}
_tool_example = {
    "hook_event": "tool:pre",
    "hook_data": {"tool_name": "read_file", "tool_input": {"path": "a"}, "tool_call_id": "call_1"},
    "runId": RUN_ID,
}
# Event → its data, by the names that clients see.
JOURNALLED: dict[str, Schema] = {
    "session_started": record(
        "The session is active.", {"status": choice("active"), "timestamp": time()}
    ),
    "session_updated": record(
        "What changed, and its value now.",
        {"name": nullable(text()), "metadata": free(), "profileName": text()},
        optional="name metadata profileName",
        example={"name": "Capitals"},
    ),
    "session_ended": record(
        "The session has ended; the stream closes.",
        {
            "status": choice("completed", "failed", "terminated"),
            "timestamp": time(),
            "errorMessage": nullable(text()),
            "errorDetails": nullable(free()),
        },
    ),
    "message_added": record(
        "A message was added, which is not executed.", _said, example=_said_example
    ),
    "user_message_saved": record(
        "A message was accepted for execution.",
        _said | {"runId": text()},
        example=_said_example | {"runId": RUN_ID},
    ),
    "assistant_message_start": record(
        "An attempt of a run begins.", {"timestamp": time(), "runId": text(), "attempt": whole()}
    ),
    "content": record(
        "A few tokens, joined over some 20 ms.",
        {"type": choice("content"), "content": text(), "runId": text()},
        example={"type": "content", "content": "Paris", "runId": RUN_ID},
    ),
    "hook:thinking:delta": record(
        "A piece of what the model thinks.",
        {"hook_data": record("The piece.", {"delta": text()}), "runId": text()},
        optional="runId",
    ),
    "hook:tool:pre": record("A tool is about to be called.", _tool, example=_tool_example),
    "hook:tool:post": record(
        "A tool has answered, or failed.",
        _tool,
        example=_tool_example
        | {
            "hook_event": "tool:post",
            "hook_data": _tool_example["hook_data"] | {"tool_response": "…"},
        },
    ),
    **WAITS,
    "assistant_message_complete": record(
        "The run has ended; with `outcome` where it did not succeed.",
        _said
        | {
            "messageId": nullable(text("null: nothing was said.")),
            "runId": text(),
            "usage": free("Tokens."),
            "finishReason": FINISH_REASON,
            "outcome": choice("failed", "cancelled"),
        },
        optional="outcome seq finishReason",
        example=_said_example
        | {
            "role": "assistant",
            "content": "Paris.",
            "runId": RUN_ID,
            "usage": {},
            "finishReason": "stop",
        },
    ),
    "execution_error": record(
        "The run failed; `assistant_message_complete` follows with what had been said.",
        {"timestamp": time(), "error": text(), "code": text(), "runId": text()},
    ),
    "execution_cancelled": record(
        "The run was cancelled; `assistant_message_complete` follows.",
        {"timestamp": time(), "runId": text()},
    ),
    "run_interrupted": record(
        "A worker died: what the run said since its last `assistant_message_start` is void,"
        " the next attempt follows.",
        {"timestamp": time(), "runId": text(), "attempt": whole()},
    ),
    "provider_retry": record(
        "A provider refused for the moment; it is asked again.",
        {
            "attempt": whole("Of the retries."),
            "delay": number("Seconds until then."),
            "error": text(),
            "provider": text(),
            "status": whole("What it answered with."),
            "runId": text(),
        },
        optional="status",
    ),
    "run_notice": record(
        "Something that people should know of the run, which goes on.",
        {
            "runId": text(),
            "code": text("For programs, such as `tools_left_out`."),
            "message": text("For people."),
        },
        example={
            "runId": RUN_ID,
            "code": "tools_left_out",
            "message": "The MCP server search does not answer; its tools are left out.",
        },
    ),
    "provider_fallback": record(
        "A provider failed; the next one of the profile is asked instead.",
        {
            "provider": text("The one that failed."),
            "next": text("The one that is asked now."),
            "error": text(),
            "code": text("As in `execution_error`."),
            "runId": text(),
        },
        example={
            "provider": "provider-openai",
            "next": "provider-anthropic",
            "error": "The provider answered 503.",
            "code": "provider_error",
            "runId": RUN_ID,
        },
    ),
}
# Frames without an id: they are no events, and the client's cursor stays.
NOTICES: dict[str, Schema] = {
    "connected": record(
        "The first frame of a stream.",
        {"session_id": text(), "timestamp": time(), "lastEventId": whole()},
        example={"session_id": SESSION_ID, "timestamp": MOMENT, "lastEventId": 7},
    ),
    "keepalive": record(
        "Nothing has happened for a while; with an id it is a client's first cursor.",
        {"timestamp": time()},
    ),
}
_hint = {"sessionId": text(), "lastEventId": whole("How far its journal had reached.")}
_name = {"name": nullable(text()), "profileName": text(), "status": choice(*SessionStatus.values)}
# Frames of the feed of all sessions.
HINTS: dict[str, Schema] = {
    "connected": record("The first frame; read the list now.", {"timestamp": time()}),
    "keepalive": record("Nothing has happened for a while.", {"timestamp": time()}),
    "session_created": record(
        "A session was made.",
        _hint | _name | {"parentSessionId": nullable(text())},
        optional="lastEventId",
    ),
    "session_updated": record(
        "A session changed; what is not said is in the list.",
        _hint
        | _name
        | {
            "messageCount": whole(),
            "isUnread": flag(),
            "runId": text("A run that was parked, or whose approval was answered."),
            "approvalId": text("The approval that was answered."),
        },
        optional="lastEventId name profileName status messageCount isUnread runId approvalId",
    ),
    "session_deleted": record("A session is gone.", _hint, optional="lastEventId"),
    "run_started": record("A run began.", _hint | {"runId": text()}, optional="lastEventId"),
    "run_ended": record(
        "A run ended, or an attempt of it.",
        _hint
        | {
            "runId": text(),
            "outcome": choice("succeeded", "failed", "cancelled", "interrupted"),
        },
        optional="lastEventId outcome",
    ),
    "approval_required": record(
        "A tool call waits for a person.",
        _hint | {"approvalId": text()},
        optional="lastEventId",
    ),
}


def title(name: str) -> str:
    """Return an event's name as that of a component: `hook:tool:pre` is HookToolPre."""
    return "".join(word.capitalize() for word in name.replace(":", "_").split("_"))


def _event(name: str) -> Schema:
    return record(
        f"`{name}` in the journal.",
        {
            "id": whole("1..n in its session."),
            "event": {"type": "string", "const": name},
            "data": ref(f"{title(name)}Data"),
            "createdAt": time(),
        },
    )


def _choice_of(names: list[str], description: str, suffix: str) -> Schema:
    found = {name: f"#/components/schemas/{title(name)}{suffix}" for name in names}
    return {
        "description": description,
        "oneOf": [{"$ref": place} for place in found.values()],
    } | ({"discriminator": {"propertyName": "event", "mapping": found}} if suffix else {})


COMPONENTS: dict[str, Schema] = {
    **{f"{title(name)}Data": schema for name, schema in JOURNALLED.items()},
    **{f"{title(name)}Event": _event(name) for name in JOURNALLED},
    **{f"{title(name)}Data": schema for name, schema in NOTICES.items()},
    **{f"{title(name)}Hint": schema for name, schema in HINTS.items()},
    "TreeEvents": record(
        "A page of the journals of a session and all below it, oldest first.",
        {
            "events": listed(ref("TreeEvent")),
            "total": whole("Events of all of them."),
            "hasMore": flag("Whether there are more after these."),
        },
    ),
    "TreeEvent": record(
        "An event of a session of a tree.",
        {"event": text(), "ts": time(), "data": free(), "session_id": text()},
        example={
            "event": "content",
            "ts": MOMENT,
            "data": {"type": "content", "content": "Paris", "runId": RUN_ID},
            "session_id": SESSION_ID,
        },
    ),
    "Event": _choice_of(list(JOURNALLED), "An entry of a session's journal.", "Event"),
}
EVENTS = ref("Event")


def frames(tables: list[tuple[dict[str, Schema], str]], example: Schema) -> Schema:
    """Return the schema of one frame of a stream; its data is JSON, described by its event."""
    datas = {name: ref(f"{title(name)}{suffix}") for table, suffix in tables for name in table}
    frame = record(
        "One frame of a stream of server-sent events.",
        {
            "id": text("The number of an event in the journal: the cursor to come back with."),
            "event": choice(*datas, description="What `data` is, as x-events says."),
            "data": text("One line of JSON.", contentMediaType="application/json"),
        },
        optional="id",
        example=example,
    )
    return frame | {"x-events": datas}


STREAM = frames(
    [(NOTICES, "Data"), (JOURNALLED, "Data")],
    {
        "id": "8",
        "event": "content",
        "data": f'{{"type": "content", "content": "Paris", "runId": "{RUN_ID}"}}',
    },
)
TREE = frames(
    [(NOTICES, "Data"), (JOURNALLED, "Data")],
    {
        "event": "content",
        "data": f'{{"event": "content", "ts": "{MOMENT}", "data": {{"content": "Paris"}},'
        f' "session_id": "{SESSION_ID}", "seq": 8}}',
    },
)
FEED = frames(
    [(HINTS, "Hint")],
    {
        "event": "session_updated",
        "data": f'{{"sessionId": "{SESSION_ID}", "status": "active"}}',
    },
)
