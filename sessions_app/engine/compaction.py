"""Making a conversation fit into its model's context, whatever happened in it.

What is sent gets shorter in this order: long results of tools, oldest first; a summary in the
place of older messages of the transcript; a summary in the place of what the run itself has done
before its newest steps; long messages and arguments of calls, oldest first. The transcript and
the checkpoints stay as they are. All of it is worked out from what is stored, so a resumed run, a
fallback and a clone send the same.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, cast

from sessions_app.engine.base import EngineError, HistoryMessage, Turn
from sessions_app.engine.messages import (
    AssistantMessage,
    Message,
    Part,
    Request,
    SystemMessage,
    Text,
    Thinking,
    ToolCall,
    ToolMessage,
    ToolResult,
    UserMessage,
    load_checkpoints,
)
from sessions_app.engine.prices import context_window
from sessions_app.engine.providers.base import Provider
from sessions_app.engine.registry import provider_chain
from sessions_app.engine.transcript import close_calls, merge_results
from sessions_app.engine.wire.json_text import parse_json

# Of the context window, what a request may fill before it is made shorter.
FULL = 0.8
# Of the context window, what a request fills after it was made shorter: not so much that the
# next step needs it again.
ROOMY = 0.6
# Messages at the end of the transcript that are never summarised.
KEPT = 6
# Steps of the run itself that are never summarised: an answer and its results are two.
KEPT_STEPS = 4
# Characters of a token, on average: low, so that the estimate is high.
CHARACTERS = 3.5
# Tokens of a model of which nothing is known: it is asked, and may say that it is too much.
LEAST = 128_000
# Characters of a text that any model can read beside the instructions.
SHORTEST = 4000
# Characters that a shortened result of a tool keeps, at least.
RESULT_KEPT = 1000
# Characters of a call, or of its result, that are summarised.
SHOWN = 500
# What stands for what was cut out of a result, and out of another text.
_NOTE = (
    "[… {missing} characters of this result are left out here, to fit into the context. Call the "
    "tool again for a part of it.]"
)
_TEXT_NOTE = "[… {missing} characters of this text are left out here, to fit into the context.]"
# Items of a list in a call's arguments that are kept when these are cut.
_ITEMS = 50
INSTRUCTIONS = (
    "Summarise the conversation below for the assistant who will go on with it and sees nothing "
    "else of it. Keep every fact, decision, name, path, number and open task that may matter; "
    "leave out pleasantries. Write at most 500 words, without an introduction."
)


@dataclass(frozen=True)
class Shortened:
    """Messages of which some results were made shorter."""

    messages: list[Message]
    # In how many steps.
    count: int


def history_room(mount_plan: dict[str, Any]) -> float:
    """Return how many characters of a transcript a turn needs: those sent, and those summarised."""
    windows = [LEAST]
    try:
        chain = [each for each in provider_chain(mount_plan) if isinstance(each, Provider)]
        windows = [context_window(each) or LEAST for each in chain] or windows
    except EngineError:
        # The turn itself will fail with it.
        pass
    return 2 * CHARACTERS * max(windows)


def estimate_tokens(request: Request) -> float:
    """Return about how many tokens a request has, rather too many."""
    return size_of(request) / CHARACTERS


def size_of(request: Request) -> int:
    """Return the characters of a request."""
    tools = sum(
        len(tool.name) + len(tool.description) + len(str(tool.parameters)) for tool in request.tools
    )
    return len(request.instructions) + tools + sum(map(message_size, request.messages))


def message_size(message: Message) -> int:
    """Return the characters of a message as it is sent."""
    if isinstance(message, ToolMessage):
        return sum(len(result.content) for result in message.results)
    if isinstance(message, AssistantMessage):
        return sum(
            len(part.arguments) + len(part.name) if isinstance(part, ToolCall) else len(part.text)
            for part in message.parts
        )
    return len(message.content)


def excess_of(size: int, tokens: float) -> float:
    """Return how many characters are too many for a context of so many tokens; 0 if it fits.

    It grows in leaps, so that what was cut for one step is the same for the next ones, and services
    that cache a prompt by its beginning find it again.
    """
    room, leap = FULL * tokens * CHARACTERS, (FULL - ROOMY) * tokens * CHARACTERS
    return math.ceil((size - room) / leap) * leap if size > room else 0.0


def shorten_results(messages: Sequence[Message], excess: float) -> Shortened:
    """Return the messages with long results of tools cut, until `excess` characters are gone.

    The oldest are cut first, to the least that is kept; those of the newest step only if that is
    not enough, all to the same length. Beginning and end stay, with a note between.
    """
    changed = list(messages)
    rows = [row for row, message in enumerate(changed) if isinstance(message, ToolMessage)]
    count = 0
    for row in rows:
        if excess <= 0:
            break
        message = cast(ToolMessage, changed[row])
        longest = RESULT_KEPT if row != rows[-1] else _common_length(message, excess)
        cut = ToolMessage(tuple(_cut_result(result, longest) for result in message.results))
        gone = message_size(message) - message_size(cut)
        if gone > 0:
            changed[row], excess, count = cut, excess - gone, count + 1
    return Shortened(changed, count)


def shorten_texts(messages: Sequence[Message], excess: float, kept: Message) -> Shortened:
    """Return the messages with long texts and arguments of calls cut, the oldest first.

    It is the last resort: what was said last is never summarised, and one message may be longer
    than the context. `kept`, what is to be answered, stays as it is.
    """
    changed = list(messages)
    count = 0
    for row, message in enumerate(changed):
        if excess <= 0:
            break
        cut = message if message is kept else _cut_message(message)
        gone = message_size(message) - message_size(cut)
        if gone > 0:
            changed[row], excess, count = cut, excess - gone, count + 1
    return Shortened(changed, count)


def _cut_message(message: Message) -> Message:
    if isinstance(message, AssistantMessage):
        return replace(message, parts=tuple(map(_cut_part, message.parts)))
    if isinstance(message, UserMessage | SystemMessage):
        return replace(message, content=_cut_text(message.content))
    return message


def _cut_part(part: Part) -> Part:
    """Return a part that is no longer than what is kept; one that is signed is then no more."""
    if isinstance(part, Thinking):
        return part
    if isinstance(part, Text):
        text = _cut_text(part.text)
        return part if text == part.text else Text(text)
    if len(part.arguments) <= RESULT_KEPT:
        return part
    try:
        value = parse_json(part.arguments)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        return replace(part, arguments=json.dumps({"_invalid": _cut_text(part.arguments)}))
    return replace(part, arguments=json.dumps(_cut_values(value), ensure_ascii=False))


def _cut_values(value: Any) -> Any:
    if isinstance(value, str):
        return _cut_text(value)
    if isinstance(value, dict):
        return {key: _cut_values(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_cut_values(each) for each in value[:_ITEMS]]
    return value


def _cut_text(text: str) -> str:
    if len(text) <= RESULT_KEPT + len(_TEXT_NOTE) + 20:
        return text
    return cut_middle(text, RESULT_KEPT, _TEXT_NOTE)


def _common_length(message: ToolMessage, excess: float) -> int:
    """Return the length to which all results are cut, so that `excess` characters are gone."""
    sizes = sorted(len(result.content) for result in message.results)
    room = max(0.0, sum(sizes) - excess)
    for index, size in enumerate(sizes):
        share = room / (len(sizes) - index)
        if size > share:
            return max(RESULT_KEPT, int(share) - len(_NOTE) - 20)
        room -= size
    return max(RESULT_KEPT, sizes[-1])


def _cut_result(result: ToolResult, longest: int) -> ToolResult:
    if len(result.content) <= longest + len(_NOTE) + 20:
        return result
    return replace(result, content=cut_middle(result.content, longest))


def cut_middle(text: str, room: int, note: str = "") -> str:
    """Return the beginning and the end of a text, `room` characters of it, and what is missing."""
    head = room * 2 // 3
    tail = room - head
    note = (note or _NOTE).format(missing=len(text) - room)
    return f"{text[:head]}\n{note}\n{text[len(text) - tail :]}"


def older_messages(turn: Turn) -> tuple[HistoryMessage, ...]:
    """Return the messages of the transcript that a summary may stand for."""
    if len(turn.history) <= KEPT:
        return ()
    # A summary stands for all up to its last message: not for the prompt, and what waits after it.
    return tuple(takewhile(lambda each: each.seq < turn.seq, turn.history[:-KEPT]))


def older_steps(messages: Sequence[Message]) -> int:
    """Return how many of a run's own messages, from the first, a summary may stand for.

    What follows begins with an answer, so no result is left without its call.
    """
    split = len(messages) - KEPT_STEPS
    while split > 0 and not isinstance(messages[split], AssistantMessage):
        split -= 1
    return max(split, 0)


def write_transcript(before: str, messages: Sequence[HistoryMessage], tokens: float) -> str:
    """Return messages as a model reads them that is to summarise them, after the summary so far.

    What is newest counts most where not even the older part fits.
    """
    lines = [f"Summary of what was before: {before}"] if before else []
    lines += [line for each in messages for line in _history_lines(each)]
    return _fit("\n\n".join(lines), tokens)


def write_steps(before: str, messages: Sequence[Message], tokens: float) -> str:
    """Return what a run has done, as a model reads it that is to summarise it."""
    lines = [f"Summary of what was before: {before}"] if before else []
    lines += [line for message in messages for line in _message_lines(message)]
    return _fit("\n\n".join(lines), tokens)


def compact_turn(turn: Turn, summary: str, messages: Sequence[HistoryMessage]) -> Turn:
    """Return the turn with a summary in the place of its oldest messages."""
    return replace(turn, summary=summary, history=turn.history[len(messages) :])


def _fit(text: str, tokens: float) -> str:
    return text[-int(max(FULL * tokens * CHARACTERS, SHORTEST)) :]


def _history_lines(entry: HistoryMessage) -> Iterator[str]:
    """Yield what was said, and what its run has done with tools."""
    if entry.content.strip():
        yield f"{entry.role}: {entry.content}"
    steps = close_calls(merge_results(load_checkpoints(entry.checkpoints)), entry.calls)
    for message in steps:
        yield from _message_lines(message, texts=False)


def _message_lines(message: Message, *, texts: bool = True) -> Iterator[str]:
    if isinstance(message, ToolMessage):
        for result in message.results:
            yield f"result of {result.name}: {result.content[:SHOWN]}"
    elif isinstance(message, AssistantMessage):
        for part in message.parts:
            if isinstance(part, ToolCall):
                yield f"call of {part.name}: {part.arguments[:SHOWN]}"
            elif texts and isinstance(part, Text) and part.text.strip():
                yield f"assistant: {part.text}"
    elif texts:
        yield f"user: {message.content}"
