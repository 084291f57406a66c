"""The request to a provider: a conversation in a form that the provider's service accepts.

Services do not accept every history: answers break off, calls have no results, providers change
in the middle, clients write messages of any role. Every request to a model passes through
`build_request`: first requests, resumed runs, fallbacks inside a run, changed profiles, forks and
clones. It uses only the capabilities of the target.

The same history gives the same bytes, and a message that is appended changes nothing before it, as
far as possible: services cache the beginning of a prompt. Comments below name the exceptions.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
# Certain, because a call is in the journal before it is made.
NEVER_MADE = "This call was not made: the run ended before it."
# Servers refuse empty results.
NO_OUTPUT = "(no output)"

# Messages for a server that wants one of the other role in a place where there is none.
BEGINNING = "(The conversation begins with the next message.)"
NO_ANSWER = "(No answer was given.)"
CONTINUE = "Continue."

# Characters of invalid arguments that the model which wrote them gets back.
_MOST_INVALID = 2_000
_ANY = r"[A-Za-z0-9_-]{1,64}"


@dataclass(frozen=True, slots=True)
class Names:
    """The names of tools in a request, and notes about tools for people."""

    # Sentences, one for each tool that is not offered.
    notes: tuple[str, ...] = ()
    _originals: Mapping[str, str] = field(default_factory=dict)

    def original(self, name: str) -> str:
        """Return our name of a tool that the model calls; an unknown name stays as it is."""
        return self._originals.get(name, name)


def build_request(
    messages: Sequence[Message],
    tools: Sequence[ToolSpec],
    instructions: str,
    can: ProviderCapabilities,
    service: str,
) -> tuple[Request, Names]:
    """Return the request for a service, and the names that its answer may use.

    The request always ends with a message to answer: if the history is empty or ends with an
    answer, a user's message "Continue." is added. Otherwise some servers would refuse the request,
    and others (llama.cpp) would continue the last answer.
    """
    pseudonyms = _Pseudonyms(can.tool_name_pattern, _name_candidates)
    offered, notes = _offer(tools if can.accepts_tools else (), pseudonyms, can.lenient_schemas)
    turns = _Turns(can.strict_roles)
    as_blocks = bool(offered) or can.tool_history_without_tools
    write = _CallWriter(pseudonyms, can.call_id_pattern).write if as_blocks else _write_as_text
    leading = [] if is_blank(instructions) else [instructions]
    for item in _pair(messages, service, can.trailing_thinking):
        if isinstance(item, _Exchange):
            for message in write(item):
                turns.add(message)
        elif isinstance(item, SystemMessage) and can.leading_system:
            # It joins the operator's instructions. In a user's message, a model might not obey it,
            # and users could imitate it. Each one costs a miss of the prompt cache from there on;
            # such messages are rare.
            leading.append(item.content)
        else:
            turns.add(item)
    request = Request("\n\n".join(leading), turns.finish(), offered)
    return request, Names(notes, pseudonyms.originals)


# Calls and their results


@dataclass(slots=True)
class _Exchange:
    """An answer with calls, and their results in the same order; None if one is missing."""

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
    """Return the messages that are not blank, each call with its result.

    A result belongs to the last answer before it that has a call with its id: ids are used again in
    later turns. If a call has several results, the first counts, because the model may have
    answered it. A result without a call becomes a text: what a tool did should not be lost.
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
    """Add a result to its call, unless that has one; return whether there is such a call."""
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
    """Return an answer as `service` may see it, without empty parts."""
    is_own = message.service == service
    parts: list[Part] = []
    for part in message.parts:
        if isinstance(part, Thinking):
            # It is signed, encrypted, or in a field that only its own service knows.
            if is_own and (part.opaque or not is_blank(part.text)):
                parts.append(part)
            continue
        if isinstance(part, Text) and is_blank(part.text) and not (is_own and part.opaque):
            continue
        parts.append(part if is_own or not part.opaque else replace(part, opaque=""))
    # Most services refuse an answer that ends in thinking.
    while not trailing_thinking and parts and isinstance(parts[-1], Thinking):
        parts.pop()
    if not any(map(_says_something, parts)):
        parts = []
    return _with_parts(message, parts)


def _says_something(part: Part) -> bool:
    return isinstance(part, ToolCall) or (isinstance(part, Text) and not is_blank(part.text))


def _with_parts(message: AssistantMessage, parts: Iterable[Part]) -> AssistantMessage:
    # `replace` would take three times as long.
    return AssistantMessage(tuple(parts), message.service, message.model, message.finish_reason)


def _sendable(arguments: str) -> str:
    """Return the arguments of a call as the text of a JSON object.

    Models write invalid JSON, and length limits cut it off. Such a call failed, and its result says
    why; but servers refuse a request that has it, or answer nothing. Arguments that are an object
    go back byte for byte.
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
# Numbers that may be too large for a float: JSON has no infinity.
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
    """Writes calls and results in their own form, with ids and names that the target accepts."""

    def __init__(self, names: "_Pseudonyms", id_pattern: str) -> None:
        self._names = names
        self._ids = _Pseudonyms(id_pattern, _id_candidates)
        self._uses: Counter[str] = Counter()

    def write(self, exchange: _Exchange) -> tuple[Message, Message]:
        calls: list[ToolCall] = []
        results: list[ToolResult] = []
        for call, result in exchange.pairs():
            self._uses[call.id] += 1
            # If an id is used again, it is another call.
            call_id = self._ids.find(call.id, self._uses[call.id])
            name = self._names.find(call.name)
            calls.append(ToolCall(call_id, name, _sendable(call.arguments), call.opaque))
            results.append(ToolResult(call_id, name, result.content, result.is_error))
        renamed = iter(calls)
        parts = [next(renamed) if isinstance(p, ToolCall) else p for p in exchange.answer.parts]
        return _with_parts(exchange.answer, parts), ToolMessage(tuple(results))


def _write_as_text(exchange: _Exchange) -> tuple[Message, Message]:
    """Write calls and results as texts, for targets that do not accept their own form.

    Opaque content is left out, because services bind it to the calls.
    """
    texts = [
        f"[Call of the tool {p.name} with {_sendable(p.arguments)}]"
        if isinstance(p, ToolCall)
        else p.text
        for p in exchange.answer.parts
        if _says_something(p)
    ]
    results = [_describe_result(result) for _, result in exchange.pairs()]
    answer = _with_parts(exchange.answer, [Text("\n\n".join(texts))])
    return answer, UserMessage("\n\n".join(results))


def _describe_result(result: ToolResult) -> str:
    what = "Error" if result.is_error else "Result"
    content = NO_OUTPUT if is_blank(result.content) else result.content
    return f"[{what} of the tool {result.name}]\n{content}"


# Turns


_Kind = Literal["user", "assistant", "tool", "system"]


class _Turns:
    """The messages of a request; if `strict`, user and assistant take turns."""

    def __init__(self, strict: bool) -> None:
        self._strict = strict
        self._turns: list[tuple[_Kind, list[Any]]] = []
        # The kind of the last turn that is not a system message, and its place.
        self._last: _Kind | None = None
        self._place = -1

    def add(self, message: Message) -> None:
        last = self._last if self._strict else ""
        if isinstance(message, ToolMessage):
            self._append("tool", message)
        elif isinstance(message, SystemMessage):
            if last == "user":
                # Before that turn, because more of the same turn may follow.
                self._turns.insert(self._place, ("system", [message]))
                self._place += 1
            else:
                self._turns.append(("system", [message]))
        elif isinstance(message, AssistantMessage):
            if last == "assistant":
                if not any(isinstance(part, Thinking) for part in message.parts):
                    self._turns[self._place][1].append(message)
                    return
                # Services want their thinking back at the beginning of a turn, where it was.
                self._append("user", UserMessage(CONTINUE))
            elif last is None:
                self._append("user", UserMessage(BEGINNING))
            self._append("assistant", message)
        elif last == "user":
            # The run of the message before failed.
            self._turns[self._place][1].append(message)
        else:
            if last == "tool":
                # Some servers (Mistral's) refuse a user's message directly after results.
                self._append("assistant", AssistantMessage((Text(NO_ANSWER),)))
            self._append("user", message)

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
    """Return several messages of one role as one, with a blank line between their texts."""
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
    # Opaque content that is left is for the target: the service's name must stay with it.
    owned = (m for m in messages if any(x.opaque or isinstance(x, Thinking) for x in m.parts))
    owner = next(owned, messages[-1])
    last_message = messages[-1]
    return replace(last_message, parts=tuple(parts), service=owner.service, model=owner.model)


# Names and ids


class _Pseudonyms:
    """Gives each of our names a different name that matches the target's pattern.

    An invalid pattern is replaced by the usual one.

    A name that matches already stays, unless it is taken. The result depends only on the names
    before it.
    """

    def __init__(self, pattern: str, candidates: Callable[[str, str], Iterator[str]]) -> None:
        try:
            self._pattern = re.compile(pattern or _ANY)
        except (re.error, RecursionError, OverflowError):
            self._pattern = re.compile(_ANY)
        self._candidates = candidates
        self._given: dict[tuple[str, int], str] = {}
        self.originals: dict[str, str] = {}

    def is_valid(self, name: str) -> bool:
        return not is_blank(name) and self._pattern.fullmatch(name) is not None

    def find(self, name: str, use: int = 1) -> str:
        """Return the pseudonym of the n-th use of a name."""
        key = (name, use)
        given = self._given.get(key)
        if given is not None:
            return given
        if name not in self.originals and self.is_valid(name):
            given = name
        else:
            candidates = (
                candidate
                for salt in range(100)
                for candidate in self._candidates(name, _digest(name, use, salt))
                if candidate not in self.originals and self._pattern.fullmatch(candidate)
            )
            # If no candidate matches the pattern, the server's answer will say so.
            given = next(candidates, _digest(name, use, 0)[:32])
        self._given[key] = given
        self.originals[given] = name
        return given


def _digest(name: str, use: int, salt: int) -> str:
    key = f"{use} {salt} {name}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(key).hexdigest()


def _id_candidates(_: str, digest: str) -> Iterator[str]:
    """Yield ids in the forms that services use: 9 letters are Mistral's."""
    yield f"call_{digest[:24]}"
    for length in (24, 9, 32, 16, 40, 12, 8, 6):
        yield digest[:length]
    yield f"toolu_{digest[:24]}"
    yield f"fc_{digest[:48]}"
    yield "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))
    yield from _other_alphabets(digest)


def _name_candidates(name: str, digest: str) -> Iterator[str]:
    """Yield names that a model still understands: they keep as much of ours as is allowed."""
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
    """Return the tools as they are offered, and a sentence for each that cannot be offered."""
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
    # Names that may stay come first, so that no other tool gets one of them.
    for name in sorted(usable, key=lambda name: not names.is_valid(name)):
        names.find(name)
    return tuple(replace(t, name=names.find(t.name)) for t in usable.values()), tuple(notes)
