"""The request that a provider is sent, made of a conversation in a form that its service accepts.

What happened in a session is not what a server takes: answers break off, calls stay without
results, providers change in the middle, clients write messages of any role. Everything that is
sent to a model passes through `build_request`: first requests, resumed runs, fallbacks inside a
run, changed profiles, forks and clones. It asks only what the target can do.

The same history gives the same bytes, and what is appended to it changes nothing that stands
before, as far as possible: services cache the beginning of a prompt. Exceptions are said below.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import jiter

from amplifierd.common.text import is_blank
from sessions_app.engine.capabilities import ProviderCapabilities
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
    ToolSpec,
    UserMessage,
)
from sessions_app.engine.tool_schemas import SchemaError, normalize_schema

# The result that a model gets for a call that has none.
INTERRUPTED = (
    "This call was interrupted: it was begun and not brought to its end, and nobody knows whether "
    "it took effect. It was not repeated. Look first whether it did, before you call it again."
)
# Nothing is done of which the journal does not tell.
NEVER_MADE = "This call was not made: the run ended before it."
# Servers refuse empty results.
NO_OUTPUT = "(no output)"

# What stands where a server wants a message of the other role, and there was none.
BEGINNING = "(The conversation begins with the next message.)"
NO_ANSWER = "(No answer was given.)"
CONTINUE = "Continue."

# Characters of invalid arguments that are shown to the model which wrote them.
_MOST_INVALID = 2_000
_ANY = r"[A-Za-z0-9_-]{1,64}"


@dataclass(frozen=True, slots=True)
class Names:
    """The names of tools in a request, and what people should know about the tools in it."""

    # Sentences, one for each tool that is not offered.
    notes: tuple[str, ...] = ()
    _originals: Mapping[str, str] = field(default_factory=dict)

    def original(self, name: str) -> str:
        """Return our name of a tool that the model calls; a name that it made up stays as it is."""
        return self._originals.get(name, name)


def build_request(
    messages: Sequence[Message],
    tools: Sequence[ToolSpec],
    instructions: str,
    can: ProviderCapabilities,
    service: str,
) -> tuple[Request, Names]:
    """Return what a service is asked, and the names that its answer may use.

    The request always ends with something to answer: if the history is empty or ends with an
    answer, the user says "Continue.". Some servers refuse anything else, others (llama.cpp) take a
    last answer as the beginning of the next one.
    """
    pseudonyms = _Pseudonyms(can.tool_name_pattern, _name_candidates)
    offered, notes = _offer(tools if can.accepts_tools else (), pseudonyms, can.lenient_schemas)
    turns = _Turns(can.strict_roles)
    as_blocks = bool(offered) or can.tool_history_without_tools
    writer = (
        _CallWriter(turns, pseudonyms, can.call_id_pattern) if as_blocks else _TextWriter(turns)
    )
    leading = [] if is_blank(instructions) else [instructions]
    for item in _pair(messages, service, can.trailing_thinking):
        if isinstance(item, _Exchange):
            writer.add(item)
        elif isinstance(item, SystemMessage) and can.leading_system:
            # To the operator's instructions, not into a user's message, in which a model need not
            # obey it and which a user could imitate. This costs one miss of the prompt cache each
            # time, except for the instructions before it; such messages are rare.
            leading.append(item.content)
        else:
            turns.add(item)
    request = Request("\n\n".join(leading), turns.finish(), offered)
    return request, Names(notes, pseudonyms.originals)


# Calls and their results


@dataclass(slots=True)
class _Exchange:
    """An answer with calls, and their results in the same order; None for one that is missing."""

    answer: AssistantMessage
    calls: tuple[ToolCall, ...]
    results: list[ToolResult | None]

    def pairs(self) -> Iterator[tuple[ToolCall, ToolResult]]:
        for call, result in zip(self.calls, self.results, strict=True):
            if result is None:
                result = ToolResult(call.id, call.name, INTERRUPTED, is_error=True)
            elif is_blank(result.content):
                result = replace(result, content=NO_OUTPUT)
            yield call, result


def _pair(
    messages: Sequence[Message], service: str, trailing_thinking: bool
) -> list[Message | _Exchange]:
    """Return the messages that say something, each call with its result.

    A result belongs to the last answer that called its id, wherever it stands: ids are used again
    in later turns. The first result counts: the model may have answered to it. One for which there
    is no call at all becomes a text, because what a tool did should not be lost.
    """
    items: list[Message | _Exchange] = []
    # By id: calls of the last answer with that id that have no result yet.
    waiting: dict[str, list[tuple[_Exchange, int, str]]] = {}
    for message in messages:
        if isinstance(message, ToolMessage):
            orphans = [r for r in message.results if not _place(r, waiting)]
            if texts := [_describe_result(r) for r in orphans]:
                items.append(UserMessage("\n\n".join(texts)))
        elif isinstance(message, AssistantMessage):
            answer = _clean(message, service, trailing_thinking)
            calls = answer.tool_calls
            if calls:
                exchange = _Exchange(answer, calls, [None] * len(calls))
                waiting.update((call.id, []) for call in calls)
                for i, call in enumerate(calls):
                    waiting[call.id].append((exchange, i, call.name))
                items.append(exchange)
            elif answer.parts:
                items.append(answer)
        elif isinstance(message, UserMessage | SystemMessage) and not is_blank(message.content):
            items.append(message)
    return items


def _place(result: ToolResult, waiting: dict[str, list[tuple[_Exchange, int, str]]]) -> bool:
    """Put a result to its call, and return whether there is one, with or without a result."""
    calls = waiting.get(result.call_id)
    if calls is None:
        return False
    if calls:
        # Some servers give the same id to several calls of one answer.
        same = [i for i, (_, _, name) in enumerate(calls) if name == result.name]
        exchange, place, _ = calls.pop(same[0] if same else 0)
        exchange.results[place] = result
    return True


def _clean(message: AssistantMessage, service: str, trailing_thinking: bool) -> AssistantMessage:
    """Return an answer as `service` may see it, without anything that says nothing."""
    is_own = message.service == service
    parts: list[Part] = []
    for part in message.parts:
        if isinstance(part, Thinking):
            # Signed, encrypted, or in a field that only its own service knows.
            if is_own and (part.opaque or not is_blank(part.text)):
                parts.append(part)
            continue
        if isinstance(part, Text) and is_blank(part.text) and not (is_own and part.opaque):
            continue
        parts.append(part if is_own or not part.opaque else replace(part, opaque=""))
    # Most services refuse thinking after which nothing was said.
    while not trailing_thinking and parts and isinstance(parts[-1], Thinking):
        parts.pop()
    if not any(map(_says_something, parts)):
        parts = []
    return _with_parts(message, parts)


def _says_something(part: Part) -> bool:
    return isinstance(part, ToolCall) or (isinstance(part, Text) and not is_blank(part.text))


def _with_parts(message: AssistantMessage, parts: Iterable[Part]) -> AssistantMessage:
    # Not `replace`, which takes three times as long.
    return AssistantMessage(tuple(parts), message.service, message.model, message.finish_reason)


def _sendable(arguments: str) -> str:
    """Return the arguments of a call as the text of a JSON object.

    Models write invalid JSON, and length limits cut it off. The call did fail, its result says
    why; but servers refuse the whole request for such a call, or take it apart and send nothing.
    What is an object goes back byte for byte.
    """
    value = _parse(arguments)
    if isinstance(value, dict):
        return arguments
    if isinstance(value, str) and isinstance(_parse(value), dict):
        return value
    if value is None or is_blank(arguments):
        return "{}"
    return json.dumps({"_invalid": arguments[:_MOST_INVALID]}, ensure_ascii=False)


_INVALID = object()
# What may be more than a float holds: JSON has no word for infinity.
_HUGE = re.compile(r"[eE]\+?\d{3}|\d{300}")


def _parse(text: str) -> Any:
    try:
        value = jiter.from_json(text.encode(), allow_inf_nan=False)
        if _HUGE.search(text):
            json.dumps(value, allow_nan=False)
        return value
    except (ValueError, RecursionError):
        return _INVALID


class _CallWriter:
    """Writes calls and results as what they are, in the alphabet of the target."""

    def __init__(self, turns: "_Turns", names: "_Pseudonyms", id_pattern: str) -> None:
        self._turns = turns
        self._names = names
        self._ids = _Pseudonyms(id_pattern, _id_candidates)
        self._uses: Counter[str] = Counter()

    def add(self, exchange: _Exchange) -> None:
        calls: list[ToolCall] = []
        results: list[ToolResult] = []
        for call, result in exchange.pairs():
            self._uses[call.id] += 1
            # Each use of an id is a call of its own.
            call_id = self._ids.find(call.id, self._uses[call.id])
            name = self._names.find(call.name)
            calls.append(ToolCall(call_id, name, _sendable(call.arguments), call.opaque))
            results.append(ToolResult(call_id, name, result.content, result.is_error))
        renamed = iter(calls)
        parts = [next(renamed) if isinstance(p, ToolCall) else p for p in exchange.answer.parts]
        self._turns.add(_with_parts(exchange.answer, parts))
        self._turns.add(ToolMessage(tuple(results)))


class _TextWriter:
    """Writes calls and results as texts, for requests in which their own form is not allowed.

    Without opaque content: services tie it to the calls that are not there any more.
    """

    def __init__(self, turns: "_Turns") -> None:
        self._turns = turns

    def add(self, exchange: _Exchange) -> None:
        texts = [
            f"[Call of the tool {p.name} with {_sendable(p.arguments)}]"
            if isinstance(p, ToolCall)
            else p.text
            for p in exchange.answer.parts
            if _says_something(p)
        ]
        self._turns.add(_with_parts(exchange.answer, [Text("\n\n".join(texts))]))
        texts = [_describe_result(result) for _, result in exchange.pairs()]
        self._turns.add(UserMessage("\n\n".join(texts)))


def _describe_result(result: ToolResult) -> str:
    what = "Error" if result.is_error else "Result"
    content = NO_OUTPUT if is_blank(result.content) else result.content
    return f"[{what} of the tool {result.name}]\n{content}"


# Turns


_Kind = Literal["user", "assistant", "tool", "system"]


class _Turns:
    """The messages of a request, in turns of user and assistant if these are strict."""

    def __init__(self, strict: bool) -> None:
        self._strict = strict
        self._turns: list[tuple[_Kind, list[Any]]] = []
        # The last turn that is not a system message, and its place.
        self._last: _Kind | None = None
        self._place = -1

    def add(self, message: Message) -> None:
        if isinstance(message, SystemMessage):
            self._add_system(message)
        elif isinstance(message, ToolMessage):
            self._append("tool", message)
        elif isinstance(message, AssistantMessage):
            self._add_assistant(message)
        else:
            self._add_user(message)

    def _add_system(self, message: SystemMessage) -> None:
        if self._strict and self._last == "user":
            # Before that turn: more of the same turn may follow.
            self._turns.insert(self._place, ("system", [message]))
            self._place += 1
        else:
            self._turns.append(("system", [message]))

    def _add_user(self, message: UserMessage) -> None:
        if self._strict and self._last == "user":
            # A message whose run failed, and the next one.
            self._turns[self._place][1].append(message)
            return
        if self._strict and self._last == "tool":
            # For some servers results are the user's turn, which would be well; others
            # (Mistral's) refuse a user who speaks before the results are answered.
            self._append("assistant", AssistantMessage((Text(NO_ANSWER),)))
        self._append("user", message)

    def _add_assistant(self, message: AssistantMessage) -> None:
        if self._strict and self._last is None:
            self._append("user", UserMessage(BEGINNING))
        elif self._strict and self._last == "assistant":
            if not any(isinstance(part, Thinking) for part in message.parts):
                self._turns[self._place][1].append(message)
                return
            # Services want their thinking back where it was: at the beginning of a turn.
            self._append("user", UserMessage(CONTINUE))
        self._append("assistant", message)

    def _append(self, kind: _Kind, message: Message) -> None:
        self._last = kind
        self._place = len(self._turns)
        self._turns.append((kind, [message]))

    def finish(self) -> tuple[Message, ...]:
        if self._last in (None, "assistant"):
            self._append("user", UserMessage(CONTINUE))
        return tuple(
            messages[0] if len(messages) == 1 else _merge(messages) for _, messages in self._turns
        )


def _merge(messages: list[Any]) -> Message:
    """Return messages of one role as one, with a blank line between them."""
    if isinstance(messages[0], UserMessage):
        return UserMessage("\n\n".join(message.content for message in messages))
    parts: list[Part] = []
    for message in messages:
        first, *rest = message.parts
        if parts and isinstance(first, Text) and not first.opaque:
            last = parts[-1]
            if isinstance(last, Text) and not last.opaque:
                parts.pop()
                first = Text(f"{last.text}\n\n{first.text}")
            else:
                first = Text(f"\n\n{first.text}")
        parts += (first, *rest)
    # What is left of one service's own content is the target's: its name must stay with it.
    owner = next((m for m in messages if any(map(_is_of_service, m.parts))), messages[-1])
    last_message = messages[-1]
    return replace(last_message, parts=tuple(parts), service=owner.service, model=owner.model)


def _is_of_service(part: Part) -> bool:
    return bool(part.opaque) or isinstance(part, Thinking)


# Names and ids


class _Pseudonyms:
    """Gives each name of ours one that matches the target's pattern, and no other name has.

    What matches already stays, unless it is taken. A name depends only on those given before it.
    """

    def __init__(self, pattern: str, candidates: Callable[[str, str], Iterator[str]]) -> None:
        self._matches = _matcher(pattern)
        self._candidates = candidates
        self._given: dict[tuple[str, int], str] = {}
        self.originals: dict[str, str] = {}

    def is_valid(self, name: str) -> bool:
        return not is_blank(name) and self._matches(name)

    def find(self, name: str, use: int = 1) -> str:
        """Return the pseudonym of the n-th use of a name."""
        key = (name, use)
        given = self._given.get(key)
        if given is None:
            is_free = name not in self.originals
            given = name if is_free and self.is_valid(name) else self._make(name, use)
            self._given[key] = given
            self.originals[given] = name
        return given

    def _make(self, name: str, use: int) -> str:
        for salt in range(100):
            digest = _digest(name, use, salt)
            for candidate in self._candidates(name, digest):
                if candidate not in self.originals and self._matches(candidate):
                    return candidate
        # A pattern that nothing of ours matches: the server's answer will say so.
        return _digest(name, use, 0)[:32]


def _digest(name: str, use: int, salt: int) -> str:
    key = f"{use} {salt} {name}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(key).hexdigest()


@lru_cache(maxsize=64)
def _matcher(pattern: str) -> Callable[[str], bool]:
    """Return whether a name matches; a pattern that is none counts as the usual one."""
    try:
        compiled = re.compile(pattern or _ANY)
    except (re.error, RecursionError, OverflowError):
        compiled = re.compile(_ANY)
    return lambda name: compiled.fullmatch(name) is not None


def _id_candidates(_: str, digest: str) -> Iterator[str]:
    """Give ids of the shapes that services have: 9 letters are Mistral's."""
    yield f"call_{digest[:24]}"
    for length in (24, 9, 32, 16, 40, 12, 8, 6):
        yield digest[:length]
    yield f"toolu_{digest[:24]}"
    yield f"fc_{digest[:48]}"
    yield "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))
    yield from _other_alphabets(digest)


def _name_candidates(name: str, digest: str) -> Iterator[str]:
    """Give names that a model still understands: as much of ours as is allowed."""
    base = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    short = digest[:8]
    if any(char.isalnum() for char in base):
        yield from (base, f"t_{base}", base.replace("-", "_"), base.lower())
        for length in (119, 55, 51, 40, 31, 23, 15, 7):
            yield f"{base[:length]}_{short}"
            yield f"t_{base[: length - 2]}_{short}"
    yield f"tool_{short}"
    yield f"tool{short}"
    yield short
    yield from _other_alphabets(digest)


def _other_alphabets(digest: str) -> Iterator[str]:
    letters = digest.translate({ord(str(n)): "ghijklmnop"[n] for n in range(10)})
    numbers = str(int(digest, 16))
    for text in (letters, letters.upper(), digest.upper(), numbers):
        for length in (32, 9, 16, 6):
            yield text[:length]


# Tools


def _offer(
    tools: Sequence[ToolSpec], names: _Pseudonyms, lenient: bool
) -> tuple[tuple[ToolSpec, ...], tuple[str, ...]]:
    """Return the tools as they are offered, and a sentence for each that cannot be."""
    usable: dict[str, ToolSpec] = {}
    notes: list[str] = []
    for tool in tools:
        if is_blank(tool.name):
            notes.append("A tool without a name is not offered to the model: give it a name.")
        elif tool.name in usable:
            notes.append(
                f"Two tools are named {tool.name}: only the first is offered to the model."
            )
        else:
            try:
                usable[tool.name] = replace(
                    tool, parameters=normalize_schema(tool.parameters, lenient)
                )
            except SchemaError as error:
                notes.append(
                    f"The tool {tool.name} is not offered to the model: {error}. "
                    "Correct the schema where the tool is defined."
                )
    # First those that may keep their names, so that no other takes them.
    for name in sorted(usable, key=lambda name: not names.is_valid(name)):
        names.find(name)
    return tuple(replace(t, name=names.find(t.name)) for t in usable.values()), tuple(notes)
