"""The events of a session's journal, the notices of its stream, and the hints of the feed.

Each is one class: its annotations are the fields of its data, its keywords say the rest. Streams,
the feed, the API's description, the console and the terminal take from here what they know of
events; nothing here needs Django. To add an event, add a class and its line in `EventType`, and
have a service, or an engine, write it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from amplifierd.common.openapi import schema as json_schema
from amplifierd.common.openapi.schema import MOMENT as NOW
from amplifierd.common.openapi.schema import Schema
from sessions_app.states import Choices, FinishReason, Role, SessionStatus

# In examples.
SESSION_ID = "session_019c13a5d0f57d3e9a4cb6e07a1b2c3d"
RUN_ID = "run_019c13a5d0f57d3e9a4cb6e07a1b2c3d"
MESSAGE_ID = "message_019c13a5d0f57d3e9a4cb6e07a1b2c3d"
EPOCH = "3f9c1a7be204"
APPROVAL_ID = "approval_019c13a5d0f57d3e9a4cb6e07a1b2c3d"

Time = Annotated[str, {"format": "date-time"}]
JSON = dict[str, Any]
# Notes a field that is not always there.
OPTIONAL = object()
# Notes a field in snake_case that stays for old clients: docs/lists.md, "Names".
DEPRECATED: JSON = {"deprecated": True}


class Producer(StrEnum):
    """Who may write an event."""

    # An engine, for a run that its attempt holds: only while the run is `running`.
    ENGINE = "engine"
    # A service, together with the change that the event records, in any status that allows it.
    SERVICE = "service"


class Payload:
    """An object of JSON, described by the annotations of its class.

    A note of a field is its description, further words of JSON Schema, or OPTIONAL.
    """

    example: ClassVar[JSON | None] = None

    @classmethod
    def schema(cls) -> Schema:
        hints = get_type_hints(cls, include_extras=True)
        fields = {name: hint for name, hint in hints.items() if get_origin(hint) is not ClassVar}
        optional = [name for name, hint in fields.items() if OPTIONAL in get_args(hint)[1:]]
        return json_schema.record(
            " ".join((cls.__doc__ or "").split()),
            {name: schema_of(hint) for name, hint in fields.items()},
            optional=" ".join(optional),
            example=cls.example,
        )


def schema_of(hint: Any) -> Schema:
    """Return the JSON Schema of a field by its annotation."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        schema = schema_of(args[0])
        for note in args[1:]:
            if isinstance(note, str):
                schema = {**schema, "description": note}
            elif isinstance(note, dict):
                schema = {**schema, **note}
        return schema
    if origin is Literal:
        return json_schema.choice(*args)
    if type(None) in args:
        return json_schema.nullable(schema_of(args[0]))
    if origin is list:
        return json_schema.list_of(schema_of(args[0]))
    if origin is dict:
        return json_schema.free()
    if hint is Any:
        return json_schema.anything()
    if issubclass(hint, Payload):
        return hint.schema()
    if issubclass(hint, Choices):
        return json_schema.choice(*hint.values)
    words = {str: json_schema.text, int: json_schema.whole, float: json_schema.number}
    return words.get(hint, json_schema.flag)()


@dataclass(frozen=True)
class Meta:
    """What is known of an event, a notice or a hint beside its data."""

    # The name that clients see.
    name: str
    producer: Producer = Producer.SERVICE
    # The hint that lists of sessions get, if any; which of its fields repeat a field of the event,
    # by the names in hint and event; and what the event means beyond its data.
    hint: "type[Hint] | None" = None
    hint_fields: Mapping[str, str] = field(default_factory=dict)
    hint_implies: Mapping[str, Any] = field(default_factory=dict)
    # What the console says of a run when this happens.
    label: str = ""
    # Whether it counts as the first output of an attempt.
    is_output: bool = False


class Frame(Payload):
    """The data of a frame of a stream or of the feed."""

    meta: ClassVar[Meta]
    # All frames of a kind, by their names.
    registry: ClassVar[dict[str, Any]]

    def __init_subclass__(cls, *, example: JSON | None = None, **meta: Any) -> None:
        super().__init_subclass__()
        cls.example = example
        if meta:
            cls.meta = Meta(**meta)
            cls.registry[cls.meta.name] = cls


class Hint(Frame):
    """A frame of the feed: which session changed, and a little of what. No journal has it."""

    registry: ClassVar[dict[str, "type[Hint]"]] = {}


class Event(Frame):
    """An entry of the journal: `hint`, `label` and so on are explained in `Meta`."""

    registry: ClassVar[dict[str, "type[Event]"]] = {}


class Notice(Frame):
    """A frame of a stream without an id: no journal has it, and the client's cursor stays."""

    registry: ClassVar[dict[str, "type[Notice]"]] = {}


# Hints. A session's owner and status are never secret to those who get its hints; what was said is.


class FeedConnected(Hint, name="connected"):
    """The first frame; read the list now."""

    timestamp: Time


class FeedKeepalive(Hint, name="keepalive"):
    """Nothing has happened for a while."""

    timestamp: Time


class SessionHint(Hint):
    """A hint about one session."""

    sessionId: str
    lastEventId: Annotated[int, "How far its journal had reached.", OPTIONAL]


class SessionCreatedHint(SessionHint, name="session_created"):
    """A session was made."""

    name: str | None
    profileName: str
    status: SessionStatus
    parentSessionId: str | None


class SessionUpdatedHint(SessionHint, name="session_updated"):
    """A session changed; what is not said is in the list."""

    name: Annotated[str | None, OPTIONAL]
    profileName: Annotated[str, OPTIONAL]
    status: Annotated[SessionStatus, OPTIONAL]
    messageCount: Annotated[int, OPTIONAL]
    isUnread: Annotated[bool, OPTIONAL]
    runId: Annotated[str, "A run that was parked, or whose approval was answered.", OPTIONAL]
    approvalId: Annotated[str, "The approval that was answered.", OPTIONAL]


class SessionDeletedHint(SessionHint, name="session_deleted"):
    """A session is gone."""


class RunStartedHint(SessionHint, name="run_started"):
    """A run began."""

    runId: str


class RunEndedHint(SessionHint, name="run_ended"):
    """A run ended, or an attempt of it."""

    runId: str
    outcome: Annotated[Literal["succeeded", "failed", "cancelled", "interrupted"], OPTIONAL]


class ApprovalRequiredHint(SessionHint, name="approval_required"):
    """A tool call waits for a person."""

    approvalId: str


# Events of the session and its transcript.


class SessionStarted(
    Event, name="session_started", hint=SessionUpdatedHint, hint_fields={"status": "status"}
):
    """The session is active."""

    status: Literal["active"]
    timestamp: Time


class SessionUpdated(
    Event,
    name="session_updated",
    hint=SessionUpdatedHint,
    hint_fields={"name": "name", "profileName": "profileName"},
    example={"name": "Capitals"},
):
    """What changed, and its value now."""

    name: Annotated[str | None, OPTIONAL]
    metadata: Annotated[JSON, OPTIONAL]
    profileName: Annotated[str, OPTIONAL]


class SessionEnded(
    Event, name="session_ended", hint=SessionUpdatedHint, hint_fields={"status": "status"}
):
    """The session has ended; the stream closes."""

    status: Literal["completed", "failed", "terminated"]
    timestamp: Time
    errorMessage: str | None
    errorDetails: JSON | None


class MessageData(Event):
    """The message that an event announces."""

    role: Role
    content: str
    timestamp: Time
    messageId: str
    seq: Annotated[int, "Its place in the transcript."]


MESSAGE_EXAMPLE: JSON = {
    "role": "user",
    "content": "What is the capital of France?",
    "timestamp": NOW,
    "messageId": MESSAGE_ID,
    "seq": 1,
}


class MessageAdded(
    MessageData, name="message_added", hint=SessionUpdatedHint, example=MESSAGE_EXAMPLE
):
    """A message was added, which is not executed."""


class UserMessageSaved(
    MessageData,
    name="user_message_saved",
    hint=SessionUpdatedHint,
    example=MESSAGE_EXAMPLE | {"runId": RUN_ID},
):
    """A message was accepted for execution."""

    runId: str


# Events of a run.


class AttemptData(Event):
    """What happens to an attempt of a run."""

    timestamp: Time
    runId: str
    attempt: int


class AssistantMessageStart(
    AttemptData,
    name="assistant_message_start",
    hint=RunStartedHint,
    hint_fields={"runId": "runId"},
    label="began",
):
    """An attempt of a run begins."""


class Content(
    Event,
    name="content",
    producer=Producer.ENGINE,
    is_output=True,
    example={"type": "content", "content": "Paris", "runId": RUN_ID},
):
    """A few tokens, joined over some 20 ms."""

    type: Literal["content"]
    content: str
    runId: str


class ThinkingPiece(Payload):
    """The piece."""

    delta: str


class ThinkingDelta(Event, name="hook:thinking:delta", producer=Producer.ENGINE, is_output=True):
    """A piece of what the model thinks."""

    hook_data: ThinkingPiece
    runId: Annotated[str, OPTIONAL]


class ToolCall(Payload):
    """The call, as old clients read it; an execution trace has the same in camelCase."""

    tool_name: Annotated[str, DEPRECATED]
    tool_input: Annotated[Any, DEPRECATED]
    tool_call_id: Annotated[str, DEPRECATED]
    tool_response: Annotated[Any, DEPRECATED, OPTIONAL]
    error: Annotated[str | None, OPTIONAL]
    result: Annotated[
        Any, "In `hook:tool:post`: what came of it, `tool_response` or `error`.", OPTIONAL
    ]
    is_error: Annotated[
        bool, "In `hook:tool:post`: whether `result` is the error.", DEPRECATED, OPTIONAL
    ]


class ToolData(Event):
    """A call of a tool."""

    hook_event: str
    hook_data: ToolCall
    runId: str


TOOL_EXAMPLE: JSON = {
    "tool_name": "read_file",
    "tool_input": {"path": "a"},
    "tool_call_id": "call_1",
}


class ToolPre(
    ToolData,
    name="hook:tool:pre",
    producer=Producer.ENGINE,
    example={"hook_event": "tool:pre", "hook_data": TOOL_EXAMPLE, "runId": RUN_ID},
):
    """A tool is about to be called."""


class ToolPost(
    ToolData,
    name="hook:tool:post",
    producer=Producer.ENGINE,
    example={
        "hook_event": "tool:post",
        "hook_data": TOOL_EXAMPLE | {"tool_response": "…"},
        "runId": RUN_ID,
    },
):
    """A tool has answered, or failed."""


ExpiresAt = Annotated[Time, "When it counts as a denial.", OPTIONAL]
CALL_EXAMPLE: JSON = {
    "runId": RUN_ID,
    "approval_id": APPROVAL_ID,
    "tool_call_id": "call_1",
    "tool_name": "write_file",
    "tool_input": {"path": "notes.md", "content": "Paris."},
}


class ApprovalRequired(
    Event,
    name="hook:approval:required",
    hint=ApprovalRequiredHint,
    hint_fields={"approvalId": "approval_id"},
    example=CALL_EXAMPLE
    | {
        "prompt": "Allow write_file? notes.md, 1 line, 6 bytes",
        "options": ["approve", "deny", "always"],
        "timeout": 2_592_000,
        "expiresAt": NOW,
    },
):
    """A tool call waits for a person; `run_parked` follows."""

    approval_id: str
    tool_call_id: str
    tool_name: str
    tool_input: Any
    prompt: Annotated[str, "The question, and what would be done: shortened, on one line."]
    options: list[str]
    timeout: Annotated[float | None, "Seconds until it counts as a denial."]
    # Events that were written before it existed have none.
    expiresAt: ExpiresAt
    runId: str


class ApprovalResolved(
    Event,
    name="approval_resolved",
    hint=SessionUpdatedHint,
    hint_fields={"runId": "runId", "approvalId": "approval_id"},
    example={
        "timestamp": NOW,
        "runId": RUN_ID,
        "approval_id": APPROVAL_ID,
        "tool_name": "write_file",
        "status": "denied",
        "always": False,
        "reason": "Write it to notes.md instead.",
    },
):
    """An approval is answered, has expired, or was withdrawn with its run."""

    timestamp: Time
    runId: str
    approval_id: str
    tool_name: str
    status: Literal["approved", "denied", "expired", "withdrawn"]
    always: Annotated[
        bool, "The tool, as long as it stays as it is, is not asked about again in this session."
    ]
    reason: Annotated[str | None, "As the model is told."]


class PendingCall(Payload):
    """A call that waits: for a person (`approval_id`), or for a sub-session (`session_id`)."""

    runId: str
    tool_call_id: str
    tool_name: str
    approval_id: Annotated[str, OPTIONAL]
    tool_input: Annotated[Any, OPTIONAL]
    timeout: Annotated[float, "Seconds until it counts as a denial.", OPTIONAL]
    expiresAt: ExpiresAt
    session_id: Annotated[str | None, "null: there is no sub-session, `error` says why.", OPTIONAL]
    error: Annotated[str | None, OPTIONAL]


class RunParked(
    AttemptData,
    name="run_parked",
    hint=SessionUpdatedHint,
    hint_fields={"runId": "runId"},
    label="was parked: no worker held it",
    example={"timestamp": NOW, "runId": RUN_ID, "attempt": 1, "waits": [CALL_EXAMPLE]},
):
    """The run waits for what its calls of tools need; no worker holds it."""

    waits: Annotated[list[PendingCall], "One for each call that waits."]


class RunResumed(
    AttemptData,
    name="run_resumed",
    hint=RunStartedHint,
    hint_fields={"runId": "runId"},
    label="went on where the one before was parked",
    example={"timestamp": NOW, "runId": RUN_ID, "attempt": 2},
):
    """All that the run waited for is there: it goes on where it stopped, nothing is void."""


class ContextCompacted(
    Event,
    name="context_compacted",
    example={
        "timestamp": NOW,
        "runId": RUN_ID,
        "upto": 40,
        "summary": "The user asks for the capitals of Europe.",
    },
):
    """A summary stands for older messages from now on, as the model's context is too small
    for them; the transcript stays as it is."""

    timestamp: Time
    runId: str
    upto: Annotated[int, "The seq of the last message that it stands for."]
    summary: str


class AssistantMessageComplete(
    MessageData,
    name="assistant_message_complete",
    hint=RunEndedHint,
    hint_fields={"runId": "runId", "outcome": "outcome"},
    hint_implies={"outcome": "succeeded"},
    example=MESSAGE_EXAMPLE
    | {
        "role": "assistant",
        "content": "Paris.",
        "runId": RUN_ID,
        "usage": {},
        "finishReason": "stop",
    },
):
    """The run has ended; with `outcome` where it did not succeed."""

    messageId: Annotated[str | None, "null: nothing was said."]  # type: ignore[assignment]
    seq: Annotated[int, "Its place in the transcript.", OPTIONAL]
    runId: str
    usage: Annotated[JSON, "Tokens."]
    finishReason: Annotated[
        FinishReason | None,
        "Why the answer ended: anything but `stop` means that it is not whole."
        " null: no run has said it (yet).",
        OPTIONAL,
    ]
    outcome: Annotated[Literal["failed", "cancelled"], OPTIONAL]


class ExecutionError(Event, name="execution_error"):
    """The run failed; `assistant_message_complete` follows with what had been said."""

    timestamp: Time
    error: str
    code: str
    runId: str


class ExecutionCancelled(Event, name="execution_cancelled"):
    """The run was cancelled; `assistant_message_complete` follows."""

    timestamp: Time
    runId: str


class RunInterrupted(
    AttemptData,
    name="run_interrupted",
    hint=RunEndedHint,
    hint_fields={"runId": "runId"},
    hint_implies={"outcome": "interrupted"},
    label="was interrupted: what it said is void",
):
    """A worker died: what the run said since its last `assistant_message_start` is void,
    the next attempt follows."""


class ProviderRetry(Event, name="provider_retry", producer=Producer.ENGINE):
    """A provider refused for the moment; it is asked again."""

    attempt: Annotated[int, "Of the retries."]
    delay: Annotated[float, "Seconds until then."]
    error: str
    provider: str
    status: Annotated[int, "What it answered with.", OPTIONAL]
    runId: str


class RunNotice(
    Event,
    name="run_notice",
    producer=Producer.ENGINE,
    example={
        "runId": RUN_ID,
        "code": "tools_left_out",
        "message": "The MCP server search does not answer; its tools are left out.",
    },
):
    """Something that people should know of the run, which goes on."""

    runId: str
    code: Annotated[str, "For programs, such as `tools_left_out`."]
    message: Annotated[str, "For people."]


class ProviderFallback(
    Event,
    name="provider_fallback",
    producer=Producer.ENGINE,
    example={
        "provider": "provider-openai",
        "next": "provider-anthropic",
        "error": "The provider answered 503.",
        "code": "provider_error",
        "runId": RUN_ID,
    },
):
    """A provider failed; the next one of the profile is asked instead."""

    provider: Annotated[str, "The one that failed."]
    next: Annotated[str, "The one that is asked now."]
    error: str
    code: Annotated[str, "As in `execution_error`."]
    runId: str


# Notices.


class Connected(
    Notice,
    name="connected",
    example={"session_id": SESSION_ID, "timestamp": NOW, "lastEventId": 7, "epoch": EPOCH},
):
    """The first frame of a stream."""

    session_id: str
    timestamp: Time
    lastEventId: int
    epoch: Annotated[str, "That of the journals; send it beside the cursor."]


class Keepalive(Notice, name="keepalive"):
    """Nothing has happened for a while; with an id it is a client's first cursor."""

    timestamp: Time


class JournalReset(
    Notice,
    name="journal_reset",
    example={
        "session_id": SESSION_ID,
        "timestamp": NOW,
        "epoch": EPOCH,
        "lastEventId": 5,
        "detail": "The database was set back, and events that you have may be lost: reload the"
        " session.",
    },
):
    """The database was set back (a failover that lost transactions, a restore): the client's events
    and its cursor may be of a history that is lost. Reload the session; the stream closes."""

    session_id: str
    timestamp: Time
    epoch: Annotated[str, "The new one."]
    lastEventId: Annotated[int | None, "Where the journal ends now; null: it is not there."]
    detail: Annotated[str, "For people."]


class EventType(Choices):
    """The names of the events, for code."""

    SESSION_STARTED = SessionStarted.meta.name
    SESSION_UPDATED = SessionUpdated.meta.name
    SESSION_ENDED = SessionEnded.meta.name
    MESSAGE_ADDED = MessageAdded.meta.name
    USER_MESSAGE_SAVED = UserMessageSaved.meta.name
    ASSISTANT_MESSAGE_START = AssistantMessageStart.meta.name
    CONTENT = Content.meta.name
    THINKING_DELTA = ThinkingDelta.meta.name
    TOOL_PRE = ToolPre.meta.name
    TOOL_POST = ToolPost.meta.name
    ASSISTANT_MESSAGE_COMPLETE = AssistantMessageComplete.meta.name
    EXECUTION_ERROR = ExecutionError.meta.name
    EXECUTION_CANCELLED = ExecutionCancelled.meta.name
    RUN_INTERRUPTED = RunInterrupted.meta.name
    PROVIDER_RETRY = ProviderRetry.meta.name
    PROVIDER_FALLBACK = ProviderFallback.meta.name
    APPROVAL_REQUIRED = ApprovalRequired.meta.name
    APPROVAL_RESOLVED = ApprovalResolved.meta.name
    RUN_PARKED = RunParked.meta.name
    RUN_RESUMED = RunResumed.meta.name
    CONTEXT_COMPACTED = ContextCompacted.meta.name
    RUN_NOTICE = RunNotice.meta.name
