"""Calls of tools: journalled before and after, asked about, made once.

A call is never repeated in silence. What an earlier attempt has finished is answered from the
journal; what it has begun is made again only if that does no harm.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ModelRetry, ToolFailed
from pydantic_ai.messages import ModelMessage, ModelRequestPart, ToolCallPart, ToolReturnPart
from pydantic_ai.tools import RunContext, ToolDefinition
from pydantic_ai.toolsets import ToolsetTool, WrapperToolset
from pydantic_core import to_json

from profiles_app.masking import masked
from sessions_app import barriers
from sessions_app.engine.base import Ask, Call, Emit, EngineError, Turn
from sessions_app.engine.config import redacted
from sessions_app.engine.exchange import Exchange, answer_of
from sessions_app.engine.history import INTERRUPTED
from sessions_app.engine.speech import Speech
from sessions_app.engine.tools.base import ToolError, shortened
from sessions_app.storable import storable, storable_json

logger = logging.getLogger(__name__)

# Characters of a call's id that can be kept.
LONGEST_ID = 255


@dataclass(frozen=True)
class Request:
    """One call that a model wants to be made."""

    id: str
    tool: str
    # As the model has put it.
    input: dict[str, Any]
    idempotent: bool
    asks: bool
    # Seconds that a person has to answer; None for the daemon's default.
    timeout: float | None
    make: Callable[[], Awaitable[Any]]


class Calls:
    """What becomes of the calls of one attempt."""

    def __init__(self, turn: Turn, emit: Emit, exchange: Exchange, secrets: set[str]) -> None:
        self._turn = turn
        self._emit = emit
        self._exchange = exchange
        self._secrets = secrets
        # Set by whoever talks with a provider; what it holds back is said before a call.
        self.speech: Speech | None = None
        # They belong to the answer that an earlier attempt has left.
        self._earlier = dict(turn.calls)
        self._decisions = dict(turn.decisions)
        # The calls that wait.
        self.waits: list[Ask] = []
        # Whether calls were made of whose results no model was told yet: made for nothing, and
        # perhaps once more, if another one were asked instead.
        self.are_pending = False

    def asked_anew(self) -> None:
        """Note that the model is asked again: ids of its next calls may be used a second time."""
        self._earlier.clear()
        self._decisions.clear()
        self.are_pending = False

    def tell_again(
        self, calls: Mapping[str, ToolCallPart], parts: Iterable[ModelRequestPart]
    ) -> None:
        """Emit what earlier attempts have called, and what came of it."""
        for part in parts:
            if not isinstance(part, ToolReturnPart) or part.tool_call_id not in calls:
                continue
            call = calls[part.tool_call_id]
            data = {
                "tool_name": call.tool_name,
                "tool_input": masked(call.args_as_dict()),
                "tool_call_id": call.tool_call_id,
                "replayed": True,
            }
            self._emit_event("pre", data)
            key = "error" if part.outcome == "failed" else "tool_response"
            self._emit_event("post", {**data, key: part.model_response_str()})

    async def answer(self, request: Request, messages: list[ModelMessage]) -> str:
        """Return what a call has come to, making it if need be.

        Raises ToolFailed for what the model is told as an error, ApprovalRequired or CallDeferred
        where the call waits.
        """
        if len(request.id) > LONGEST_ID:
            raise ToolFailed("The id of this call is too long; it was not made.")
        if self.speech:
            self.speech.finish()
        await self._exchange.keep(messages)
        earlier = self._earlier.get(request.id)
        if earlier is not None and earlier.result is not None:
            return self._repeated(request, earlier)
        if earlier is not None and not request.idempotent:
            if not self._turn.continues:
                self._tell("pre", request, replayed=True)
            raise self._failed(request, INTERRUPTED)
        self._refuse_unless_allowed(request)
        return await self._made(request, begun=earlier is not None and self._turn.continues)

    def _repeated(self, request: Request, earlier: Call) -> str:
        """Return the result of an earlier attempt; tell of it where this attempt tells all anew."""
        if not self._turn.continues:
            self._tell("pre", request, replayed=True)
        if not earlier.told or not self._turn.continues:
            key = "error" if earlier.failed else "tool_response"
            self._tell("post", request, **{key: earlier.result}, replayed=True)
        if earlier.failed:
            raise ToolFailed(earlier.result)
        return earlier.result

    def _refuse_unless_allowed(self, request: Request) -> None:
        # An answer to this very call goes before what was said of the tool afterwards.
        decision = self._decisions.get(request.id)
        if not request.asks or (decision is None and request.tool in self._turn.always):
            return
        if decision is None:
            ask = Ask(request.id, request.tool, request.input, timeout=request.timeout)
            self.waits.append(ask)
            raise ApprovalRequired
        if not decision.approved:
            self._tell("pre", request)
            raise self._failed(request, decision.refusal)

    async def _made(self, request: Request, *, begun: bool) -> str:
        self.are_pending = True
        if not begun:
            self._tell("pre", request)
        # Nothing is done of which the journal does not tell.
        await self._turn.host.settled()
        try:
            result = self._text(await request.make())
        except (ToolError, ToolFailed, ModelRetry) as error:
            raise self._failed(request, self._text(str(error))) from None
        except CallDeferred as deferral:
            self.waits.append(Ask(request.id, request.tool, request.input, **deferral.metadata))
            raise
        except Exception as error:
            logger.exception("The tool %s failed", request.tool)
            raise self._failed(request, f"The tool failed: {type(error).__name__}.") from None
        barriers.reach(barriers.CALLED)
        self._tell("post", request, tool_response=result)
        if not request.idempotent:
            # Else a crash soon after would leave nobody knowing whether it took effect.
            await self._turn.host.settled()
        return result

    def _failed(self, request: Request, error: str) -> ToolFailed:
        self._tell("post", request, error=error)
        return ToolFailed(error)

    def _tell(self, when: str, request: Request, **more: Any) -> None:
        data = {
            "tool_name": request.tool,
            "tool_input": masked(request.input),
            "tool_call_id": request.id,
            **more,
        }
        self._emit_event(when, data)

    def _emit_event(self, when: str, data: dict[str, Any]) -> None:
        self._emit(f"hook:tool:{when}", {"hook_event": f"tool:{when}", "hook_data": data})

    def _text(self, result: Any) -> str:
        """Return what a tool has returned as the text that the model and the journal get."""
        text = result if isinstance(result, str) else to_json(result, fallback=str).decode()
        return shortened(redacted(storable(text), self._secrets))


@dataclass
class Journalled(WrapperToolset[None]):
    """Tools whose calls go through `Calls`."""

    calls: Calls
    # Which ask a person first: all of them, or those.
    gated: bool | frozenset[str]
    # Which may be called again without harm.
    idempotent: Callable[[ToolDefinition], bool]
    timeout: float | None = None

    async def get_tools(self, ctx: RunContext[None]) -> dict[str, ToolsetTool[None]]:
        """Return the tools; those that change something are called one after the other."""
        tools = await super().get_tools(ctx)
        if self.gated not in (True, False) and (unknown := sorted(self.gated - set(tools))):
            # A typo must not open what was meant to be closed.
            raise EngineError(
                "bad_tool",
                f"`require_approval` names {unknown[0]!r}; there are {', '.join(sorted(tools))}.",
            )
        return {name: self._ordered(tool) for name, tool in tools.items()}

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[None], tool: ToolsetTool[None]
    ) -> str:
        """Return what a call has come to; see `Calls.answer`."""

        async def make() -> Any:
            return await self.wrapped.call_tool(name, tool_args, ctx, tool)

        request = Request(
            ctx.tool_call_id or "",
            name,
            _input(ctx, tool_args),
            self.idempotent(tool.tool_def),
            self.gated if isinstance(self.gated, bool) else name in self.gated,
            self.timeout,
            make,
        )
        return await self.calls.answer(request, ctx.messages)

    def _ordered(self, tool: ToolsetTool[None]) -> ToolsetTool[None]:
        alone = not self.idempotent(tool.tool_def)
        return replace(tool, tool_def=replace(tool.tool_def, sequential=alone))


def _input(ctx: RunContext[None], validated: dict[str, Any]) -> dict[str, Any]:
    """Return a call's arguments as the model has put them."""
    answer = answer_of(ctx.messages)
    calls = answer.tool_calls if answer else []
    found = next((call for call in calls if call.tool_call_id == ctx.tool_call_id), None)
    return storable_json(found.args_as_dict()) if found else validated
