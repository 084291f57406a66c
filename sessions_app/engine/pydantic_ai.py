"""The engine behind pydantic-ai: agent loop, provider clients, tools, usage."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

from pydantic_ai import (
    Agent,
    AgentRunResultEvent,
    CancellationToken,
    DeferredToolRequests,
    RunCancelled,
)
from pydantic_ai.exceptions import (
    AgentRunError,
    ModelContextWindowExceededError,
    RunTimedOut,
    UserError,
)
from pydantic_ai.models import Model
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits

from sessions_app.engine.base import Cancelled, Emit, EngineError, Outcome, Turn
from sessions_app.engine.conversation import Conversation
from sessions_app.engine.errors import described
from sessions_app.engine.limits import overrun
from sessions_app.engine.patience import unless_silent
from sessions_app.engine.registry import Provider, provider_chain
from sessions_app.engine.retries import retrying
from sessions_app.engine.toolsets import WRONG_CALLS

# What another provider may do better.
PASSES_ON = {"provider_error", "timeout", "missing_key", "bad_config", "bad_answer"}


class PydanticAIEngine:
    """Runs turns with pydantic-ai; holds no state between them."""

    async def run(self, turn: Turn, emit: Emit, cancel: asyncio.Event) -> Outcome:
        """Answer the turn with the providers that its mount plan names; see `Engine.run`."""
        chain = provider_chain(turn.mount_plan)
        async with Conversation.open(turn, emit, chain) as conversation:
            try:
                return await _through(chain, conversation, cancel)
            except EngineError as error:
                error.usage = conversation.exchange.usage()
                raise


async def _through(
    chain: list[Provider | EngineError], conversation: Conversation, cancel: asyncio.Event
) -> Outcome:
    """Ask one provider after the other, as long as none has said anything to the request."""
    for provider, following in pairwise([*chain, None]):
        try:
            return await _asked(provider, conversation, cancel)
        except EngineError as error:
            if following is None or error.code not in PASSES_ON or not conversation.is_silent:
                raise
            conversation.fall_back(provider, following, error)
    raise AssertionError("a chain has at least one provider")


async def _asked(
    provider: Provider | EngineError, conversation: Conversation, cancel: asyncio.Event
) -> Outcome:
    if isinstance(provider, EngineError):
        raise provider
    try:
        async with _cancellation(cancel) as token, await _opened(provider) as model:
            return await _fitting(model, provider, conversation, token)
    except RunTimedOut:
        raise overrun(provider.module, provider.limits, "run_timeout") from None
    except RunCancelled:
        raise Cancelled from None
    # Without the cause: its traceback would carry the provider's own words, and with
    # them what must not be logged.
    except (AgentRunError, UserError) as error:
        raise described(error, provider) from None


async def _opened(provider: Provider) -> Model:
    # A thread, because the first time loads the provider's client library.
    return await asyncio.to_thread(provider.open)


@asynccontextmanager
async def _cancellation(cancel: asyncio.Event) -> AsyncIterator[CancellationToken]:
    """Give a token that is cancelled as soon as the event is set."""
    token = CancellationToken()
    watcher = asyncio.create_task(_cancel_when(cancel, token))
    try:
        yield token
    finally:
        watcher.cancel()


async def _cancel_when(cancel: asyncio.Event, token: CancellationToken) -> None:
    await cancel.wait()
    token.cancel()


async def _fitting(
    model: Model, provider: Provider, conversation: Conversation, token: CancellationToken
) -> Outcome:
    """Answer with a conversation that fits into the model's context, as far as it can be known."""
    await conversation.compact(provider, model, token, at_any_rate=False)
    try:
        return await _answer(model, provider, conversation, token)
    except ModelContextWindowExceededError:
        if not conversation.is_silent:
            raise
        if not await conversation.compact(provider, model, token, at_any_rate=True):
            raise
        return await _answer(model, provider, conversation, token)


async def _answer(
    model: Model, provider: Provider, conversation: Conversation, token: CancellationToken
) -> Outcome:
    speech = await conversation.speak_with(provider, model)
    stream = _agent(model, provider, conversation).run_stream_events(
        message_history=conversation.exchange.messages,
        cancellation_token=token,
        timeout=provider.limits.run_timeout,
        usage=conversation.exchange.used,
        # Budgets are the profile's.
        usage_limits=UsageLimits(request_limit=None),
    )
    async with unless_silent(provider) as patience, stream as events:
        async for event in events:
            if isinstance(event, AgentRunResultEvent):
                speech.finish()
                return conversation.outcome(event.result)
            patience.hear(event)
            speech.hear(event)
    raise AssertionError("the agent's run ended without a result or an error")


def _agent(model: Model, provider: Provider, conversation: Conversation) -> Agent[None, object]:
    patience = provider.limits.first_token_timeout
    return Agent(
        model,
        output_type=[str, DeferredToolRequests],
        instructions=conversation.instructions or None,
        model_settings=ModelSettings(first_event_timeout=patience),
        toolsets=conversation.toolsets(provider),
        capabilities=[conversation.hooks(), retrying(provider, conversation.emit)],
        # An empty answer is an error, not a reason to ask once more unheard.
        retries={"output": 0, "tools": WRONG_CALLS},
    )
