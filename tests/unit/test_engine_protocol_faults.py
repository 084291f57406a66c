"""One table of faults, against every protocol: what becomes of a turn whose provider fails."""

import asyncio
import json

import pytest

from sessions_app.engine.base import EngineError
from sessions_app.engine.config import MASK
from sessions_app.engine.engines import get_engine
from sessions_app.engine.wire.sse import EVENT_LIMIT, LINE_LIMIT
from tests.harness.protocols import KEY, PROTOCOLS, Protocol, candidate
from tests.harness.providers import HEAD, Answer, event, fake_provider, floods, head, sends
from tests.harness.turns import DEADLINE, Played, code_of, play, turn

every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)


def played(protocol: Protocol, *answers: Answer, **config: object) -> Played:
    return play(*answers, protocol=protocol, **config)


def whole(protocol: Protocol) -> Answer:
    return sends(HEAD + protocol.begin + protocol.text("One") + protocol.end)


def refuses(protocol: Protocol, status: int, message: str = "no", *more: str) -> Answer:
    body = json.dumps(protocol.refusal(message)).encode()
    size = f"content-length: {len(body)}"
    return sends(head("application/json", size, *more, status=status) + body)


@every_protocol
@pytest.mark.parametrize("status", [429, 500])
def test_a_refusal_that_may_pass_is_asked_again_by_the_engine_alone(
    protocol: Protocol, status: int
) -> None:
    said = played(protocol, refuses(protocol, status, "come back"), whole(protocol))
    assert (said.content, len(said.fake.requests)) == ("One", 2)
    [retry] = said.retries
    assert (retry["status"], retry["provider"]) == (status, protocol.module)
    assert "come back" in retry["error"]


@every_protocol
def test_a_provider_that_asks_for_a_long_wait_is_not_asked_again(protocol: Protocol) -> None:
    said = played(protocol, refuses(protocol, 429, "no", "retry-after: 3600"))
    assert (code_of(said), len(said.fake.requests)) == ("provider_error", 1)
    assert said.error is not None and said.error.status == 429


@every_protocol
def test_a_provider_that_asks_for_a_short_wait_is_waited_for(protocol: Protocol) -> None:
    said = played(protocol, refuses(protocol, 429, "no", "retry-after: 0.2"), whole(protocol))
    [retry] = said.retries
    assert retry["delay"] >= 0.2


@every_protocol
def test_a_key_that_is_refused_is_told_without_it(protocol: Protocol) -> None:
    said = played(protocol, refuses(protocol, 401, f"Bad key {KEY}."))
    assert (code_of(said), len(said.fake.requests)) == ("provider_error", 1)
    assert f"Bad key {MASK}." in str(said.error)
    assert "Check `api_key`" in str(said.error)


@every_protocol
def test_an_answer_that_is_cut_fails_with_what_was_said(protocol: Protocol) -> None:
    begun = HEAD + protocol.begin + protocol.text("One")
    for cut in (begun, begun + protocol.text(" two")[:40], begun + protocol.end[:30]):
        said = played(protocol, sends(cut))
        assert (code_of(said), said.text) == ("provider_error", "One")
        assert "broke off" in str(said.error)
        assert len(said.fake.requests) == 1


@every_protocol
def test_a_failure_in_the_middle_is_one_of_the_provider(protocol: Protocol) -> None:
    said = played(protocol, sends(HEAD + protocol.begin + protocol.text("One") + protocol.failure))
    assert (code_of(said), said.text) == ("provider_error", "One")
    assert "overloaded" in str(said.error)


@every_protocol
def test_garbage_in_the_middle_is_a_bad_answer(protocol: Protocol) -> None:
    for line in (b"{broken", b"\xff\xfe", b"[" * 100_000):
        garbage = b"event: content_block_delta\n" + event(line)
        begun = HEAD + protocol.begin + protocol.text("One")
        said = played(protocol, sends(begun + garbage + protocol.end))
        assert (code_of(said), said.text) == ("bad_answer", "One")


@every_protocol
def test_what_is_no_stream_says_what_it_is(protocol: Protocol) -> None:
    for answer, words in (
        (sends(head("text/html") + b"<html>"), "a web page"),
        (sends(head("application/json") + b"{}"), "it sent"),
        (sends(HEAD), "without an answer"),
        (sends(HEAD + protocol.begin + protocol.end), "empty"),
    ):
        said = played(protocol, answer)
        assert (code_of(said), said.text) == ("bad_answer", "")
        assert words in str(said.error)
        assert protocol.module in str(said.error)


@every_protocol
@pytest.mark.parametrize("again", [b"x" * 10_000, b"data: x\n" * 1000], ids=["a line", "lines"])
def test_an_event_without_an_end_is_not_taken_in(protocol: Protocol, again: bytes) -> None:
    said = played(protocol, floods(HEAD + protocol.begin + b"data: ", again))
    assert code_of(said) == "too_long_answer"
    assert f"{EVENT_LIMIT} bytes, or {LINE_LIMIT} lines" in str(said.error)


def test_lines_that_are_no_event_and_that_a_client_keeps_are_not_taken_in() -> None:
    said = played(PROTOCOLS["google"], floods(HEAD, b"{\n\n" * 1000))
    assert code_of(said) == "too_long_answer"


@every_protocol
def test_an_endless_answer_is_stopped_and_its_connection_closed(protocol: Protocol) -> None:
    begun = HEAD + protocol.begin + protocol.text("0123456789")
    again = protocol.text("0123456789")
    said = played(protocol, floods(begun, again), max_characters=100, until_gone=True)
    assert (code_of(said), len(said.text)) == ("too_long_answer", 100)


@every_protocol
def test_a_silent_provider_is_given_up(protocol: Protocol) -> None:
    begun = HEAD + protocol.begin + protocol.text("One")
    said = played(protocol, sends(begun, waits=True), next_token_timeout=0.1, until_gone=True)
    assert (code_of(said), said.text) == ("timeout", "One")
    assert "next_token_timeout" in str(said.error)


def test_a_cut_answer_of_google_is_not_resumed_by_its_client() -> None:
    google = PROTOCOLS["google"]
    checkpoint = candidate({"text": "One"}, continuationToken="dG9rZW4=")
    said = played(google, sends(HEAD + checkpoint), whole(google))
    assert (code_of(said), said.text, len(said.fake.requests)) == ("provider_error", "One", 1)


def test_a_prompt_that_google_blocks_is_told_as_such() -> None:
    blocked = event({"promptFeedback": {"blockReason": "SAFETY"}, "modelVersion": "m"})
    said = played(PROTOCOLS["google"], sends(HEAD + blocked))
    assert code_of(said) == "bad_answer"
    assert "withheld" in str(said.error)


def test_azure_s_refusal_of_what_is_in_a_prompt_is_told_as_such() -> None:
    body = json.dumps({"error": {"code": "content_filter", "message": "no"}}).encode()
    size = f"content-length: {len(body)}"
    answer = sends(head("application/json", size, status=400) + body)
    said = played(PROTOCOLS["azure"], answer)
    assert (code_of(said), len(said.fake.requests)) == ("bad_answer", 1)
    assert "withheld" in str(said.error)


@every_protocol
def test_a_connection_that_does_not_come_about_is_given_up(protocol: Protocol) -> None:
    async def run() -> EngineError:
        async with fake_provider(whole(protocol), accepts=False) as fake:
            given = protocol.config(fake)
            secure = {protocol.place: given[protocol.place].replace("http:", "https:")}
            short = {"connect_timeout": 0.2, "max_retries": 0}
            with pytest.raises(EngineError) as caught:
                await get_engine().run(
                    turn(fake, protocol=protocol, **secure, **short),
                    lambda *_: None,
                    asyncio.Event(),
                )
            await asyncio.wait_for(fake.disconnected.wait(), DEADLINE)
        return caught.value

    error = asyncio.run(run())
    assert error.code == "timeout"
    assert "raise `connect_timeout`" in str(error)
