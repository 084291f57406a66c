"""What the API of sessions answers, and which bodies it takes."""

from typing import Any

from django.conf import settings
from rest_framework import serializers

from amplifierd.common.openapi.schema import (
    MOMENT,
    Schema,
    anything,
    by_name,
    choice,
    deprecate,
    flag,
    free,
    list_of,
    nullable,
    number,
    ref,
    text,
    time,
    whole,
)
from amplifierd.common.serializers import (
    Body,
    Choice,
    Flag,
    Member,
    Number,
    Object,
    OutputSerializer,
    Text,
)
from amplifierd.common.text import is_blank, suggest
from sessions_app import events
from sessions_app.models import Message, Run
from sessions_app.services import sessions
from sessions_app.services.runs import Strategy
from sessions_app.states import (
    APPROVAL_STATUSES,
    RUN_UNDER_WAY,
    Answer,
    FinishReason,
    Role,
    RunStatus,
    SessionStatus,
)
from sessions_app.traces import count_seconds

SESSION_ID = text(example=events.SESSION_ID)
RUN_ID = text(example=events.RUN_ID)
MESSAGE_ID = text(example=events.MESSAGE_ID)
APPROVAL_ID = text(example=events.APPROVAL_ID)
USAGE = free(
    "`input_tokens`, `output_tokens`, `cached_tokens`, `reasoning_tokens`, `requests`, and `cost`"
    " in US dollars; what nobody knows is left out.",
    example={"input_tokens": 30, "output_tokens": 12, "requests": 1, "cost": 0.000012},
)
FINISH_REASON = nullable(
    choice(
        *FinishReason.values,
        description="Why the answer ended: anything but `stop` means that it is not whole."
        " null: no run has said it (yet).",
    )
)
ACTIVE_RUN = "(SELECT id FROM sessions_app_run WHERE session_id = {{row}}.id AND status IN ({}))"


class SessionSerializer(OutputSerializer):
    """One conversation with an explicit life."""

    sessionId = Member(SESSION_ID, "id")
    name = nullable(text(example="Capitals"))
    parentSessionId = Member(nullable(text()), "parent_id")
    amplifiedDir = text("Below the root directory; `.` is the root.", example=".")
    profileName = text("`collection/name`", example="foundation/base")
    status = choice(*SessionStatus.values, example="active")
    createdAt = time()
    startedAt = nullable(time())
    endedAt = nullable(time(example=None))
    duration = Member(
        nullable(number("Seconds since its start, up to its end.", example=12.5)),
        column="extract(epoch FROM coalesce({row}.ended_at, statement_timestamp())"
        " - {row}.started_at)::float8",
    )
    messageCount = whole(example=2)
    agentInvocations = whole()
    tokenUsage = whole("Tokens in and out.", example=42)
    usage = USAGE
    errorMessage = nullable(text())
    errorDetails = nullable(free())
    metadata = free("What clients keep with it.")
    mountPlanPath = Member(
        text("URL of its mount plan.", example=f"/api/v1/sessions/{events.SESSION_ID}/mount-plan"),
        lambda session: f"{settings.PREFIX}/api/v1/sessions/{session.id}/mount-plan",
        f"'{settings.PREFIX}/api/v1/sessions/' || {{row}}.id || '/mount-plan'",
    )
    # A session that was not read with `with_active_run()` has none.
    activeRunId = Member(
        nullable(text("The run that is running, or parked.")),
        lambda session: getattr(session, "active_run_id", None),
        ACTIVE_RUN.format(", ".join(f"'{status}'" for status in RUN_UNDER_WAY)),
    )
    lastEventId = Member(whole("The newest event of its journal.", example=7), "last_event_seq")
    isUnread = Member(
        flag(), column="{row}.last_read_at IS NULL OR {row}.updated_at > {row}.last_read_at"
    )
    lastReadAt = nullable(time(example=None))


class MatchSerializer(OutputSerializer):
    """Where a session fits a search best."""

    seq = nullable(whole("The message; null: it is the name that fits."))
    messageId = nullable(text())
    snippet = nullable(text("Words that were found are between ⟦ and ⟧."))
    rank = Member(number("The greater the better."), lambda hit: round(hit.rank, 6))


class ListedSessionSerializer(SessionSerializer, optional="match"):
    """A session in a list; with `q` it says where it fits."""

    match = ref(MatchSerializer)


class ReadMarkSerializer(OutputSerializer):
    """Whether somebody has read the session."""

    status = choice("read", "unread")
    session_id = Member(deprecate(SESSION_ID, "`sessionId`"), "id")
    sessionId = Member(SESSION_ID, "id")
    isUnread = flag()
    lastReadAt = nullable(time())


class UnreadCountsSerializer(OutputSerializer):
    """Number of unread sessions by amplified directory."""

    @classmethod
    def schema(cls) -> Schema:
        return by_name(whole(), cls.__doc__ or "", example={".": 3})


class CleanedUpSerializer(OutputSerializer):
    """How many sessions were removed, or would be."""

    removed_count = deprecate(whole(example=3), "`removedCount`")
    removedCount = whole(example=3)
    dryRun = flag(example=False)


class MessageSerializer(OutputSerializer):
    """One line of a transcript."""

    messageId = Member(MESSAGE_ID, "id")
    seq = whole("1..n in its session.")
    role = choice(*Role.values)
    content = text(example="What is the capital of France?")
    timestamp = Member(time(), "created_at")
    agent = nullable(text())
    tokenCount = nullable(whole())
    runId = nullable(text("The run that it answers or belongs to."))
    finishReason = FINISH_REASON
    metadata = free()


class MessagesSerializer(OutputSerializer):
    """Messages of a session."""

    sessionId = SESSION_ID
    messages = list_of(ref(MessageSerializer))


class AcceptedSerializer(OutputSerializer):
    """The message is accepted: there will be one outcome in the journal, whatever dies."""

    status = choice("executing")
    session_id = deprecate(SESSION_ID, "`sessionId`")
    sessionId = SESSION_ID
    runId = Member(RUN_ID, "id")
    messageId = MESSAGE_ID
    lastEventId = whole("Follow the stream from here.", example=2)


class RunSerializer(OutputSerializer):
    """One execution of one message."""

    runId = Member(RUN_ID, "id")
    sessionId = SESSION_ID
    messageId = MESSAGE_ID
    status = choice(
        *RunStatus.values,
        description="`parked`: it waits for a person or a sub-session.",
        example="succeeded",
    )
    attempt = whole()
    interruptions = whole("Attempts that were broken off, as their workers died.", example=0)
    worker = Member(nullable(text(example="worker-1")), lambda run: run.worker or None)
    createdAt = time()
    startedAt = nullable(time())
    endedAt = nullable(time())
    leaseExpiresAt = nullable(time(example=None))
    usage = USAGE
    finishReason = FINISH_REASON
    errorCode = Member(nullable(text()), lambda run: run.error_code or None)
    error = Member(nullable(text()), lambda run: run.error or None)


class OutcomeSerializer(OutputSerializer):
    """A run that has ended, and what it has said."""

    run = Member(ref(RunSerializer), RunSerializer.serialize)
    message = Member(
        nullable(ref(MessageSerializer)),
        lambda run: (answer := find_answer(run)) and MessageSerializer.serialize(answer),
    )


class TraceStepSerializer(
    OutputSerializer,
    optional="content toolCallId name input result error sessionId",
    example={
        "type": "tool",
        "attempt": 1,
        "isVoid": False,
        "toolCallId": "call_1",
        "name": "read_file",
        "input": {"path": "notes.md"},
        "result": "Paris.",
        "error": None,
        "startedAt": MOMENT,
        "endedAt": MOMENT,
        "duration": 0.01,
    },
):
    """Something that a run has thought, said, or had done."""

    type = choice("thinking", "text", "tool", "session")
    attempt = whole("The attempt of the run that it belongs to.")
    isVoid = flag("Whether that attempt was broken off, so that the step counts no more.")
    content = text("Of `thinking` and `text`.")
    toolCallId = nullable(text("Of `tool` and `session`."))
    name = nullable(text("The tool."))
    input = anything("Of `tool`; secrets are masked.")
    result = nullable(text("Of `tool`: what it answered."))
    error = nullable(text("Of `tool` and `session`: why it failed."))
    sessionId = nullable(text("Of `session`: the sub-session that was given work."))
    startedAt = time()
    endedAt = nullable(time())
    duration = nullable(number("Seconds."))


class RunTraceSerializer(OutputSerializer):
    """A run, and what it has done."""

    runId = Member(RUN_ID, "id")
    messageId = text("The message that it answers.", example=events.MESSAGE_ID)
    status = choice(*RunStatus.values)
    startedAt = nullable(time())
    endedAt = nullable(time())
    duration = Member(
        nullable(number("Seconds.")), lambda run: count_seconds(run.started_at, run.ended_at)
    )
    attempt = whole()
    usage = USAGE
    error = Member(nullable(text()), lambda run: run.error or None)
    steps = list_of(ref(TraceStepSerializer), "In the order in which they began.")


class ExecutionTraceSerializer(OutputSerializer):
    """What runs of a session have done."""

    sessionId = SESSION_ID
    runs = list_of(ref(RunTraceSerializer))


class CancelledSerializer(OutputSerializer):
    """The run is cancelled; what it has said is kept."""

    status = choice("cancelled")
    runId = RUN_ID


class NothingRunsSerializer(OutputSerializer):
    """There was nothing to cancel."""

    status = choice("no_active_execution")


class ApprovalSerializer(OutputSerializer):
    """A call of a tool that waits for a person."""

    approvalId = Member(APPROVAL_ID, "id")
    sessionId = SESSION_ID
    runId = RUN_ID
    toolCallId = text(example="call_1")
    toolName = text(example="write_file")
    toolInput = Member(
        anything(
            "What the tool is to be given; a secret in it is hidden.",
            example={"path": "notes.md", "content": "Paris."},
        ),
        "visible_input",
    )
    prompt = text(
        "The question, for people, and what would be done: shortened, on one line.",
        example="Allow write_file? notes.md, 1 line, 6 bytes",
    )
    options = Member(
        list_of(choice(*Answer.values), "What may be answered.", example=Answer.values),
        lambda _: Answer.values,
    )
    status = choice(*APPROVAL_STATUSES)
    reason = Member(
        nullable(text("Why, as the model is told.")), lambda approval: approval.reason or None
    )
    always = flag(
        "The tool, as long as it stays as it is, goes on in this session without a question.",
        example=False,
    )
    createdAt = time()
    expiresAt = time("From then on nobody need answer: it counts as a denial.")
    answeredAt = nullable(time(example=None))
    answeredBy = Member(
        nullable(text("Name of the API key, or who was signed in.")),
        lambda approval: approval.answered_by or None,
    )


class ApprovalAnsweredSerializer(ApprovalSerializer):
    """The approval with its answer."""

    approval_id = Member(deprecate(APPROVAL_ID, "`approvalId`"), "id")
    status = choice(*APPROVAL_STATUSES, example="approved")
    answeredAt = nullable(time())


def find_answer(run: Run) -> Message | None:
    """Return the message with what a run has said; None if it has said nothing."""
    following = Message.objects.in_session(run.session_id).after(run.message.seq)
    return following.filter(run=run, role=Role.ASSISTANT).first()


class CreateSession(Body):
    """POST /sessions/"""

    example = {"profile_name": "foundation/base", "name": "Capitals"}

    amplified_dir = Text(
        required=False,
        max_length=1024,
        help_text='By default ".", or the only directory of your own if "." is not for you.',
    )
    profile_name = Text(default=None, allow_null=True, max_length=200)
    parent_session_id = Text(default=None, allow_null=True, max_length=64)
    settings_overrides = Object(default=dict)
    name = Text(default=None, allow_null=True, max_length=settings.NAME_LENGTH)
    metadata = Object(default=dict)


class UpdateSession(Body):
    """PATCH /sessions/{id}"""

    example = {"name": "Capitals", "metadata": {"colour": "blue"}}

    name = Text(required=False, allow_null=True, allow_blank=True, max_length=settings.NAME_LENGTH)
    metadata = Object(required=False)

    def validate_name(self, name: str | None) -> str | None:
        # An empty name clears it, as null does.
        return name or None


class FailSession(Body):
    """POST /sessions/{id}/fail"""

    example = {"error_message": "The disk is full.", "error_details": {"free": 0}}

    error_message = Text(max_length=10_000)
    error_details = Object(default=None, allow_null=True)


class MessageText(Text):
    """The content of a message, with at least one visible character."""

    default_error_messages = {"blank": "There is no visible character in it: write something."}

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if is_blank(text):
            self.fail("blank")
        return text


class AddMessage(Body):
    """POST /sessions/{id}/messages"""

    example = {"content": "What is the capital of France?"}

    content = MessageText()
    role = Choice(choices=Role.values, default=Role.USER.value)
    agent = Text(default=None, allow_null=True, max_length=200)
    token_count = Number(default=None, allow_null=True, min_value=0, max_value=2**31 - 1)
    metadata = Object(default=dict)


class SendMessage(Body):
    """POST /sessions/{id}/send-message"""

    example = {"content": "What is the capital of France?"}

    content = MessageText()
    multitask_strategy = Choice(choices=Strategy.ALL, default=Strategy.ENQUEUE, source="strategy")


class ForkSession(Body):
    """POST /sessions/{id}/fork"""

    example = {"after": 0}

    after = Number(default=None, allow_null=True, min_value=0, max_value=2**31 - 1)


class ChangeProfile(Body):
    """POST /sessions/{id}/change-profile"""

    example = {"profile_name": "foundation/base"}

    profile_name = Text(max_length=200)


class Cleanup(Body):
    """POST /sessions/cleanup"""

    example = {"older_than_days": 30, "dry_run": True}

    older_than_days = Number(
        default=sessions.CLEANUP_DAYS, min_value=0, max_value=sessions.MOST_DAYS
    )
    status = Choice(
        choices=sessions.REMOVABLE,
        more="An active session is never removed: end it first.",
        default=None,
        allow_null=True,
    )
    dry_run = Flag(default=False)


# How clients answer an approval → what they mean; the last ones as older clients say it.
MEANINGS = {
    "approve": Answer.APPROVE,
    "deny": Answer.DENY,
    "always": Answer.ALWAYS,
    "allow": Answer.APPROVE,
    "allow once": Answer.APPROVE,
    "allow always": Answer.ALWAYS,
}


class AnswerField(serializers.RegexField):
    """An answer to an approval, in upper or lower case."""

    default_error_messages = {"unknown": "This is none of {choices}.{more}"}

    def __init__(self, **options: Any) -> None:
        # Both cases of each letter: not every reader of patterns has a flag for it.
        words = "|".join(
            "".join(f"[{c.upper()}{c.lower()}]" if c.isalpha() else c for c in word)
            for word in MEANINGS
        )
        super().__init__(f"^({words})$", trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        meaning = MEANINGS.get(data.lower()) if isinstance(data, str) else None
        if meaning is None:
            more = suggest(str(data), MEANINGS)
            self.fail("unknown", choices=", ".join(Answer.values), more=more)
        return meaning

    def run_validators(self, value: str) -> None:
        """Do nothing: what is meant is no longer what was sent."""


class ApprovalResponse(Body):
    """POST /sessions/{id}/approval-response"""

    example = {
        "approval_id": events.APPROVAL_ID,
        "response": "deny",
        "reason": "Write it to notes.md instead.",
    }

    approval_id = Text(max_length=200)
    response = AnswerField()
    reason = Text(default=None, allow_null=True, max_length=10_000)
    answered_by = Text(default="", allow_blank=True, max_length=150)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        # The service takes no reason as an empty one.
        return {**attrs, "reason": attrs["reason"] or ""}
