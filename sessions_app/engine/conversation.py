"""One attempt's conversation: its messages, tools and budgets, whichever providers take part."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from pydantic_ai import AgentRunResult, CancellationToken, DeferredToolRequests
from pydantic_ai.capabilities import Hooks
from pydantic_ai.messages import ModelResponse, ToolCallPart
from pydantic_ai.models import Model, ModelRequestContext
from pydantic_ai.tools import RunContext
from pydantic_ai.toolsets import AbstractToolset

from sessions_app.amounts import total
from sessions_app.engine.base import Emit, EngineError, Outcome, Turn
from sessions_app.engine.budget import budgets
from sessions_app.engine.calls import Calls
from sessions_app.engine.compacting import LEAST, compacted, older, summary_of, window, written
from sessions_app.engine.context import instructions, mentioned
from sessions_app.engine.exchange import Exchange
from sessions_app.engine.history import opening, restored, spoken
from sessions_app.engine.registry import Provider
from sessions_app.engine.speech import Speech
from sessions_app.engine.toolsets import Opened, journalled, opened_tools

# What the model is told, and what it is asked.
Context = tuple[str, str]
# Models that are too small to call a tool or to summarise; they leave out what is oldest.
SMALL = {"provider-local"}


class Conversation:
    """What an attempt says, is told and does, until it ends or waits."""

    def __init__(self, turn: Turn, emit: Emit, tools: list[Opened], context: Context) -> None:
        self.turn = turn
        self.emit = emit
        self.instructions, self._prompt = context
        self.exchange = Exchange(turn, opening(turn, self._prompt))
        self._tools = tools
        secrets = set().union(*(each.secrets for each in tools))
        self.exchange.secrets |= secrets
        self._calls = Calls(turn, emit, self.exchange, secrets)
        self._budget, self._tree = budgets(turn.mount_plan)
        self._speech: Speech | None = None
        self._said = turn.said

    @classmethod
    @asynccontextmanager
    async def open(
        cls, turn: Turn, emit: Emit, chain: Sequence[Provider | EngineError]
    ) -> AsyncIterator[Self]:
        """Give the conversation of a turn; its tools are closed at the end."""
        able = any(isinstance(each, Provider) and each.module not in SMALL for each in chain)
        context = await asyncio.to_thread(_context, turn)
        async with opened_tools(turn if able else _toolless(turn)) as tools:
            yield cls(turn, emit, tools, context)

    @property
    def is_silent(self) -> bool:
        """Tell whether nothing was said yet to what was asked last, and nothing done."""
        return not self._calls.are_pending and (self._speech is None or self._speech.is_silent)

    async def speak_with(self, provider: Provider, model: Model) -> Speech:
        """Return what passes on the words of a provider; an attempt that begins anew tells all."""
        said = self._speech.text if self._speech else self._said
        speech = self._calls.speech = Speech(provider, self.emit, said)
        self.exchange.secrets |= provider.keys
        if self._speech is None and self.turn.steps and not self.turn.continues:
            self._tell_again(speech)
        self._speech = speech
        return speech

    async def compact(
        self, provider: Provider, model: Model, token: CancellationToken, *, at_any_rate: bool
    ) -> bool:
        """Have a summary stand for older messages if they, or the provider says so, are too long.

        Tell whether there was anything to summarise. What the attempt has said and done stays. Ends
        as a request does: by the token, and by the provider's limits.
        """
        if provider.module in SMALL:
            return False
        tokens = window(provider, model) or LEAST
        messages = older(self.turn, self.instructions, 0 if at_any_rate else tokens)
        if not messages:
            return False
        await self._check_budgets()
        text = written(self.turn.summary, messages, tokens)
        summary = await summary_of(text, provider, model, token, self.exchange.used)
        self.turn = compacted(self.turn, summary, messages)
        self.exchange.reopen(opening(self.turn, self._prompt))
        await self.turn.host.compact(messages[-1].seq, summary, self.exchange.usage())
        return True

    def toolsets(self, provider: Provider) -> list[AbstractToolset[None]]:
        """Return the tools that the provider's model is offered."""
        return [] if provider.module in SMALL else journalled(self._tools, self._calls)

    def fall_back(
        self, provider: Provider | EngineError, following: object, error: EngineError
    ) -> None:
        """Tell that the next provider is asked instead, and why."""
        names = {"provider": _name(provider), "next": _name(following)}
        self.emit("provider_fallback", {**names, "error": str(error), "code": error.code})

    def hooks(self) -> Hooks[None]:
        """Return what is done before each request to a model."""

        async def before(
            context: RunContext[None], request: ModelRequestContext
        ) -> ModelRequestContext:
            self._calls.asked_anew()
            self.exchange.messages = list(request.messages)
            self._speech.begin()
            await self._check_budgets()
            return request

        return Hooks(before_model_request=before)

    def outcome(self, result: AgentRunResult[Any]) -> Outcome:
        """Return how the attempt has ended: with an answer, or with calls that wait."""
        usage, text = self.exchange.usage(), self._speech.text
        model = result.response.model_name or ""
        if isinstance(result.output, DeferredToolRequests):
            return Outcome(text, usage, model, waits=tuple(self._calls.waits))
        return Outcome(text, usage, model, self.exchange.rest(result.all_messages()))

    async def _check_budgets(self) -> None:
        used = self.exchange.usage()
        self._budget.check(used, "The run")
        if self._tree.is_set:
            whole = total(used, await self.turn.host.spent())
            self._tree.check(whole, "The tree of sessions that this one belongs to")

    def _tell_again(self, speech: Speech) -> None:
        """Emit what the kept steps say; calls of the newest one are told of when they are made."""
        calls: dict[str, ToolCallPart] = {}
        for message in restored(self.turn.steps):
            if isinstance(message, ModelResponse):
                speech.begin()
                speech.say(spoken([message]))
                calls = {call.tool_call_id: call for call in message.tool_calls}
            else:
                self._calls.tell_again(calls, message.parts)


def _context(turn: Turn) -> Context:
    """Return the instructions and the prompt, with what the directory has to say; reads files."""
    return instructions(turn), mentioned(turn)


def _toolless(turn: Turn) -> Turn:
    return Turn({**turn.mount_plan, "tools": []}, turn.prompt)


def _name(provider: object) -> str:
    return provider.module if isinstance(provider, Provider) else "a provider without its config"
