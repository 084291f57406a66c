"""What becomes of a turn whose provider answers nonsense, breaks off, or never ends."""

import asyncio
from typing import Any

import pytest

from sessions_app.engine.base import Cancelled
from sessions_app.engine.engines import get_engine
from sessions_app.engine.wire.sse import EVENT_LIMIT
from tests.harness.providers import (
    DONE,
    HEAD,
    ONE,
    STOP,
    Answer,
    breaks_off,
    choice,
    chunk,
    event,
    fake_provider,
    floods,
    head,
    refuses,
    sends,
    streams,
)
from tests.harness.turns import DEADLINE, code_of, play, turn

BAD_SHAPES = [
    [1, 2],
    "text",
    None,
    {"choices": "no"},
    {"choices": {"a": 1}},
    {"choices": [1]},
    {"choices": [{"index": 0, "delta": "x"}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [3]}}]},
    {"choices": [], "usage": "none"},
]


@pytest.mark.parametrize("shape", BAD_SHAPES, ids=str)
def test_an_event_of_another_shape_is_a_bad_answer(shape: Any) -> None:
    played = play(sends(ONE + event(shape) + STOP + DONE))
    assert (code_of(played), played.text) == ("bad_answer", "One")
    assert code_of(play(sends(HEAD + event(shape) + event(shape)))) == "bad_answer"


@pytest.mark.parametrize(
    "line",
    [b"{broken", b"\xff\xfe", b"[" * 100_000, b"9" * 10_000],
    ids=["no JSON", "no UTF-8", "too deep", "too large a number"],
)
def test_an_event_that_cannot_be_decoded_is_a_bad_answer(line: bytes) -> None:
    played = play(sends(ONE + event(line)))
    assert (code_of(played), played.text) == ("bad_answer", "One")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (sends(head("text/html; charset=utf-8") + b"<html>"), "web page"),
        (sends(head("application/json") + b"{}"), "streams"),
        (sends(head("text/event-stream", "content-encoding: gzip") + b"x"), "compressed"),
        (sends(HEAD), "without an answer"),
        (sends(HEAD + b"plain words\n"), "without an answer"),
        (sends(HEAD + STOP + DONE), "empty"),
        (sends(HEAD + DONE), "gave no usable answer"),
    ],
    ids=["HTML", "JSON", "compressed", "nothing", "text", "no word", "only the end"],
)
def test_what_is_no_answer_says_what_it_is(answer: Answer, words: str) -> None:
    played = play(answer)
    assert (code_of(played), played.text) == ("bad_answer", "")
    assert words in str(played.error)
    assert len(played.fake.requests) == 1


def test_thinking_alone_is_no_answer_and_not_asked_for_again() -> None:
    played = play(sends(HEAD + chunk(choices=[choice({"reasoning_content": "hm"})]) + STOP))
    assert code_of(played) == "bad_answer"
    assert len(played.fake.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [sends(ONE), sends(ONE + chunk(" two")[:40]), breaks_off("One")],
    ids=["after an event", "in an event", "in HTTP"],
)
def test_an_answer_that_is_cut_fails_with_what_was_said(answer: Answer) -> None:
    played = play(answer)
    assert (code_of(played), played.text) == ("provider_error", "One")
    assert "broke off" in str(played.error)


@pytest.mark.parametrize("end", [STOP, DONE])
def test_either_mark_of_the_end_makes_an_answer_whole(end: bytes) -> None:
    assert play(sends(ONE + end)).content == "One"


def test_what_no_database_takes_is_replaced() -> None:
    thought = chunk(choices=[choice({"reasoning_content": "a\ud800"})])
    played = play(sends(HEAD + thought + chunk("b\0c\udfff") + STOP))
    assert (played.thoughts, played.text) == ("a\ufffd", "b\ufffdc\ufffd")
    assert played.content == "b\ufffdc\ufffd"
    assert "\ufffd" in str(play(refuses(400, "no\0")).error)


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "http://host:port/v1"])
def test_a_base_url_that_is_none_is_named(url: str) -> None:
    error = play(streams("never"), base_url=url).error
    assert error is not None
    assert (error.code, "base_url" in str(error)) == ("bad_config", True)


@pytest.mark.parametrize(
    ("delta", "kind"),
    [
        ({"content": "0123456789"}, "text"),
        ({"reasoning_content": "0123456789"}, "thinking"),
        ({"tool_calls": [{"index": 0, "function": {"arguments": "0123456789"}}]}, "tool calls"),
    ],
)
def test_an_endless_answer_is_stopped_and_its_connection_closed(
    delta: dict[str, Any], kind: str
) -> None:
    call = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
    begun = chunk(choices=[choice({"tool_calls": [call]})]) if kind == "tool calls" else b""
    again = chunk(choices=[choice(delta)])
    played = play(floods(HEAD + begun, again), max_characters=100, until_gone=True)
    assert code_of(played) == "too_long_answer"
    assert f"100 characters of {kind}" in str(played.error)
    assert played.text == ("0123456789" * 10 if kind == "text" else "")


def test_an_answer_of_endless_pieces_is_stopped() -> None:
    played = play(floods(HEAD, chunk("x")), max_pieces=10, until_gone=True)
    assert (code_of(played), played.text) == ("too_long_answer", "x" * 10)


@pytest.mark.parametrize(
    "answer",
    [
        floods(HEAD + b"data: ", b"x" * 10_000),
        floods(HEAD, b"data: x\n" * 1000),
        sends(ONE + chunk("x" * 10 * EVENT_LIMIT), STOP + DONE),
    ],
    ids=["a line", "lines", "a giant piece"],
)
def test_an_event_that_is_too_large_is_not_taken_in(answer: Answer) -> None:
    played = play(answer)
    assert code_of(played) == "too_long_answer"
    assert str(EVENT_LIMIT) in str(played.error)


def test_the_body_of_an_error_is_read_only_so_far() -> None:
    answer = floods(head("text/plain", status=400), b"x" * 10_000)
    assert play(answer, until_gone=True).error is not None


def test_beside_an_endless_answer_others_are_answered() -> None:
    async def run() -> str:
        stop = asyncio.Event()
        async with (
            fake_provider(floods(HEAD, chunk("x") * 100)) as endless,
            fake_provider(streams("One", " two")) as other,
            asyncio.timeout(DEADLINE),
        ):
            loud = asyncio.create_task(get_engine().run(turn(endless), lambda *_: None, stop))
            await endless.waiting.wait()
            outcome = await get_engine().run(turn(other), lambda *_: None, asyncio.Event())
            assert not loud.done()
            stop.set()
            with pytest.raises(Cancelled):
                await loud
        return outcome.content

    assert asyncio.run(run()) == "One two"
