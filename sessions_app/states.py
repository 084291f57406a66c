"""The states of sessions and runs, and the only transitions between them.

Services ask these tables, and the triggers of PostgreSQL are generated from them. The terminal
reads them too, so nothing here needs Django.
"""

from enum import EnumType, StrEnum


class ChoicesType(EnumType):
    """What Django's `TextChoices` has for the `choices` of a field."""

    @property
    def values(cls) -> list[str]:
        return [member.value for member in cls]  # type: ignore[var-annotated]

    @property
    def choices(cls) -> list[tuple[str, str]]:
        return [(value, value.replace("_", " ").title()) for value in cls.values]


class Choices(StrEnum, metaclass=ChoicesType):
    """A text that is one of a few."""


class SessionStatus(Choices):
    """The life of a session."""

    CREATED = "created"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    TERMINATED = "terminated"


class ActionKind(Choices):
    """Who answers a call of a tool."""

    APPROVAL = "approval"  # a person says whether it may be made
    SUB_SESSION = "sub_session"  # another session does the work


class ActionStatus(Choices):
    """The life of a pending action."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    ANSWERED = "answered"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


class Answer(Choices):
    """What a person may say to a call of a tool."""

    APPROVE = "approve"
    DENY = "deny"
    # Yes, and do not ask about this tool again in this session, as long as it stays as it is.
    ALWAYS = "always"


class RunStatus(Choices):
    """The life of a run: one execution of one message."""

    QUEUED = "queued"
    RUNNING = "running"
    PARKED = "parked"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Role(Choices):
    """Who speaks in a message."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"


class FinishReason(Choices):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    TOOL_CALLS = "tool_calls"
    ERROR = "error"
    CANCELLED = "cancelled"


# What people are told of an answer that is not whole, though its run succeeded.
CUT_OFF: dict[str, str] = {
    FinishReason.LENGTH: "Cut off: the answer reached its token limit",
    FinishReason.CONTENT_FILTER: "Cut off: the provider's content filter stopped the answer",
    FinishReason.TOOL_CALLS: "Cut off: the answer ended with tool calls that were not made",
}
# How the answer of a run that succeeded may end.
FINISHED = (FinishReason.STOP, *CUT_OFF)

SESSION_TRANSITIONS: dict[str, tuple[str, ...]] = {
    SessionStatus.CREATED: (SessionStatus.ACTIVE,),  # start: from now on it takes messages
    SessionStatus.ACTIVE: (
        SessionStatus.COMPLETED,  # complete: its work is done
        SessionStatus.FAILED,  # fail: something outside went wrong, with an error message
        SessionStatus.TERMINATED,  # terminate: somebody ended it early
    ),
    SessionStatus.COMPLETED: (),
    SessionStatus.FAILED: (),
    SessionStatus.TERMINATED: (),
}

RUN_TRANSITIONS: dict[str, tuple[str, ...]] = {
    RunStatus.QUEUED: (
        RunStatus.RUNNING,  # claim: a worker took it, with a new attempt and a lease
        RunStatus.CANCELLED,  # cancel, or the end of its session, before any worker took it
    ),
    RunStatus.RUNNING: (
        RunStatus.SUCCEEDED,  # settle: the answer is saved
        RunStatus.FAILED,  # settle with an error, or given up after too many attempts
        RunStatus.CANCELLED,  # cancel, or the end of its session
        RunStatus.QUEUED,  # release or rescue: its worker went away, the next attempt follows
        RunStatus.PARKED,  # park: a tool waits for a person or a sub-session, no worker holds it
    ),
    RunStatus.PARKED: (
        RunStatus.RUNNING,  # claim: all that it waited for is there, the next attempt goes on
        RunStatus.CANCELLED,  # cancel, or the end of its session
    ),
    RunStatus.SUCCEEDED: (),
    RunStatus.FAILED: (),
    RunStatus.CANCELLED: (),
}

ACTION_TRANSITIONS: dict[str, tuple[str, ...]] = {
    ActionStatus.PENDING: (
        ActionStatus.APPROVED,  # answer: the tool is called
        ActionStatus.DENIED,  # answer, or a new message instead of one: the model is told why
        ActionStatus.ANSWERED,  # the sub-session has ended its runs, or is gone
        ActionStatus.EXPIRED,  # nobody answered in time, which counts as a denial
        ActionStatus.WITHDRAWN,  # its run was cancelled
    ),
    ActionStatus.APPROVED: (),
    ActionStatus.DENIED: (),
    ActionStatus.ANSWERED: (),
    ActionStatus.EXPIRED: (),
    ActionStatus.WITHDRAWN: (),
}

# What may become of each kind of pending action.
ACTION_STATUSES: dict[str, tuple[str, ...]] = {
    ActionKind.APPROVAL: tuple(
        str(status) for status in ActionStatus if status != ActionStatus.ANSWERED
    ),
    ActionKind.SUB_SESSION: (
        str(ActionStatus.PENDING),
        str(ActionStatus.ANSWERED),
        str(ActionStatus.WITHDRAWN),
    ),
}
APPROVAL_STATUSES = ACTION_STATUSES[ActionKind.APPROVAL]

SESSION_TERMINAL = tuple(status for status, targets in SESSION_TRANSITIONS.items() if not targets)
RUN_TERMINAL = tuple(status for status, targets in RUN_TRANSITIONS.items() if not targets)
RUN_OPEN = tuple(status for status, targets in RUN_TRANSITIONS.items() if targets)
# Begun and not settled: at most one of a session.
RUN_UNDER_WAY = (RunStatus.RUNNING, RunStatus.PARKED)


def pairs(transitions: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    """Return a table of transitions as (from, to) pairs, as the triggers want them."""
    return [
        (str(source), str(target)) for source, targets in transitions.items() for target in targets
    ]
