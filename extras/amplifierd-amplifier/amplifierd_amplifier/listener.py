"""What amplifier-core tells of a run, passed on as the daemon's events."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from amplifier_core import HookRegistry, HookResult

from amplifierd_amplifier.calls import Calls
from amplifierd_amplifier.plan import Plan, describe_failure
from sessions_app.engine.base import Emit, EngineError, Outcome, Turn
from sessions_app.engine.output import RunOutput

# Before every hook of a module: a lower priority comes first.
FIRST = -1_000_000

Data = dict[str, Any]


# The daemon's names, and the kernel's.
NAMES = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cached_tokens": "cache_read_tokens",
    "reasoning_tokens": "reasoning_tokens",
}


class UsageCounter:
    """Adds up what `llm:response` tells: once for each call of a provider."""

    def __init__(self, before: dict[str, Any]) -> None:
        self.model = ""
        self._total: Counter[str] = Counter(before)

    @property
    def usage(self) -> dict[str, Any]:
        """Return all that the run has used, as `Outcome` has it."""
        return {**dict.fromkeys((*NAMES, "requests"), 0), **self._total}

    def add(self, response: dict[str, Any]) -> None:
        """Add a call of a provider; one that failed has used nothing that is known."""
        usage = response.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        self.model = str(response.get("model") or self.model)
        self._total["requests"] += 1
        for ours, theirs in NAMES.items():
            self._total[ours] += int(usage.get(theirs) or 0)
        if usage.get("cost_usd"):
            # The kernel tells it as text.
            self._total["cost"] += float(usage["cost_usd"])


class Listener:
    """Emits what is said, thought and called, and keeps text, usage and model."""

    def __init__(self, plan: Plan, turn: Turn, emit: Emit) -> None:
        self.calls = Calls(emit, plan.provider.keys)
        self.plan = plan
        # Set to what went wrong here: the kernel would log it, and go on.
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turn = turn
        provider = plan.provider
        self._output = RunOutput(provider.module, provider.limits, provider.keys, emit)
        self._usage = UsageCounter(turn.usage)
        # Since the last request to the model: the kinds that came in pieces, or came at all.
        self._streamed: set[str] = set()
        self._received: set[str] = set()

    def attach(self, hooks: HookRegistry) -> None:
        """Listen to the hooks of a session."""
        handlers: dict[str, Callable[[Data], Awaitable[None]]] = {
            "provider:request": self._begin_request,
            "llm:stream_block_delta": self._add_delta,
            "content_block:delta": self._add_delta,
            "thinking:delta": self._add_thinking,
            "content_block:end": self._add_block,
            "llm:response": self._count_response,
            "tool:pre": self._begin_call,
            "tool:post": self._end_call,
            "tool:error": self._end_call,
            "module:load_failed": self._fail,
            "module:on_session_ready_failed": self._fail,
        }
        for event, handler in handlers.items():
            hooks.register(
                event, self._guard_errors(handler), priority=FIRST, name=f"amplifierd {event}"
            )

    def check(self) -> None:
        """Raise what went wrong while listening, if anything."""
        if self.broken.done():
            self.broken.result()

    def finish(self, answer: Any) -> str:
        """Take what the orchestrator returns, unless it was heard; return all that was said."""
        if "text" not in self._received:
            self._add("text", _text(answer))
        self._output.flush()
        self.calls.close()
        return self._output.text

    def outcome(self, steps: tuple[Data, ...]) -> Outcome:
        """Return the outcome of a run that is finished.

        Raises EngineError `bad_answer` where nothing was said.
        """
        if not self._output.text.strip():
            raise EngineError("bad_answer", f"{self.plan.provider.module} gave no answer.")
        said = self._turn.output if self._turn.continues else ""
        return Outcome(
            said + self._output.text, self._usage.usage, self._usage.model, checkpoints=steps
        )

    def _guard_errors(self, handler: Callable[[Data], Awaitable[None]]) -> Any:
        async def handle(event: str, data: Data) -> HookResult:
            try:
                await handler(data)
            except Exception as error:
                self._break(error)
                # A tool must not be called whose call is not in the journal.
                return HookResult(action="deny", reason="The run is being stopped.")
            return HookResult(action="continue")

        return handle

    def _break(self, error: Exception) -> None:
        if not self.broken.done():
            self.broken.set_exception(error)
            # Asked for, asyncio does not complain where the run has ended meanwhile.
            self.broken.exception()

    async def _begin_request(self, data: Data) -> None:
        self._begin_answer()
        self.calls.close()

    def _begin_answer(self) -> None:
        self._output.flush()
        self._streamed.clear()
        self._received.clear()

    async def _add_delta(self, data: Data) -> None:
        self._stream(_kind(data.get("block_type")), data)

    async def _add_thinking(self, data: Data) -> None:
        self._stream("thinking", data)

    def _stream(self, kind: str, data: Data) -> None:
        self._streamed.add(kind)
        self._add(kind, _text(data.get("text") or data.get("delta")))

    async def _add_block(self, data: Data) -> None:
        """Take a block as a whole, of a provider that does not stream."""
        block = data.get("block")
        kind = _kind(block.get("type")) if isinstance(block, dict) else ""
        if kind and kind not in self._streamed:
            self._add(kind, _text(block))

    def _add(self, kind: str, piece: str) -> None:
        """Say or think a piece; pieces of other kinds, as of a tool's input, are not told."""
        add = {"text": self._output.add_text, "thinking": self._output.add_thinking}.get(kind)
        if not piece or add is None:
            return
        self._received.add(kind)
        add(piece)

    async def _count_response(self, data: Data) -> None:
        self._usage.add(data)

    async def _begin_call(self, data: Data) -> None:
        self._begin_answer()
        self.calls.begin(data)
        await self._turn.host.flush()

    async def _end_call(self, data: Data) -> None:
        self.calls.end(data)

    async def _fail(self, data: Data) -> None:
        raise describe_failure(str(data.get("module_id")), data.get("error"), self.plan)


def _kind(name: Any) -> str:
    kind = str(name or "text")
    return "thinking" if kind == "reasoning" else kind


def _text(value: Any) -> str:
    """Return the text of a piece, however it is wrapped."""
    if isinstance(value, dict):
        return _text(value.get("text") or value.get("thinking"))
    return value if isinstance(value, str) else ""
