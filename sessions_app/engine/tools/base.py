"""The base classes of tools: modules declare what they can do, and give tools to call."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from amplifierd.common.text import is_blank
from profiles_app.access import EVERYTHING, Reach
from sessions_app.engine.base import RunHost, bad_tool
from sessions_app.engine.capabilities import ToolCapabilities
from sessions_app.engine.messages import ToolSpec

# Characters of a tool's result at most; a model gets no more.
ANSWER_LIMIT = 50_000


class ToolError(Exception):
    """A call failed. The model reads the message, so that it can correct the call."""


class SubSessionNeeded(Exception):
    """A call needs a session of its own: it waits until that has ended."""

    def __init__(self, profile: str, message: str) -> None:
        super().__init__(profile)
        self.profile = profile
        self.message = message


@dataclass(frozen=True)
class Workplace:
    """The place in which the tools of one attempt work."""

    # The session's amplified directory; no tool reaches out of it.
    directory: Path
    session_id: str = ""
    host: RunHost = field(default_factory=RunHost, compare=False, repr=False)
    # Which files there they may use.
    reach: Reach = EVERYTHING
    # Of the session.
    owner: str = ""


@dataclass(frozen=True)
class Tool:
    """A tool that a model may call.

    It returns text, and raises ToolError for a mistake of the model. If the task of a call is
    cancelled, the tool leaves nothing running.
    """

    spec: ToolSpec
    # Takes the arguments that `validate` returned.
    call: Callable[[dict[str, Any]], Awaitable[str]]
    # Takes an object, JSON text or nothing, and corrects what is unambiguous. Returns the arguments
    # that will be shown, approved and used; raises ToolError.
    validate: Callable[[Any], dict[str, Any]]
    # Whether another call does no harm if nobody knows whether the first was made. Calls of such
    # tools are also made at the same time.
    idempotent: bool = False


@dataclass(frozen=True)
class Toolbox:
    """The tools of one module, opened for one attempt."""

    tools: Sequence[Tool] = ()
    # Sentences for people about tools that cannot be offered: their server is down, or they have no
    # usable schema.
    notes: Sequence[str] = ()
    # Returns a tool that is not among `tools` after another try, within limits: for a call that was
    # approved before its server went down. Returns None if the tool is not of this module. Raises
    # ToolError if it is, and cannot be used.
    find: Callable[[str], Awaitable[Tool | None]] | None = None
    # Secrets from the worker's environment, or from the config, that results may have in them. They
    # are redacted for people only.
    secrets: frozenset[str] = field(default=frozenset(), repr=False)


class ToolModule(ABC):
    """A module of tools: the class declares what it can do, and opens it for an attempt.

    Importing its file must not load a large library.
    """

    module: ClassVar[str]
    capabilities: ClassVar[ToolCapabilities]

    @classmethod
    @abstractmethod
    def open(
        cls, config: dict[str, Any], workplace: Workplace
    ) -> AbstractAsyncContextManager[Toolbox]:
        """Open the tools with a resolved config; leaving ends all that they have started.

        Raises EngineError `bad_tool` for a config, or a directory, that cannot be used.
        """


def fill_blank(text: str, sentence: str) -> str:
    """Return the text, or the sentence if nothing in the text is visible."""
    return sentence if is_blank(text) else text


def shorten(text: str, limit: int = ANSWER_LIMIT) -> str:
    """Return the text; of a long one, its beginning and the number of missing characters."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n… {len(text) - limit} more characters were left out."


def parse_approval(config: dict[str, Any]) -> bool | frozenset[str]:
    """Return which tools of a module need approval: all (True), none (False), or those named.

    Raises EngineError `bad_tool` for a wrong `require_approval`.
    """
    given = config.get("require_approval")
    if given is None or isinstance(given, bool):
        return bool(given)
    names = [given] if isinstance(given, str) else given
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return frozenset(names)
    raise bad_tool("`require_approval` is true, or a list of the tool's functions.")
