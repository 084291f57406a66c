"""What a tool is: something that a model may call, of a module that says what it can do."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from amplifierd.common.text import is_blank
from sessions_app.engine.base import EngineError, NullHost, RunHost
from sessions_app.engine.capabilities import ToolCapabilities
from sessions_app.engine.messages import ToolSpec

# Characters of a tool's answer that a model gets, at most.
ANSWER_LIMIT = 50_000


class ToolError(Exception):
    """A call failed for a reason that the model reads, so that it can do better."""


class SubSessionNeeded(Exception):
    """A call is answered by a session of its own: it waits until that has ended."""

    def __init__(self, profile: str, message: str) -> None:
        super().__init__(profile)
        self.profile = profile
        self.message = message


@dataclass(frozen=True)
class Workplace:
    """Where the tools of one attempt work."""

    # The session's amplified directory; no tool reaches out of it.
    directory: Path
    session_id: str = ""
    host: RunHost = field(default_factory=NullHost, compare=False, repr=False)


@dataclass(frozen=True)
class Tool:
    """A tool that a model may call.

    It returns text, and raises ToolError for what the model did wrong. It is cancelled by
    cancelling its task, and leaves nothing running then.
    """

    spec: ToolSpec
    # Takes the arguments as `validate` has returned them.
    call: Callable[[dict[str, Any]], Awaitable[str]]
    # Returns the arguments as they will be shown, approved and used; raises ToolError. It takes
    # an object, JSON text or nothing, and puts right what is unambiguous.
    validate: Callable[[Any], dict[str, Any]]
    # Whether it may be called again without harm when nobody knows whether it was. Such tools are
    # also called side by side.
    idempotent: bool = False


@dataclass(frozen=True)
class Toolbox:
    """The tools of one module, opened for one attempt."""

    tools: Sequence[Tool] = ()
    # What could not be offered, a sentence each, for people: a server that is down, a tool
    # without a usable schema.
    notes: Sequence[str] = ()
    # Returns a tool that is not among `tools` now but may be had by trying again, within limits:
    # for calls that were approved while its server was there. None: no tool of this module.
    # Raises ToolError if it is this module's and cannot be had.
    find: Callable[[str], Awaitable[Tool | None]] | None = None
    # What of the worker's environment, or of the config, the tools were given as a secret: their
    # answers may hold it. It is redacted where they are shown to people, and nowhere else.
    secrets: frozenset[str] = field(default=frozenset(), repr=False)


class ToolModule(ABC):
    """A module of tools: a class, which declares what it can do and opens it for an attempt.

    Importing its file loads no heavy library.
    """

    module: ClassVar[str]
    capabilities: ClassVar[ToolCapabilities]

    @classmethod
    @abstractmethod
    def open(
        cls, config: dict[str, Any], workplace: Workplace
    ) -> AbstractAsyncContextManager[Toolbox]:
        """Open the tools with a resolved config; leaving closes whatever they have started.

        Raises EngineError `bad_tool` for a config, or a place, that cannot be used.
        """


def fill_blank(text: str, sentence: str) -> str:
    """Return the text, or the sentence where nobody could see anything in it."""
    return sentence if is_blank(text) else text


def shorten(text: str, limit: int = ANSWER_LIMIT) -> str:
    """Return the text, or its beginning and a sentence that says how much is missing."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n… {len(text) - limit} more characters were left out."


def parse_approval(config: dict[str, Any]) -> bool | frozenset[str]:
    """Return which of a module's functions ask a person first, by its `require_approval`.

    All of them, none, or those. Raises EngineError `bad_tool` for what is neither.
    """
    asked = config.get("require_approval")
    if asked is None or isinstance(asked, bool):
        return bool(asked)
    names = [asked] if isinstance(asked, str) else asked
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return frozenset(names)
    raise EngineError("bad_tool", "`require_approval` is true, or a list of the tool's functions.")
