"""The tools of a turn, opened for one attempt."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, FunctionToolset

from sessions_app.engine.base import EngineError, Turn
from sessions_app.engine.calls import Calls, Journalled
from sessions_app.engine.config import Resolver
from sessions_app.engine.tools.base import Toolbox, Workplace
from sessions_app.engine.tools.mcp import is_idempotent
from sessions_app.engine.tools.registry import gated, open_tools

# Keys that every module's config may have.
OF_ALL = ("require_approval", "approval_timeout")
# Ten years, in seconds.
LONGEST_WAIT = 10 * 365 * 86_400
# How often a model may put the arguments of a call wrongly before the run fails.
WRONG_CALLS = 5


@dataclass(frozen=True)
class Opened:
    """The tools of a module, and what its config says of them."""

    toolset: AbstractToolset[None]
    config: dict[str, Any]
    idempotent: Callable[[ToolDefinition], bool]
    secrets: set[str] = field(repr=False)


@asynccontextmanager
async def opened_tools(turn: Turn) -> AsyncIterator[list[Opened]]:
    """Open the modules of the mount plan's `tools`; raise EngineError for one that cannot be.

    Leaving closes them, and whatever they have started.
    """
    mounts = turn.mount_plan.get("tools") or []
    if mounts and turn.directory is None:
        raise EngineError("bad_tool", "The session has no directory for its tools.")
    async with AsyncExitStack() as stack:
        yield [await _opened(mount, turn, stack) for mount in mounts]


def journalled(opened: list[Opened], calls: Calls) -> list[AbstractToolset[None]]:
    """Return the tools as an agent gets them: each call is journalled and, where asked, allowed."""
    return [
        Journalled(
            each.toolset,
            calls,
            gated(each.config),
            each.idempotent,
            _patience(each.config),
        )
        for each in opened
    ]


async def _opened(mount: dict[str, Any], turn: Turn, stack: AsyncExitStack) -> Opened:
    module = str(mount.get("module"))
    resolver = Resolver(module)
    config = resolver.resolve(mount.get("config") or {})
    workplace = Workplace(turn.directory, turn.session_id, turn.host)
    own = {key: value for key, value in config.items() if key not in OF_ALL}
    box = await stack.enter_async_context(open_tools(module, own, workplace))
    if box.toolset is not None:
        return Opened(box.toolset, config, is_idempotent, resolver.secrets)
    return _of_functions(box, config, resolver.secrets)


def _of_functions(box: Toolbox, config: dict[str, Any], secrets: set[str]) -> Opened:
    toolset: FunctionToolset[None] = FunctionToolset(max_retries=WRONG_CALLS)
    for tool in box.tools:
        toolset.add_function(tool.function)
    repeatable = {tool.function.__name__ for tool in box.tools if tool.idempotent}
    return Opened(toolset, config, lambda definition: definition.name in repeatable, secrets)


def _patience(config: dict[str, Any]) -> float | None:
    """Return the seconds that a person has to answer; None for the daemon's default."""
    seconds = config.get("approval_timeout")
    if seconds is None:
        return None
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 < seconds <= LONGEST_WAIT:
        raise EngineError(
            "bad_tool", f"`approval_timeout` is a number of seconds from 1 to {LONGEST_WAIT}."
        )
    return seconds
