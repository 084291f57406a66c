"""The engine protocol: what turns one attempt of a run into an answer.

An engine is given all it needs in a `Turn` and knows neither the database nor the journal.
"""

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from sessions_app.engine.capabilities import EngineCapabilities

# Takes an event's type and data. Synchronous and never blocking: an engine emits every piece
# at once, and whoever journals them joins what comes close together.
Emit = Callable[[str, dict[str, Any]], None]
MessageRole = Literal["user", "assistant", "system", "tool"]


@dataclass(frozen=True)
class Call:
    """A call of a tool, as the journal has it: begun, and perhaps ended."""

    id: str
    tool: str
    # What came of it; None while nobody knows.
    result: str | None = None
    # Whether the result tells of an error.
    failed: bool = False
    # Whether the result is in the journal; if it is not, it has to be emitted.
    is_recorded: bool = True


@dataclass(frozen=True)
class Decision:
    """A person's answer to a call of a tool that needs approval."""

    approved: bool
    # Why not; the model reads it.
    reason: str = ""
    # Whether nobody has answered in time.
    expired: bool = False

    @property
    def rejection(self) -> str:
        """What the model reads as the result of a call that is not made."""
        who = "This call counts as denied." if self.expired else "A person has denied this call."
        return f"{who} {self.reason}".strip()


@dataclass(frozen=True)
class Ask:
    """A call of a tool that waits for a person's approval, or for the end of another session."""

    call_id: str
    tool: str
    input: dict[str, Any]
    # Set if a session is to be started for it: the profile, and the message that it is sent.
    profile: str | None = None
    message: str = ""
    # Seconds until a person need not answer any more; None for the daemon's default.
    timeout: float | None = None
    # What an "always" is bound to: the tool as it is defined, its module, its config.
    fingerprint: str = ""
    # The input as people see it, without the secrets that are known by their
    # values. None: as it is.
    visible_input: dict[str, Any] | None = None


@dataclass(frozen=True)
class HistoryMessage:
    """A message of the transcript, as an engine sees it."""

    role: MessageRole
    content: str
    # Its number in the transcript.
    seq: int = 0
    # Of a user's message: the checkpoints of its run, if it saved any, and the calls of the newest
    # one. As far as they go, they stand for the answer in `content` of the next message.
    checkpoints: tuple[dict[str, Any], ...] = ()
    calls: Mapping[str, Call] = field(default_factory=dict)
    # Whether it is such an answer.
    is_answer: bool = False
    # The run that it belongs to, if any. Of messages that waited, all stand before the answers.
    run_id: str = ""


class RunHost(Protocol):
    """What an engine may ask of the worker in the middle of an attempt."""

    async def save_checkpoints(
        self, checkpoints: Sequence[dict[str, Any]], usage: dict[str, Any]
    ) -> None:
        """Save checkpoints of the exchange with the model, after all that was emitted before.

        Each checkpoint is JSON of the engine's own; the next attempt finds it in
        `Turn.checkpoints`. `usage` is all that the run has used so far. Raises Cancelled if the
        attempt no longer holds: what was about to be done must not be done.
        """
        ...

    async def flush(self) -> None:
        """Return when all that was emitted is in the journal for good. Raises Cancelled."""
        ...

    async def compact(self, upto: int, summary: str, usage: dict[str, Any]) -> None:
        """Let a summary stand for the transcript up to a seq, in this run and all later ones.

        Raises Cancelled if the attempt no longer holds.
        """
        ...

    async def read_tree_usage(self) -> dict[str, Any]:
        """Return the usage of the whole tree of sessions without this run: see `Outcome`."""
        ...

    async def find_response(self, tool: str) -> str | None:
        """Return the newest response of a tool in this session; None if there is none."""
        ...


class NullHost:
    """A host that keeps nothing: for turns that run without a worker."""

    async def save_checkpoints(
        self, checkpoints: Sequence[dict[str, Any]], usage: dict[str, Any]
    ) -> None:
        pass

    async def flush(self) -> None:
        pass

    async def compact(self, upto: int, summary: str, usage: dict[str, Any]) -> None:
        pass

    async def read_tree_usage(self) -> dict[str, Any]:
        return {}

    async def find_response(self, tool: str) -> str | None:
        return None


@dataclass(frozen=True)
class Turn:
    """Everything an engine needs to know for one attempt of one run."""

    # The session's snapshot: `providers` and `tools` [{module, config}], `instruction`,
    # `context` {name: text}, and `session`, its settings.
    mount_plan: dict[str, Any]
    prompt: str
    # The transcript before the prompt, oldest first. What was queued behind the prompt is no part
    # of it.
    history: tuple[HistoryMessage, ...] = ()
    # The prompt's own number in the transcript.
    seq: int = sys.maxsize
    session_id: str = ""
    # The session's amplified directory on the disk: tools stay within it.
    directory: Path | None = None
    # What earlier attempts of this run have saved, and the calls of the newest checkpoint.
    checkpoints: tuple[dict[str, Any], ...] = ()
    calls: Mapping[str, Call] = field(default_factory=dict)
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    # Tools that a person has allowed for all of this session: the name and the fingerprint of each.
    always: frozenset[tuple[str, str]] = frozenset()
    # Whether this attempt continues a parked one. If not, nothing that was emitted before counts,
    # and the content of the checkpoints is emitted again.
    continues: bool = False
    # The text that a parked attempt has emitted so far.
    output: str = ""
    # It stands for older messages, before the history; empty if there is none.
    summary: str = ""
    # What earlier attempts have used: see `Outcome`.
    usage: dict[str, Any] = field(default_factory=dict)
    host: RunHost = field(default_factory=NullHost, compare=False, repr=False)


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended that ended by itself.

    `content` is exactly the emitted `content` pieces, joined (after `Turn.output`). `usage` is what
    the run has used in all attempts: `input_tokens`, `output_tokens`, `cached_tokens`,
    `reasoning_tokens`, `requests` (calls of the provider), and `cost` in US dollars where the
    model's price is known. With `pending` the attempt has not ended but parked: those calls wait.
    """

    content: str
    usage: dict[str, Any]
    model: str
    # Checkpoints beside those that were saved; none if the answer is all there was.
    checkpoints: tuple[dict[str, Any], ...] = ()
    pending: tuple[Ask, ...] = ()
    # Why the model stopped: stop, length, content_filter or tool_calls.
    finish_reason: str = "stop"


class Engine(ABC):
    """Runs turns, many at a time, on one event loop. One instance serves a whole process."""

    # What profiles call it, as `session.engine`.
    module: ClassVar[str]
    capabilities: ClassVar[EngineCapabilities]

    @abstractmethod
    async def run(self, turn: Turn, emit: Emit, cancel: asyncio.Event) -> Outcome:
        """Answer the turn, emitting `content` and `hook:thinking:delta` as they come.

        `hook:tool:pre` and `hook:tool:post` are emitted around each call of a tool: the first is
        in the journal before the call is made.

        A request that failed before the first piece of its answer may be repeated: each time,
        `provider_retry` is emitted before the wait. What was emitted stays.

        Raises EngineError when it fails, and Cancelled once `cancel` is set and the call of
        the provider has been stopped.
        """
        ...


class EngineError(Exception):
    """An attempt failed, for a reason that a person can act on.

    The message is one that may be stored and shown: it holds no secret. `status` is the HTTP
    status of the provider, if it gave one. `code` is one of:

    unknown_module   the profile names a provider that does not exist
    missing_key      an environment variable that the profile names is not set
    bad_config       the provider's config cannot be used
    model_missing    the local model's file is not there, or damaged
    provider_error   the provider refused, failed or could not be reached
    timeout          the provider, or the run, took too long
    too_long         the prompt does not fit into the model's context
    too_long_answer  the provider said more than it may, and was stopped
    bad_answer       the provider answered with something unusable
    bad_script       a BENCH message to provider-mock, or the script in its config, cannot be read
    bad_tool         a tool of the profile cannot be used: its config, its server, its name
    budget_exhausted the run, or the tree of its sessions, has used what it may
    """

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(message)
        # What the run has used all the same; None where that is not known.
        self.usage: dict[str, Any] | None = None
        self.code = code
        self.status = status


class Cancelled(Exception):
    """The attempt was cancelled, and the call of the provider has been stopped."""
