"""Asking model servers over real sockets: limits, refusals, connections, proxies."""

import asyncio
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import pytest

from sessions_app.engine.base import EngineError
from sessions_app.engine.limits import Limits
from sessions_app.engine.wire.chat import ChatReader
from sessions_app.engine.wire.errors import read_error, read_payload
from sessions_app.engine.wire.events import Event, Finish, ProviderError, StreamError, TextDelta
from sessions_app.engine.wire.http import ERROR_LIMIT, open_stream, stream_events
from sessions_app.engine.wire.proxies import find_proxy
from tests.harness.providers import (
    CHUNKED,
    DONE,
    HEAD,
    ONE,
    STOP,
    Answer,
    FakeProvider,
    breaks_off,
    chunk,
    chunked,
    fake_provider,
    floods,
    head,
    sends,
    streams,
)
from tests.harness.sites import listening

DEADLINE = 20


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def ask(url: str, headers: dict[str, str] | None = None, **limits: Any) -> list[Event]:
    """The events of an answer; the last one may be the error that ended it."""
    events: list[Event] = []
    try:
        async with (
            asyncio.timeout(DEADLINE),
            stream_events(
                f"{url}/chat/completions", headers or {}, {"a": 1}, Limits(**limits), ChatReader()
            ) as stream,
        ):
            async for event in stream:
                events.append(event)
    except ProviderError as error:
        events.append(error.error)
    return events


def answered(
    *answers: Answer, headers: dict[str, str] | None = None, **limits: Any
) -> tuple[list[Event], FakeProvider]:
    async def run() -> tuple[list[Event], FakeProvider]:
        async with fake_provider(*answers) as fake:
            return await ask(fake.url, headers, **limits), fake

    return asyncio.run(run())


def error(*answers: Answer, **options: Any) -> StreamError:
    events, _ = answered(*answers, **options)
    assert isinstance(events[-1], StreamError), events
    return events[-1]


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_an_answer_is_read_and_the_request_is_what_was_asked() -> None:
    events, fake = answered(streams("One", " two"), headers={"Authorization": "Bearer k"})
    assert (text(events), type(events[-1])) == ("One two", Finish)
    assert fake.requests == [{"a": 1}]
    sent = fake.headers[0].lower()
    assert "authorization: bearer k" in sent and "accept-encoding: identity" in sent
    assert "content-type: application/json" in sent


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (sends(HEAD), "bad_answer", "without an answer"),
        (sends(HEAD + b"plain words\n"), "bad_answer", "without an answer"),
        (sends(b""), "broken_off", ""),
        (sends(CHUNKED), "broken_off", ""),
        (breaks_off("One"), "broken_off", ""),
        (sends(ONE), "broken_off", ""),
        (sends(head("text/html") + b"<html>"), "bad_answer", "web page"),
        (sends(head() + b"\n<!DOCTYPE html><p>"), "bad_answer", "web page"),
        (sends(head("application/json") + b"{}"), "bad_answer", "as a whole"),
        (sends(head("x", "content-encoding: gzip") + b"x"), "bad_answer", "compressed"),
        (sends(head("x", "content-encoding: br") + b"x"), "bad_answer", "compressed"),
        (sends(b"nonsense\r\n\r\n"), "broken_off", ""),
        (floods(HEAD + b"data: ", b"x" * 10_000), "too_long_answer", "1000000 bytes"),
        (floods(HEAD, b"data: x\n" * 1000), "too_long_answer", "1000 lines"),
        (floods(HEAD, chunk("x" * 100)), "too_long_answer", "1000 characters of text"),
        (
            sends(head("x", "location: http://u:p@e.example/x?key=k", status=307)),
            "bad_config",
            "e.example",
        ),
    ],
    ids=[
        "no event",
        "plain words",
        "nothing at all",
        "no chunk",
        "an unfinished chunk",
        "no end",
        "HTML",
        "HTML without its label",
        "an empty object",
        "damaged gzip",
        "brotli",
        "no HTTP",
        "an endless line",
        "endless lines",
        "endless text",
        "a redirect",
    ],
)
def test_what_is_no_answer_is_told_as_what_it_is(answer: Answer, kind: str, words: str) -> None:
    found = error(answer, max_characters=1000)
    assert found.kind == kind
    assert words in found.message
    assert "<" not in found.message and "key=k" not in found.message


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/octet-stream"])
def test_a_stream_is_read_whatever_its_label(kind: str) -> None:
    events, _ = answered(sends(head(kind) + chunk("One\u2028") + STOP + DONE))
    assert text(events) == "One\u2028"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_an_answer_that_is_packed_unasked_is_unpacked(encoding: str) -> None:
    import zlib

    body = chunk("One") + STOP + DONE
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    parts = [packed[at : at + 9] for at in range(0, len(packed), 9)]
    events, _ = answered(sends(head("text/event-stream", f"content-encoding: {encoding}"), *parts))
    assert text(events) == "One"


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b"data: " + b"x" * 100_000_000, 1)
    found = error(sends(head("text/event-stream", "content-encoding: gzip") + bomb))
    assert found.kind == "too_long_answer"


def test_the_body_of_an_error_is_read_only_so_far() -> None:
    found = error(floods(head("text/plain", status=400), b"x" * 10_000))
    assert found.kind == "rejected" and len(found.message) < ERROR_LIMIT


@pytest.mark.parametrize(
    ("answer", "limits", "kind"),
    [
        (sends(waits=True), {"first_token_timeout": 0.2}, "first_token_timeout"),
        (sends(HEAD, waits=True), {"first_token_timeout": 0.2}, "first_token_timeout"),
        (sends(ONE, waits=True), {"next_token_timeout": 0.2}, "next_token_timeout"),
        (sends(head(status=500), waits=True), {"first_token_timeout": 0.2}, "overloaded"),
    ],
)
def test_silence_has_an_end(answer: Answer, limits: dict[str, float], kind: str) -> None:
    began = time.monotonic()
    assert error(answer, **limits).kind == kind
    assert 0.15 < time.monotonic() - began < 5


def test_a_complete_answer_may_lack_its_end() -> None:
    events, _ = answered(sends(ONE + STOP, waits=True), next_token_timeout=0.2)
    assert isinstance(events[-1], Finish)
    events, _ = answered(sends(CHUNKED + chunked(chunk("One"), STOP)))
    assert isinstance(events[-1], Finish)


def drips(*parts: bytes, every: float) -> Answer:
    async def answer(reader: Any, writer: asyncio.StreamWriter, fake: FakeProvider) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(every)

    return answer


def test_signs_of_life_keep_an_answer_alive() -> None:
    pings = [b": ping\n\n"] * 4 + [b"event: ping\ndata: {}\n\n"] * 4
    events, _ = answered(
        drips(HEAD, *pings, chunk("One"), *pings, STOP, DONE, every=0.1),
        first_token_timeout=0.5,
        next_token_timeout=0.5,
    )
    assert text(events) == "One"


FROZEN = """
import asyncio, sys
from sessions_app.engine.limits import Limits
from sessions_app.engine.wire.http import stream_events
from sessions_app.engine.wire.chat import ChatReader

async def main():
    limits = Limits(first_token_timeout=3, next_token_timeout=3)
    async with stream_events(sys.argv[1], {}, {}, limits, ChatReader()) as events:
        async for event in events:
            print(type(event).__name__, flush=True)

asyncio.run(main())
"""


@pytest.mark.long
@pytest.mark.alone
def test_a_process_that_stood_still_does_not_fail_a_healthy_stream() -> None:
    async def run() -> list[bytes]:
        go_on = asyncio.Event()

        async def answer(reader: Any, writer: asyncio.StreamWriter, fake: FakeProvider) -> None:
            writer.write(HEAD + chunk("One"))
            await writer.drain()
            await go_on.wait()
            await asyncio.sleep(0.5)
            writer.write(chunk("two") + STOP + DONE)
            await writer.drain()

        async with fake_provider(answer) as fake, asyncio.timeout(60):
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", FROZEN, fake.url, stdout=subprocess.PIPE
            )
            assert child.stdout
            lines = [await child.stdout.readline()]
            os.kill(child.pid, signal.SIGSTOP)
            # Longer than the limit, and the jump that is noticed.
            await asyncio.sleep(7)
            os.kill(child.pid, signal.SIGCONT)
            go_on.set()
            lines += (await child.stdout.read()).splitlines()
            assert await child.wait() == 0
        return [line.strip() for line in lines]

    assert asyncio.run(run()) == [b"TextDelta", b"TextDelta", b"Finish"]


def test_leaving_early_and_cancelling_close_the_connection() -> None:
    async def run(is_cancelled: bool) -> None:
        async with fake_provider(sends(ONE, waits=True)) as fake, asyncio.timeout(DEADLINE):
            began = asyncio.Event()

            async def read() -> None:
                async with stream_events(fake.url, {}, {}, Limits(), ChatReader()) as events:
                    await anext(events)
                    began.set()
                    if is_cancelled:
                        await anext(events)

            task = asyncio.create_task(read())
            await began.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled() or not is_cancelled
            await fake.disconnected.wait()

    asyncio.run(run(False))
    asyncio.run(run(True))


@asynccontextmanager
async def server(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async with listening(serve) as port:
        yield port


async def take(reader: asyncio.StreamReader) -> str:
    """The head of a request, the body of which is read."""
    sent = (await reader.readuntil(b"\r\n\r\n")).decode()
    if "content-length: " in sent.lower():
        await reader.readexactly(int(sent.lower().split("content-length: ")[1].split("\r\n")[0]))
    return sent


WHOLE = CHUNKED + chunked(chunk("One"), STOP, DONE, b"")


def test_connections_are_used_again_and_a_stale_one_is_replaced_unseen() -> None:
    async def run() -> list[int]:
        requests: list[int] = []

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            requests.append(0)
            # The third request is taken, and the connection closed instead of an answer.
            for _ in range(3):
                await take(reader)
                requests[-1] += 1
                if requests == [3]:
                    return
                writer.write(WHOLE)
                await writer.drain()

        async with server(handle) as port:
            for _ in range(4):
                events = await ask(f"http://127.0.0.1:{port}/v1")
                assert text(events) == "One"
        return requests

    assert asyncio.run(run()) == [3, 2]


def test_a_fresh_connection_that_is_closed_is_not_tried_again_unseen() -> None:
    events, fake = answered(sends(b""))
    assert (len(fake.requests), len(events)) == (1, 1)


def test_many_answers_at_once_come_at_once() -> None:
    async def run() -> int:
        async with fake_provider(drips(HEAD, chunk("One"), STOP, DONE, every=0.2)) as fake:
            began = time.monotonic()
            answers = await asyncio.gather(*(ask(fake.url) for _ in range(60)))
            assert time.monotonic() - began < 10
        return sum(text(events) == "One" for events in answers)

    assert asyncio.run(run()) == 60


def test_a_server_that_is_not_there_cannot_be_connected_to() -> None:
    async def run() -> list[Event]:
        async with fake_provider(streams()) as fake:
            pass
        return await ask(fake.url)

    [found] = asyncio.run(run())
    assert isinstance(found, StreamError)
    assert (found.kind, found.retry) == ("connect", None)


def test_a_connection_that_does_not_come_about_is_given_up() -> None:
    async def run() -> list[Event]:
        async with fake_provider(streams(), accepts=False) as fake:
            url = fake.url.replace("http:", "https:")
            events = await ask(url, connect_timeout=0.2)
            await asyncio.wait_for(fake.disconnected.wait(), DEADLINE)
        return events

    [found] = asyncio.run(run())
    assert isinstance(found, StreamError) and found.kind == "connect_timeout"


@pytest.mark.parametrize("key", ["sk-1\n", "sk-é", "sk\0", "sk-“1”"])
def test_a_header_that_cannot_be_sent_is_named_and_nothing_is_sent(key: str) -> None:
    events, fake = answered(streams("One"), headers={"Authorization": f"Bearer {key}"})
    [found] = events
    assert isinstance(found, StreamError)
    assert (found.kind, fake.requests) == ("bad_config", [])
    assert "Authorization" in found.message and "sk" not in found.message


# Refusals


def refusal(status: int, body: Any, **headers: str) -> StreamError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_error(status, {name.replace("_", "-"): text for name, text in headers.items()}, raw)


def openai(message: str, code: Any = None, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code, **more}}


TOO_LONG = [
    (
        400,
        openai(
            "This model's maximum context length is 8192 tokens. However, your messages "
            "resulted in 9000 tokens.",
            "context_length_exceeded",
        ),
    ),
    (400, openai("Your input exceeds the context window of this model.")),
    (
        400,
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size. try "
                "increasing the context size",
                "type": "exceed_context_size_error",
            }
        },
    ),
    (
        400,
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "prompt is too long: 210000 tokens > 200000 maximum",
            },
        },
    ),
    (
        400,
        {
            "type": "error",
            "error": {
                "message": "input length and `max_tokens` exceed context "
                "limit: 195000 + 10000 > 200000"
            },
        },
    ),
    (413, {"type": "error", "error": {"type": "request_too_large", "message": "Too large"}}),
    (413, b"<html><h1>413 Request Entity Too Large</h1></html>"),
    (
        400,
        [
            {
                "error": {
                    "code": 400,
                    "status": "INVALID_ARGUMENT",
                    "message": "The input token count "
                    "(1200000) exceeds the maximum number of tokens allowed (1048575).",
                }
            }
        ],
    ),
    (
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 4096 tokens. "
            "However, you requested 5000 tokens",
            "code": 400,
        },
    ),
    (
        400,
        {
            "message": "The decoder prompt (length 5000) is longer than the maximum model length "
            "of 4096."
        },
    ),
    (400, {"message": "The input (5000 tokens) is longer than the model's context length (4096)."}),
    (
        400,
        {
            "object": "error",
            "message": "Prompt contains 40000 tokens and 0 draft tokens, too "
            "large for model with 32768 maximum context length",
            "type": "invalid_request_prompt",
        },
    ),
    (500, {"error": "the input length exceeds the context length"}),
    (
        400,
        {
            "error": "This model's maximum prompt length is 131072 but the request contains 537812 "
            "tokens."
        },
    ),
    (
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. "
            "Given: 5000 `inputs` tokens and 20 `max_new_tokens`"
        },
    ),
    (400, {"message": "Input is too long for requested model."}),
    (400, openai("Invalid request: Your request exceeded model token limit: 8192")),
    (400, openai("Please reduce the length of the messages or completion.")),
    (400, {"error": {"message": "Range of input length should be [1, 30720]"}}),
    (
        400,
        {
            "error": "Trying to keep the first 5000 tokens when context the overflows. However, "
            "the model is loaded with context length of only 4096 tokens"
        },
    ),
    (400, {"message": "too many tokens: total number of tokens in the prompt exceeds the limit"}),
    (400, {"error": {"message": "Prompt exceeds max length", "code": "1261"}}),
    (
        400,
        {
            "message": "litellm.ContextWindowExceededError: Requested tokens (9000) exceed context "
            "window of 8192"
        },
    ),
    (
        429,
        openai(
            "Request too large for gpt-4o in organization x on tokens per min (TPM): Limit "
            "30000, Requested 50000. The input or output tokens must be reduced.",
            "rate_limit_exceeded",
        ),
    ),
    (400, {"error": {"message": json.dumps(openai("x", "context_length_exceeded"))}}),
]


@pytest.mark.parametrize(
    "words",
    [
        "'max_tokens' or 'max_completion_tokens' is too large: 2000. This model's maximum context "
        "length is 4096 tokens and your request has 5000 input tokens.",
        "too many tokens: size limit exceeded by 9 tokens. Try using shorter inputs.",
        "input tokens exceed the configured limit of 272000 tokens.",
        "The total number of tokens exceeds the limit of 4096",
        "Token limit exceeded",
        "Your request contains 5000 tokens which is more than the 4096 allowed",
        "the conversation is too long to fit the model, start a new one",
        "Request payload size exceeds the limit: 20971520 bytes.",
        "输入长度超过模型最大上下文长度",
    ],
)
def test_other_words_for_a_prompt_that_is_too_long(words: str) -> None:
    assert refusal(400, openai(words)).kind == "too_long"
    assert read_payload({"error": {"message": words}}).kind == "too_long"


@pytest.mark.parametrize(
    "words",
    [
        "max_tokens (5000) exceeds the limit of 4096",
        "The max_tokens must be less than 8192",
        "temperature must be between 0 and 2",
        "After the optional system message, conversation roles must alternate user/assistant",
        "messages: text content blocks must be non-empty",
        "Missing `reasoning_content` field in the assistant message at message index 2.",
        "Requests which include `tool_use` or `tool_result` blocks must define tools",
        "Invalid schema for function 'f': In context=('properties',), array schema missing items.",
    ],
)
def test_what_is_wrong_otherwise_is_not_too_long(words: str) -> None:
    assert refusal(400, openai(words)).kind == "rejected"


@pytest.mark.parametrize(("status", "body"), TOO_LONG, ids=str)
def test_a_prompt_that_is_too_long_is_known_in_any_words(status: int, body: Any) -> None:
    assert refusal(status, body).kind == "too_long"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (
            400,
            openai(
                "max_tokens is too large: 99999. This model supports at most 16384 completion "
                "tokens",
                "invalid_value",
            ),
            "rejected",
        ),
        (400, openai("Invalid value for 'temperature'"), "rejected"),
        (401, openai("Incorrect API key provided"), "auth"),
        (403, openai("Country not supported"), "auth"),
        (404, openai("The model `x` does not exist", "model_not_found"), "not_found"),
        (404, {"error": "model 'x' not found"}, "not_found"),
        (402, {"error": {"message": "Insufficient Balance"}}, "quota"),
        (403, openai("Your account's billing is not active"), "quota"),
        (
            429,
            openai(
                "You exceeded your current quota, please check your plan and billing details",
                "insufficient_quota",
            ),
            "quota",
        ),
        (
            429,
            openai(
                "Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used "
                "29000, Requested 2000.",
                "rate_limit_exceeded",
            ),
            "rate_limit",
        ),
        (
            429,
            {
                "error": {
                    "code": 429,
                    "status": "RESOURCE_EXHAUSTED",
                    "message": "Resource has been exhausted (e.g. check quota).",
                }
            },
            "rate_limit",
        ),
        (429, b"", "rate_limit"),
        (400, {"error": {"message": "Your credit balance is too low to access the API"}}, "quota"),
        (
            400,
            openai(
                "The response was filtered due to the prompt triggering Azure OpenAI's content "
                "management policy.",
                "content_filter",
            ),
            "content_filter",
        ),
        (
            400,
            openai("Invalid content: image_url is not supported by this model"),
            "unsupported_content",
        ),
        (500, openai("The server had an error"), "overloaded"),
        (502, b"<html><h1>502 Bad Gateway</h1></html>", "overloaded"),
        (
            529,
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
            "overloaded",
        ),
        (408, b"", "overloaded"),
        (
            400,
            {
                "error": {
                    "code": 400,
                    "status": "INVALID_ARGUMENT",
                    "message": "API key not valid.",
                    "details": [{"reason": "API_KEY_INVALID"}],
                }
            },
            "auth",
        ),
        (418, b"\xff\xfe", "rejected"),
    ],
    ids=str,
)
def test_other_refusals_are_told_apart(status: int, body: Any, kind: str) -> None:
    found = refusal(status, body)
    assert (found.kind, found.status) == (kind, status)
    assert found.message and "<" not in found.message


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (
            {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "stream_options"],
                        "msg": "Extra inputs are not permitted",
                        "input": {},
                    }
                ]
            },
            "stream_options",
        ),
        (
            {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "messages", 1, "assistant", "reasoning_content"],
                        "msg": "Extra",
                    }
                ]
            },
            "messages.1.assistant.reasoning_content",
        ),
        (openai("Unrecognized request argument supplied: stream_options"), "stream_options"),
        (
            openai(
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                "'max_completion_tokens' instead.",
                "unsupported_parameter",
                param="max_tokens",
            ),
            "max_tokens",
        ),
        (
            openai(
                "Unsupported value: 'temperature' does not support 0.2 with this model. Only the "
                "default (1) value is supported.",
                "unsupported_value",
                param="temperature",
            ),
            "temperature",
        ),
        (openai("Unknown parameter: 'seed'.", "unknown_parameter", param="seed"), "seed"),
        ({"error": 'json: unknown field "stream_options"'}, "stream_options"),
        ({"error": "unknown field `top_p`, expected one of `a`, `b`"}, "top_p"),
        (
            {
                "type": "error",
                "error": {
                    "type": "invalid_request_error",
                    "message": "max_completion_tokens: Extra inputs are not permitted",
                },
            },
            "max_completion_tokens",
        ),
        (
            openai("property 'messages.0.reasoning_content' is unsupported"),
            "messages.0.reasoning_content",
        ),
        ({"message": "Additional properties are not allowed ('seed' was unexpected)"}, "seed"),
        (
            {
                "error": {
                    "message": 'Invalid JSON payload received. Unknown name "seed": Cannot find '
                    "field."
                }
            },
            "seed",
        ),
        ({"message": "create() got an unexpected keyword argument 'top_p'"}, "top_p"),
        ({"message": "`reasoning_effort` is not supported by this model"}, "reasoning_effort"),
        ({"message": "This model does not support parameter: stop"}, "stop"),
        (
            {"message": "[{'code': 'unrecognized_keys'}] Unrecognized key(s) in object: 'seed'"},
            "seed",
        ),
        ({"message": "reasoning_effort is not supported"}, "reasoning_effort"),
    ],
    ids=str,
)
@pytest.mark.parametrize("status", [400, 422])
def test_a_field_that_is_refused_is_found(status: int, body: Any, field: str) -> None:
    found = refusal(status, body)
    assert (found.kind, found.field) == ("unsupported_field", field)


def test_headers_say_when_to_ask_again() -> None:
    assert refusal(429, b"", retry_after="7").retry_after == 7
    assert refusal(429, b"", Retry_After="0.5").retry_after == 0.5
    assert refusal(429, b"", retry_after_ms="1500", retry_after="9").retry_after == 1.5
    date = formatdate(time.time() + 30, usegmt=True)
    assert 20 < (refusal(503, b"", retry_after=date).retry_after or 0) <= 30
    assert refusal(503, b"", retry_after="soon").retry_after is None
    assert refusal(503, b"", retry_after="-3").retry_after is None
    assert refusal(503, b"", x_should_retry="false").retry is False
    assert refusal(400, b"", x_should_retry="true").retry is True
    delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "21.5s"}
    body = {"error": {"code": 429, "message": "x", "details": [delay]}}
    assert refusal(429, body).retry_after == 21.5


@pytest.mark.parametrize("letter", ["x", "a_", "'", "context ", "input ", "["])
def test_a_long_refusal_is_understood_soon(letter: str) -> None:
    began = time.process_time()
    assert refusal(400, letter.encode() * (ERROR_LIMIT // len(letter))).status == 400
    assert time.process_time() - began < 2


def test_a_web_page_that_refuses_names_the_address_of_the_config() -> None:
    for body in (b"<!DOCTYPE html><html>nope</html>", b"  <h1>Not Found</h1>"):
        found = error(sends(head("text/html", status=404) + body))
        assert (found.kind, "`base_url`" in found.message) == ("not_found", True)
        assert "nope" not in found.message and "<" not in found.message
    assert "<" not in read_payload({"error": {"message": "<html>x</html>"}}).message


@pytest.mark.parametrize(
    "value", [None, [], {}, "", "x", 5, {"error": []}, {"error": {"code": {}}}]
)
def test_any_payload_is_an_error_with_words(value: Any) -> None:
    found = read_payload(value)
    assert found.kind and found.message


# Proxies

SERVICE = "https://api.example/v1"


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, SERVICE, None),
        ({"ALL_PROXY": "socks5://p:1080"}, SERVICE, "socks5://p:1080"),
        ({"all_proxy": "socks://p:1080/"}, SERVICE, "socks5://p:1080/"),
        ({"HTTPS_PROXY": "p:3128"}, SERVICE, "http://p:3128"),
        ({"HTTPS_PROXY": " 'http://u:w@p:3128'\n"}, SERVICE, "http://u:w@p:3128"),
        ({"HTTP_PROXY": "http://p:3128"}, SERVICE, None),
        ({"HTTP_PROXY": "http://p:3128"}, "http://api.example", "http://p:3128"),
        ({"HTTPS_PROXY": "http://p", "ALL_PROXY": "http://q"}, SERVICE, "http://p"),
        ({"HTTPS_PROXY": "http://p", "https_proxy": "http://q"}, SERVICE, "http://q"),
        *[
            ({"ALL_PROXY": "http://p:1"}, url, None)
            for url in (
                *("http://127.0.0.1:11434/v1", "http://localhost:8000", "http://[::1]:8000/v1"),
                *(
                    "http://10.1.2.3/v1",
                    "http://192.168.0.9:1",
                    "http://172.16.0.1",
                    "http://ollama",
                ),
                *(
                    "http://169.254.1.1",
                    "http://[fd00::1]/",
                    "http://box.local",
                    "http://100.64.0.1",
                ),
            )
        ],
        *[
            ({"ALL_PROXY": "http://p:1", "NO_PROXY": value}, SERVICE, None)
            for value in (
                *("*", "api.example", ".example", "example", "*.example", "a, api.example ,b"),
                *("API.example", "api.example:443", "https://api.example", "a b api.example"),
            )
        ],
        *[
            ({"ALL_PROXY": "http://p:1", "NO_PROXY": value}, SERVICE, "http://p:1")
            for value in (
                "::1,[::1]",
                "pi.example",
                "api.example:80",
                "",
                ",",
                "[",
                "1.0.0.0/8",
                "a/b",
            )
        ],
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "8.8.0.0/16"}, "http://8.8.8.8/", None),
        (
            {"ALL_PROXY": "http://p:1", "NO_PROXY": "[2001:4860::]/32"},
            "http://9.9.9.9/",
            "http://p:1",
        ),
        ({"ALL_PROXY": "http://p:1", "no_proxy": "2001:4860::/32"}, "http://[2001:4860::1]/", None),
        (
            {"ALL_PROXY": "http://p:1", "no_proxy": "[2001:4860::1]:80"},
            "http://[2001:4860::1]/",
            None,
        ),
    ],
    ids=str,
)
def test_the_proxy_of_a_url(
    variables: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert find_proxy(url) == proxy


@pytest.mark.parametrize(
    "value", ["ftp://p:1", "http://", "p:port", "http://p:99999", "http://p q", "://", "socks4://p"]
)
def test_a_proxy_that_cannot_be_used_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", value)
    with pytest.raises(EngineError, match="ALL_PROXY") as caught:
        find_proxy(SERVICE)
    assert caught.value.code == "bad_config"
    [found] = asyncio.run(ask("http://api.example"))
    assert isinstance(found, StreamError)
    assert (found.kind, "ALL_PROXY" in found.message) == ("bad_config", True)
    events, _ = answered(streams("One"))
    assert text(events) == "One", "a server on this machine needs no proxy"


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


async def join(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, first: bytes = b""
) -> None:
    """Pass on what two sides say, until the server has no more."""
    there, back = await asyncio.open_connection("127.0.0.1", port)
    back.write(first)
    asking = asyncio.create_task(pump(reader, back))
    await pump(there, writer)
    asking.cancel()
    back.close()


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxy_that_is_not_there_is_named(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{port}")
    [found] = asyncio.run(ask("http://api.example"))
    assert isinstance(found, StreamError)
    assert (found.kind, "ALL_PROXY" in found.message) == ("connect", True)


def test_a_socks_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> tuple[list[Event], list[bytes]]:
        asked: list[bytes] = []

        async with fake_provider(streams("One")) as fake:

            async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                assert (await reader.readexactly(3))[:1] == b"\x05"
                writer.write(b"\x05\x00")
                kind = (await reader.readexactly(4))[3]
                assert kind == 3, "the name is looked up by the proxy"
                name = await reader.readexactly((await reader.readexactly(1))[0])
                asked.append(name + await reader.readexactly(2))
                writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
                await join(reader, writer, fake.port)

            async with server(handle) as port:
                monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{port}")
                return await ask("http://api.example/v1"), asked

    events, asked = asyncio.run(run())
    assert (text(events), asked) == ("One", [b"api.example\x00\x50"])


def test_a_proxy_without_a_scheme_is_one_of_http(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> tuple[list[Event], list[str]]:
        asked: list[str] = []

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append((await take(reader)).split("\r\n")[0])
            writer.write(ONE + STOP + DONE)
            await writer.drain()

        async with server(handle) as port:
            monkeypatch.setenv("http_proxy", f"127.0.0.1:{port}")
            return await ask("http://api.example/v1"), asked

    events, asked = asyncio.run(run())
    assert text(events) == "One"
    assert asked == ["POST http://api.example/v1/chat/completions HTTP/1.1"]


def test_a_proxy_that_is_not_there_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> list[Event]:
        async with fake_provider(streams()) as fake:
            pass
        monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{fake.port}")
        return await ask("http://api.example/v1")

    [found] = asyncio.run(run())
    assert isinstance(found, StreamError) and found.kind == "connect"


def test_events_may_be_read_without_a_reader() -> None:
    async def run() -> list[str]:
        async with (
            fake_provider(streams("One")) as fake,
            open_stream(fake.url, {}, {}, Limits()) as stream,
        ):
            return [event.data async for batch in stream.batches() for event in batch]

    assert asyncio.run(run())[-1] == "[DONE]"
