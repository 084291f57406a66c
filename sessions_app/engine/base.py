"""The protocol of engines: an engine answers one attempt of a run.

It gets all data in a `Turn`, and knows neither the database nor the journal.
"""

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from profiles_app.access import EVERYTHING, Reach
from sessions_app.engine.capabilities import EngineCapabilities

# Takes an event's type and data, and never blocks. An engine emits each piece at once; the worker
# joins pieces that come close together.
Emit = Callable[[str, dict[str, Any]], None]
MessageRole = Literal["user", "assistant", "system", "tool"]


@dataclass(frozen=True)
class Call:
    """A call of a tool in the journal: it was begun, and may have ended."""

    id: str
    tool: str
    # Its result; None if that is not known.
    result: str | None = None
    # Whether the result is an error.
    failed: bool = False
    # Whether the result is in the journal; if not, it must be emitted.
    is_recorded: bool = True


@dataclass(frozen=True)
class Decision:
    """A person's answer to a call of a tool that needs approval."""

    approved: bool
    # The reason of a denial, for the model.
    reason: str = ""
    # Whether nobody answered in time.
    expired: bool = False

    @property
    def rejection(self) -> str:
        """The result of the denied call, for the model."""
        who = "This call counts as denied." if self.expired else "A person has denied this call."
        return f"{who} {self.reason}".strip()


@dataclass(frozen=True)
class Ask:
    """A call of a tool that waits for a person's approval, or for the end of another session."""

    call_id: str
    tool: str
    input: dict[str, Any]
    # For a sub-session: its profile, and the message that it gets.
    profile: str | None = None
    message: str = ""
    # Seconds that a person has to answer; None for the daemon's default.
    timeout: float | None = None
    # A hash of the tool's definition, module and config: "always" counts only for the same one.
    fingerprint: str = ""
    # The input for people, without secrets that are known by their values. None: `input` itself.
    visible_input: dict[str, Any] | None = None


@dataclass(frozen=True)
class HistoryMessage:
    """A message of the transcript, with the checkpoints of its run."""

    role: MessageRole
    content: str
    # Its number in the transcript.
    seq: int = 0
    # Of a user's message: the checkpoints of its run, and the calls of the newest one. They replace
    # the answer in `content` of a later message, or its beginning.
    checkpoints: tuple[dict[str, Any], ...] = ()
    calls: Mapping[str, Call] = field(default_factory=dict)
    # Whether it is such an answer.
    is_answer: bool = False
    # Its run, if any. Messages that waited together all come before their answers.
    run_id: str = ""


class RunHost:
    """The services of the worker for an engine during an attempt; this one stores nothing."""

    async def save_checkpoints(
        self, checkpoints: Sequence[dict[str, Any]], usage: dict[str, Any]
    ) -> None:
        """Save checkpoints of the exchange with the model, after all events emitted before.

        Each checkpoint is JSON of the engine; the next attempt gets it in `Turn.checkpoints`.
        `usage` is the usage of the whole run so far. Raises Cancelled if the attempt no longer
        holds its run: then the engine must not do what it was about to do.
        """

    async def flush(self) -> None:
        """Return after all emitted events are committed to the journal. Raises Cancelled."""

    async def compact(self, upto: int, summary: str, usage: dict[str, Any]) -> None:
        """Replace the transcript up to a seq by a summary, in this run and all later ones.

        Raises Cancelled if the attempt no longer holds its run.
        """

    async def read_tree_usage(self) -> dict[str, Any]:
        """Return the usage of the whole tree of sessions without this run: see `Outcome`."""
        return {}

    async def find_response(self, tool: str) -> str | None:
        """Return the newest response of a tool in this session; None if there is none."""
        return None


@dataclass(frozen=True)
class Turn:
    """The input of an engine for one attempt of one run."""

    # The session's snapshot: `providers` and `tools` [{module, config}], `instruction`,
    # `context` {name: text}, and `session`, its settings.
    mount_plan: dict[str, Any]
    prompt: str
    # The transcript before the prompt, oldest first, without messages queued after the prompt.
    history: tuple[HistoryMessage, ...] = ()
    # The prompt's own number in the transcript.
    seq: int = sys.maxsize
    session_id: str = ""
    # The session's amplified directory on the disk; tools must not leave it.
    directory: Path | None = None
    # Which files there the session may use.
    reach: Reach = EVERYTHING
    owner: str = ""
    # Checkpoints of earlier attempts of this run, and the calls of the newest one.
    checkpoints: tuple[dict[str, Any], ...] = ()
    calls: Mapping[str, Call] = field(default_factory=dict)
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    # The name and the fingerprint of each tool that a person has allowed for the whole session.
    always: frozenset[tuple[str, str]] = frozenset()
    # Whether this attempt continues a parked one. If not, earlier events do not count, and the
    # content of the checkpoints is emitted again.
    continues: bool = False
    # The text that the parked attempt has emitted.
    output: str = ""
    # It replaces messages before the history; empty if there is none.
    summary: str = ""
    # The usage of earlier attempts: see `Outcome`.
    usage: dict[str, Any] = field(default_factory=dict)
    # The instructions, and the prompt with the files that it mentions; None: they are still to be
    # read from the disk (`Engine.prepare`).
    texts: tuple[str, str] | None = None
    host: RunHost = field(default_factory=RunHost, compare=False, repr=False)


@dataclass(frozen=True)
class Outcome:
    """The result of an attempt that was neither cancelled nor failed.

    `content` is `Turn.output` and all emitted `content` pieces, joined. `usage` is that of the run
    in all attempts: `input_tokens`, `output_tokens`, `cached_tokens`, `reasoning_tokens`,
    `requests` (calls of the provider), and `cost` in US dollars if the model's price is known. With
    `pending`, the attempt is parked until these calls are answered.
    """

    content: str
    usage: dict[str, Any]
    model: str
    # Checkpoints that were not saved yet; none if the transcript has the whole answer.
    checkpoints: tuple[dict[str, Any], ...] = ()
    pending: tuple[Ask, ...] = ()
    # Why the model stopped: stop, length, content_filter or tool_calls.
    finish_reason: str = "stop"


class Engine(ABC):
    """Runs turns, many at a time, on one event loop. One instance serves a whole process."""

    # Its name in profiles, as `session.engine`.
    module: ClassVar[str]
    capabilities: ClassVar[EngineCapabilities]

    def prepare(self, turn: Turn) -> Turn:
        """Return the turn with what the engine has read for it from the disk.

        It is called in a thread, before `run`, which must not rely on it.
        """
        return turn

    @abstractmethod
    async def run(self, turn: Turn, emit: Emit, cancel: asyncio.Event) -> Outcome:
        """Answer the turn, emitting `content` and `hook:thinking:delta` as they come.

        `hook:tool:pre` and `hook:tool:post` are emitted around each call of a tool: the first is
        in the journal before the call is made.

        A request that failed before the first piece of its answer may be repeated: each time,
        `provider_retry` is emitted before the wait. Earlier events stay.

        Raises EngineError if it fails, and Cancelled after `cancel` is set and the call of the
        provider has stopped.
        """


class EngineError(Exception):
    """An attempt failed. The message says why, and what a person can do.

    The message may be stored and shown: it has no secrets. `status` is the HTTP status of the
    provider, if there was one. `code` is one of:

    unknown_module   the profile names a provider that does not exist
    missing_key      an environment variable that the profile names is not set
    bad_config       the provider's config cannot be used
    model_missing    the local model's file is missing or damaged
    provider_error   the provider refused, failed or could not be reached
    timeout          the provider, or the run, took too long
    too_long         the prompt does not fit into the model's context
    too_long_answer  the answer exceeded a limit, and was stopped
    bad_answer       the provider's answer cannot be used
    bad_script       a BENCH message to provider-mock, or the script in its config, cannot be read
    bad_tool         a tool of the profile cannot be used: its config, its server, its name
    forbidden        the session's owner may not use its directory, or not in this way
    budget_exhausted the run, or the tree of its sessions, has used its budget
    repeated_calls   the model made the same calls again and again
    """

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(message)
        # The usage of the run so far; None if that is not known.
        self.usage: dict[str, Any] | None = None
        self.code = code
        self.status = status


def bad_config(message: str) -> EngineError:
    return EngineError("bad_config", message)


def bad_tool(message: str) -> EngineError:
    return EngineError("bad_tool", message)


class Cancelled(Exception):
    """The attempt was cancelled, and the call of the provider has stopped."""
