"""Making a conversation fit into its model's context window.

A request is shortened in this order: long results of tools are cut, oldest first; a summary
replaces older messages of the transcript; a summary replaces the run's own steps before its newest
ones; long messages and arguments of calls are cut, oldest first. The transcript and the checkpoints
do not change. The result depends only on what is stored, so a resumed run, a fallback and a clone
send the same.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, cast

from sessions_app.engine.base import EngineError, HistoryMessage, Turn
from sessions_app.engine.errors import describe_error
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
    UserMessage,
    load_checkpoints,
)
from sessions_app.engine.providers.base import Provider
from sessions_app.engine.registry import provider_chain
from sessions_app.engine.transcript import close_calls, merge_results
from sessions_app.engine.wire.events import StreamError
from sessions_app.engine.wire.json_text import parse_json_or

# A request is shortened if it fills more than this share of the context window.
FULL = 0.8
# The share that it fills afterwards: small enough that the next step need not shorten it again.
ROOMY = 0.6
# Messages at the end of the transcript that are never summarised.
KEPT = 6
# Steps of the run itself that are never summarised: an answer and its results are two.
KEPT_STEPS = 4
# Characters of a token, on average: a low number, so that the estimate of tokens is high.
CHARACTERS = 3.5
# The context window, in tokens, of a model that is not known. It may refuse a request as too long.
LEAST = 128_000
# Characters of a text that any model can read beside the instructions.
SHORTEST = 4000
# Characters that a shortened result of a tool keeps, at least.
RESULT_KEPT = 1000
# Characters of a call, or of its result, that a summary is made of.
SHOWN = 500
# After a refusal as too long: the next request may have this share of the refused one's tokens.
SMALLER = 0.5
# If the next request still has more than this share of the characters, nothing is left to cut.
NEARLY = 0.97
# Summaries help if instructions and prompt fill less than this share of the context window.
HALF = 0.5
# From so many characters on, a rejected request may be too long even if the error does not say it.
SUSPICIOUS_SIZE = 20_000
# Characters of a token at most: with more of them, a text certainly does not fit.
CHARACTERS_AT_MOST = 4.0
# The notes that replace the middle of a result, and of any other text.
_NOTE = (
    "[… {missing} characters of this result are left out here, to fit into the context. Call the "
    "tool again for a part of it.]"
)
_TEXT_NOTE = "[… {missing} characters of this text are left out here, to fit into the context.]"
# Items of a list that are kept if the arguments of a call are cut.
_ITEMS = 50
INSTRUCTIONS = (
    "Summarise the conversation below for the assistant who will go on with it and sees nothing "
    "else of it. Keep every fact, decision, name, path, number and open task that may matter; "
    "leave out pleasantries. Write at most 500 words, without an introduction."
)


@dataclass(frozen=True)
class Shortened:
    """Messages after some of them were cut."""

    messages: list[Message]
    # How many were cut.
    count: int


def history_room(mount_plan: dict[str, Any]) -> float:
    """Return how many characters of its transcript a turn needs, to send them or summarise them."""
    windows = [LEAST]
    try:
        chain = [each for each in provider_chain(mount_plan) if isinstance(each, Provider)]
        windows = [each.context_window() or LEAST for each in chain] or windows
    except EngineError:
        # The turn itself will fail with this error.
        pass
    return 2 * CHARACTERS * max(windows)


def size_of(request: Request) -> int:
    """Return the characters of a request: instructions, tools and messages."""
    tools = sum(
        len(tool.name) + len(tool.description) + len(str(tool.parameters)) for tool in request.tools
    )
    return len(request.instructions) + tools + sum(map(message_size, request.messages))


def message_size(message: Message) -> int:
    if isinstance(message, ToolMessage):
        return sum(len(result.content) for result in message.results)
    if isinstance(message, AssistantMessage):
        return sum(
            len(part.arguments) + len(part.name) if isinstance(part, ToolCall) else len(part.text)
            for part in message.parts
        )
    return len(message.content)


def excess_of(size: int, tokens: float) -> float:
    """Return by how many characters a request of `size` is too long for a context; 0 if it fits.

    The result is a multiple of a fixed step, so that following requests are cut in the same places,
    and services that cache the beginning of a prompt can use it again.
    """
    room, step = FULL * tokens * CHARACTERS, (FULL - ROOMY) * tokens * CHARACTERS
    return math.ceil((size - room) / step) * step if size > room else 0.0


class Window:
    """The size of a model's context window, as far as the attempt has learned it.

    Instructions and prompt are what a summary cannot replace.
    """

    def __init__(self, provider: Provider, instructions: str, prompt: str) -> None:
        self._provider = provider
        self._instructions, self._prompt = len(instructions), len(prompt)
        self._fixed = self._instructions + self._prompt
        known = provider.context_window()
        self._is_known = known is not None
        self.tokens: float = known or LEAST
        # Characters of the newest request that was refused as too long.
        self._refused_size = math.inf

    def excess(self, request: Request) -> float:
        """Return by how many characters a request is too long; 0 if it fits."""
        return excess_of(size_of(request), self.tokens)

    def may_shrink(self, error: StreamError, request: Request) -> bool:
        """Return whether a refused request may be accepted if it is made shorter."""
        size = size_of(request)
        if not self._provider.can.summarizes or size > NEARLY * self._refused_size:
            return False
        # Once: many servers reject a long request without saying that it is too long.
        in_doubt = error.kind == "rejected" and math.isinf(self._refused_size)
        return error.kind == "too_long" or (in_doubt and size > SUSPICIOUS_SIZE)

    def shrink(self, request: Request) -> None:
        """Note that a request was too long: the next ones must be shorter."""
        self._refused_size = size_of(request)
        self.tokens = min(self.tokens, size_of(request) / CHARACTERS) * SMALLER

    def leaves_room(self) -> bool:
        """Return whether instructions and prompt leave room for a conversation.

        Raises EngineError `too_long` if they cannot even fit by themselves.
        """
        if self._is_known and self._fixed / CHARACTERS_AT_MOST > self.tokens:
            raise self._too_long(f" ({self.tokens:.0f} tokens)")
        return self._fixed / CHARACTERS < HALF * self.tokens

    def describe_error(self, error: StreamError, request: Request) -> EngineError:
        """Return the EngineError for a refused request.

        If instructions and prompt make up most of it, the error gives their lengths.
        """
        if error.kind != "too_long" or self._fixed < HALF * size_of(request):
            return describe_error(error, self._provider)
        return self._too_long("", error.status)

    def _too_long(self, size: str, status: int | None = None) -> EngineError:
        return EngineError(
            "too_long",
            f"The profile's instructions ({self._instructions} characters) and the message "
            f"({self._prompt} characters) do not fit into the context of "
            f"{self._provider.module}{size}. Shorten them, or choose a model that reads more.",
            status,
        )


def shorten_results(messages: Sequence[Message], excess: float) -> Shortened:
    """Return the messages with long results of tools cut, until `excess` characters are gone.

    The oldest are cut first, to `RESULT_KEPT`; those of the newest step only if that is not enough,
    all to the same length. The beginning and the end stay, with a note between them.
    """
    changed = list(messages)
    rows = [row for row, message in enumerate(changed) if isinstance(message, ToolMessage)]
    count = 0
    for row in rows:
        if excess <= 0:
            break
        message = cast(ToolMessage, changed[row])
        longest = RESULT_KEPT
        if row == rows[-1]:
            # The common length at which `excess` characters are removed.
            sizes = sorted(len(result.content) for result in message.results)
            room = max(0.0, sum(sizes) - excess)
            longest = max(RESULT_KEPT, sizes[-1])
            for index, size in enumerate(sizes):
                share = room / (len(sizes) - index)
                if size > share:
                    longest = max(RESULT_KEPT, int(share) - len(_NOTE) - 20)
                    break
                room -= size
        cut = ToolMessage(
            tuple(
                replace(result, content=_cut_text(result.content, longest, _NOTE))
                for result in message.results
            )
        )
        gone = message_size(message) - message_size(cut)
        if gone > 0:
            changed[row], excess, count = cut, excess - gone, count + 1
    return Shortened(changed, count)


def shorten_texts(messages: Sequence[Message], excess: float, kept: Message) -> Shortened:
    """Return the messages with long texts and arguments of calls cut, the oldest first.

    It is the last resort: the newest messages are never summarised, and one alone may be longer
    than the context. `kept`, the message that the model is to answer, stays as it is.
    """
    changed = list(messages)
    count = 0
    for row, message in enumerate(changed):
        if excess <= 0:
            break
        cut = message
        if isinstance(message, AssistantMessage):
            cut = replace(message, parts=tuple(map(_cut_part, message.parts)))
        elif isinstance(message, UserMessage | SystemMessage) and message is not kept:
            cut = replace(message, content=_cut_text(message.content))
        gone = message_size(message) - message_size(cut)
        if gone > 0:
            changed[row], excess, count = cut, excess - gone, count + 1
    return Shortened(changed, count)


def _cut_part(part: Part) -> Part:
    """Return a part, cut if it is long. A text that is cut loses its signature."""
    if isinstance(part, Thinking):
        return part
    if isinstance(part, Text):
        text = _cut_text(part.text)
        return part if text == part.text else Text(text)
    if len(part.arguments) <= RESULT_KEPT:
        return part
    value = parse_json_or(part.arguments, None)
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


def _cut_text(text: str, room: int = RESULT_KEPT, note: str = _TEXT_NOTE) -> str:
    """Return a text; of a long one, `room` characters: its beginning, the note, its end."""
    if len(text) <= room + len(note) + 20:
        return text
    head = room * 2 // 3
    tail = room - head
    note = note.format(missing=len(text) - room)
    return f"{text[:head]}\n{note}\n{text[len(text) - tail :]}"


def older_messages(turn: Turn) -> tuple[HistoryMessage, ...]:
    """Return the messages of the transcript that a summary may replace."""
    if len(turn.history) <= KEPT:
        return ()
    # A summary replaces all messages up to its last one, so that must come before the prompt.
    return tuple(takewhile(lambda each: each.seq < turn.seq, turn.history[:-KEPT]))


def older_steps(messages: Sequence[Message]) -> int:
    """Return how many of a run's own messages, from the first one, a summary may replace.

    The next message is an answer, so that no result is left without its call.
    """
    split = len(messages) - KEPT_STEPS
    while split > 0 and not isinstance(messages[split], AssistantMessage):
        split -= 1
    return max(split, 0)


def write_transcript(before: str, messages: Sequence[HistoryMessage], tokens: float) -> str:
    """Return the text from which a model makes a summary of messages and of the summary before.

    If it is too long, its end is returned: new messages matter more than old ones.
    """
    lines: list[str] = []
    for message in messages:
        if message.content.strip():
            lines.append(f"{message.role}: {message.content}")
        steps = close_calls(merge_results(load_checkpoints(message.checkpoints)), message.calls)
        lines += [line for step in steps for line in _message_lines(step, texts=False)]
    return _join_lines(before, lines, tokens)


def write_steps(before: str, messages: Sequence[Message], tokens: float) -> str:
    """Return the text from which a model makes a summary of a run's own messages."""
    lines = [line for message in messages for line in _message_lines(message)]
    return _join_lines(before, lines, tokens)


def _join_lines(before: str, lines: list[str], tokens: float) -> str:
    lines = [f"Summary of what was before: {before}", *lines] if before else lines
    return "\n\n".join(lines)[-int(max(FULL * tokens * CHARACTERS, SHORTEST)) :]


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
