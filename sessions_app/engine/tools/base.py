"""What a tool is: a function that a model may call, and the place in which it works."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sessions_app.engine.base import Alone, Host

if TYPE_CHECKING:
    from pydantic_ai.toolsets import AbstractToolset

# Characters of a tool's answer that a model is told, at most.
ANSWER_LIMIT = 50_000


class ToolError(Exception):
    """A call failed for a reason that the model is told, so that it can do better."""


@dataclass(frozen=True)
class Workplace:
    """Where the tools of one attempt work."""

    # The session's amplified directory; no tool reaches out of it.
    directory: Path
    session_id: str = ""
    host: Host = field(default_factory=Alone, compare=False, repr=False)


@dataclass(frozen=True)
class Tool:
    """A function that a model may call.

    Its name, its typed parameters and its docstring (Google style, with `Args:`) are what the
    model is told of it; it returns text, and raises ToolError for what the model did wrong.
    It is cancelled by cancelling its task, and leaves nothing running then.
    """

    function: Callable[..., Awaitable[str]]
    # Whether it may be called again without harm when nobody knows whether it was.
    idempotent: bool = False


@dataclass(frozen=True)
class Toolbox:
    """The tools of one module, opened for one attempt."""

    tools: Sequence[Tool] = ()
    # Tools that come from elsewhere, as pydantic-ai has them.
    toolset: "AbstractToolset[Any] | None" = None


def shortened(text: str, limit: int = ANSWER_LIMIT) -> str:
    """Return the text, or its beginning and a sentence that says how much is missing."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n… {len(text) - limit} more characters were left out."
