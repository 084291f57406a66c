"""Compacting: a summary of the older part of a conversation that is near the end of its context.

A provider's config sets `context_window`, in tokens; else it is what is known of the model. The
transcript stays as it is: the summary stands for its older messages in what the model is sent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile

from genai_prices.data_snapshot import get_snapshot
from pydantic_ai import Agent, AgentRunResultEvent, CancellationToken
from pydantic_ai.exceptions import ModelContextWindowExceededError
from pydantic_ai.messages import ToolCallPart, ToolReturnPart
from pydantic_ai.models import Model
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RunUsage

from sessions_app.engine.base import Turn, Utterance
from sessions_app.engine.config import number
from sessions_app.engine.history import closed, restored
from sessions_app.engine.patience import unless_silent
from sessions_app.engine.registry import Provider

# Of the context window, what a prompt may fill before it is compacted.
FULL = 0.8
# Messages at the end that are never summarised.
KEPT = 6
# Characters of a token, on average: low, so that the estimate is high.
CHARACTERS = 3.5
# Tokens of a model of which nothing is known: it is asked, and may say that it is too much.
LEAST = 128_000
# Characters of a text that any model can read beside the instructions.
SHORTEST = 4000
# Characters of a call, or of its result, that are summarised.
SHOWN = 500
INSTRUCTIONS = (
    "Summarise the conversation below for the assistant who will go on with it and sees nothing "
    "else of it. Keep every fact, decision, name, path, number and open task that may matter; "
    "leave out pleasantries. Write at most 500 words, without an introduction."
)


def window(provider: Provider, model: Model) -> int | None:
    """Return the tokens that fit into the model's context; None where that is not known."""
    if provider.config.get("context_window") is not None:
        return int(number(provider.config, provider.module, "context_window", int))
    try:
        _, known = get_snapshot().find_provider_model(
            model.model_name, None, model.system, getattr(model, "base_url", None)
        )
    except LookupError:
        return None
    return known.context_window


def older(turn: Turn, instructions: str, tokens: int) -> tuple[Utterance, ...]:
    """Return the messages that a summary should stand for; none while all fits."""
    if len(turn.history) <= KEPT or turn.steps:
        return ()
    size = len(instructions) + len(turn.prompt) + len(turn.summary) + sum(map(_size, turn.history))
    if size / CHARACTERS <= FULL * tokens:
        return ()
    # A summary stands for all up to its last message: not for the prompt, and what waits after it.
    return tuple(takewhile(lambda each: each.seq < turn.seq, turn.history[:-KEPT]))


def written(before: str, messages: Sequence[Utterance], tokens: int) -> str:
    """Return messages as a model reads them that is to summarise them, after the summary so far.

    What is newest counts most where not even the older part fits.
    """
    lines = [f"Summary of what was before: {before}"] if before else []
    lines += [line for each in messages for line in _lines(each)]
    return "\n\n".join(lines)[-int(FULL * tokens * CHARACTERS) :]


async def summary_of(
    text: str, provider: Provider, model: Model, token: CancellationToken, used: RunUsage
) -> str:
    """Have the model summarise a text, or as much of its end as the model can read."""
    while True:
        try:
            return await _summarised(text, provider, model, token, used)
        except ModelContextWindowExceededError:
            # The window is smaller than what is known of it, or nothing is.
            if len(text) < SHORTEST:
                raise
            text = text[-len(text) // 4 :]


async def _summarised(
    text: str, provider: Provider, model: Model, token: CancellationToken, used: RunUsage
) -> str:
    limits = provider.limits
    # Services stream, or fail.
    stream = Agent(model, instructions=INSTRUCTIONS, retries={"output": 1}).run_stream_events(
        text,
        usage=used,
        cancellation_token=token,
        timeout=limits.run_timeout,
        model_settings=ModelSettings(first_event_timeout=limits.first_token_timeout),
    )
    async with unless_silent(provider) as patience, stream as events:
        async for event in events:
            if isinstance(event, AgentRunResultEvent):
                return event.result.output.strip()
            patience.hear(event)
    raise AssertionError("the agent's run ended without a result or an error")


def compacted(turn: Turn, summary: str, messages: Sequence[Utterance]) -> Turn:
    """Return the turn with a summary in the place of its oldest messages."""
    return replace(turn, summary=summary, history=turn.history[len(messages) :])


def _lines(utterance: Utterance) -> Iterator[str]:
    """Yield what was said, and what its run has done with tools."""
    if utterance.content.strip():
        yield f"{utterance.role}: {utterance.content}"
    for message in closed(restored(utterance.steps), utterance.calls):
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                yield f"call of {part.tool_name}: {part.args_as_json_str()[:SHOWN]}"
            elif isinstance(part, ToolReturnPart):
                yield f"result of {part.tool_name}: {part.model_response_str()[:SHOWN]}"


def _size(utterance: Utterance) -> int:
    return len(utterance.content) + sum(len(str(step)) for step in utterance.steps)
