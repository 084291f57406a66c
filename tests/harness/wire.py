"""Streams of model servers as bytes, damaged in every way, and what a reader makes of them."""

import copy
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sessions_app.engine.messages import Part, Text, Thinking, ToolCall
from sessions_app.engine.wire.answer import Reader
from sessions_app.engine.wire.events import (
    Event,
    Finish,
    StreamError,
    TextDelta,
    ThinkingDelta,
    ToolCallEvent,
    Usage,
)
from sessions_app.engine.wire.json_text import clean_text
from sessions_app.engine.wire.sse import EventDecoder

# An event of a server: its name, if it has one, and its JSON.
Sent = tuple[str, Any]


def encode(events: Sequence[Sent]) -> bytes:
    """The bytes of a stream of events."""
    lines = [f"event: {name}\n" if name else "" for name, _ in events]
    texts = (json.dumps(data) for _, data in events)
    return "".join(
        f"{line}data: {text}\n\n" for line, text in zip(lines, texts, strict=True)
    ).encode()


def read(reader: Reader, *chunks: bytes) -> list[Event]:
    """All events that a reader makes of a body; what holds for every answer is checked."""
    decoder, events = EventDecoder(), []
    for chunk in chunks:
        for event in decoder.feed(chunk):
            events += reader.read(event)
    for event in decoder.finish():
        events += reader.read(event)
    events += reader.finish()
    assert reader.finish() == []
    check(events)
    return events


def check(events: list[Event]) -> None:
    """What holds for every answer: one end, and the parts are what the events have told."""
    ends = [event for event in events if isinstance(event, Finish | StreamError)]
    assert ends == events[-1:]
    told = [event.text for event in events if isinstance(event, TextDelta | ThinkingDelta)]
    assert all(told) and all(text == clean_text(text) for text in told)
    last = events[-1]
    if isinstance(last, StreamError):
        assert last.kind and last.message
        return
    # Blocks may be mixed with each other, so that only the amount is the same.
    assert sorted(text_of(last.parts, Text)) == sorted(joined(events, TextDelta))
    assert sorted(text_of(last.parts, Thinking)) == sorted(joined(events, ThinkingDelta))
    calls = [
        (part.id, part.name, part.arguments) for part in last.parts if isinstance(part, ToolCall)
    ]
    emitted = [(e.id, e.name, e.arguments) for e in events if isinstance(e, ToolCallEvent)]
    assert sorted(calls) == sorted(emitted)
    assert len({call_id for call_id, *_ in calls}) == len(calls)
    for part in last.parts:
        if part.opaque:
            assert part.opaque.isascii() and isinstance(json.loads(part.opaque), dict)


def text_of(parts: Sequence[Part], kind: type[Text | Thinking]) -> str:
    return "".join(part.text for part in parts if isinstance(part, kind))


def joined(events: Sequence[Event], kind: type[TextDelta | ThinkingDelta]) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


def usage_of(events: Sequence[Event]) -> tuple[int, int, int, int]:
    """What an answer has used: tokens of the input, of the output, cached, of reasoning."""
    last = [event for event in events if isinstance(event, Usage)][-1]
    return last.input_tokens, last.output_tokens, last.cached_tokens, last.reasoning_tokens


def error_of(events: Sequence[Event]) -> StreamError:
    last = events[-1]
    assert isinstance(last, StreamError), last
    return last


def finish_of(events: Sequence[Event]) -> Finish:
    last = events[-1]
    assert isinstance(last, Finish), last
    return last


# What a field may be instead.
_OTHERS: list[Any] = [None, "", "x", 0, -1, 1.5, True, [], [None], {}, {"type": "x"}, "\ud83d\0"]


def damaged_fields(events: Sequence[Sent]) -> Iterator[list[Sent]]:
    """The events with one field of one of them missing, or something else."""
    for number, (_, data) in enumerate(events):
        for turn, path in enumerate([(), *_paths(data)]):
            # A part of them at each place, all of them at places alike.
            for other in [KeyError, *_OTHERS[turn % 3 :: 3]]:
                changed = copy.deepcopy(list(events))
                changed[number] = (changed[number][0], _replace(changed[number][1], path, other))
                yield changed


def rearranged(events: Sequence[Sent]) -> Iterator[list[Sent]]:
    """The events with one of them missing, repeated, moved, or without its name."""
    for number, event in enumerate(events):
        before, after = list(events[:number]), list(events[number + 1 :])
        yield before + after
        yield [*before, event, event, *after]
        yield [*before, *after[:1], event, *after[1:]]
        yield [*before, event, ("ping", {"type": "ping"}), *after]
        yield [*before, ("", event[1]), *after]
        yield [*events, event]
    yield [("", data) for _, data in events]
    yield list(reversed(events))


def shuffled(events: Sequence[Sent], times: int) -> Iterator[list[Sent]]:
    """The events with several damages at once, by chance."""
    chance = random.Random(7)
    for _ in range(times):
        changed = copy.deepcopy(list(events))
        for _ in range(chance.randint(1, 4)):
            number = chance.randrange(len(changed))
            name, data = changed[number]
            paths = [(), *_paths(data)]
            damage = chance.randrange(4)
            if damage == 0:
                changed[number] = (
                    name,
                    _replace(data, chance.choice(paths), chance.choice(_OTHERS)),
                )
            elif damage == 1:
                changed.insert(chance.randrange(len(changed)), changed[number])
            elif damage == 2 and len(changed) > 1:
                changed.pop(number)
            else:
                chance.shuffle(changed)
        yield changed


DAMAGES = [damaged_fields, rearranged, lambda events: shuffled(events, 500)]


def check_damages(make: Callable[[], Reader], sent: Sequence[Sent], end: bytes = b"") -> None:
    """However a stream is damaged, an answer or an error is read of it; `end` always follows."""
    for damage in DAMAGES:
        damaged = [*damage(sent)]
        assert len(damaged) > 20
        for events in damaged:
            read(make(), encode(events) + end)


def check_chunks(make: Callable[[], Reader], body: bytes) -> int:
    """It does not matter where a stream is cut into chunks; returns how many ways were tried."""
    whole = read(make(), body)
    ways = [[body[:cut], body[cut:]] for cut in range(1, len(body))]
    ways.append([body[at : at + 1] for at in range(len(body))])
    ways.append([body.replace(b"\n", b"\r\n")])
    ways.append([body.replace(b"\n", b"\r")])
    ways.append([b": comment\n\n" + body + b"\n\n: bye"])
    for chunks in ways:
        assert read(make(), *chunks) == whole
    return len(ways)


def check_cuts(make: Callable[[], Reader], body: bytes, end: int) -> int:
    """A stream that ends before byte `end` is broken off, one that ends after it is whole."""
    whole = read(make(), body)
    for cut in range(len(body)):
        events = read(make(), body[:cut])
        if cut < end:
            assert error_of(events).kind in ("broken_off", "bad_answer")
            assert joined(whole, TextDelta).startswith(joined(events, TextDelta))
        else:
            assert events[-1] == whole[-1]
    return len(body)


def _paths(data: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = (
        data.items()
        if isinstance(data, dict)
        else enumerate(data)
        if isinstance(data, list)
        else ()
    )
    for key, value in items:
        yield (*before, key)
        yield from _paths(value, (*before, key))


def _replace(data: Any, path: Sequence[Any], other: Any) -> Any:
    if not path:
        return {} if other is KeyError else other
    data = copy.copy(data)
    if len(path) > 1:
        data[path[0]] = _replace(data[path[0]], path[1:], other)
    elif other is KeyError:
        del data[path[0]]
    else:
        data[path[0]] = other
    return data
