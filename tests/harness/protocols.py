"""What the providers' protocols look like on the wire, as each service sends it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.harness.providers import DONE, FakeProvider, choice, chunk, event

# What every answer here has used: tokens read, of them from a cache, written.
USED = (100, 60, 20)
CALL = {"id": "call_1", "name": "add", "args": {"a": 1, "b": 2}}


@dataclass(frozen=True)
class Protocol:
    """A protocol as one module speaks it. Each part of an answer is bytes of a stream."""

    module: str
    # The parts of an answer: a block of text in pieces, of thinking in pieces, the call of a tool.
    text: Callable[..., bytes]
    thinking: Callable[..., bytes]
    call: bytes
    # How an answer begins and ends, the end after a call, and a failure in the middle.
    begin: bytes
    end: bytes
    end_of_call: bytes
    failure: bytes
    # The body of a refusal, and the head of a request that has the key in it.
    refusal: Callable[[str], Any]
    key: Callable[[str], str]
    # The path that is asked for.
    path: str
    # The key under which the place of the service stands, and what it is for a fake.
    place: str = "base_url"
    at: Callable[[FakeProvider], str] = field(default=lambda fake: fake.url)
    more: dict[str, Any] = field(default_factory=dict)

    def config(self, fake: FakeProvider) -> dict[str, Any]:
        """The config of the module for a fake provider."""
        return {"base_url": None, self.place: self.at(fake), "api_key": KEY, **self.more}


KEY = "sk-canary-0123456789"


def told(kind: str, **data: Any) -> bytes:
    """An event with a name, as Anthropic and the Responses API have it."""
    return f"event: {kind}\n".encode() + event({"type": kind, **data})


def root(fake: FakeProvider) -> str:
    """Where a provider is whose clients add the version to the path."""
    return fake.url.removesuffix("/v1")


# Chat completions

CHAT_USAGE = {
    "prompt_tokens": USED[0],
    "prompt_tokens_details": {"cached_tokens": USED[1]},
    "completion_tokens": USED[2],
    "total_tokens": USED[0] + USED[2],
}


def chat_text(*pieces: str) -> bytes:
    return b"".join(map(chunk, pieces))


def chat_thinking(key: str, *pieces: str) -> bytes:
    return b"".join(chunk(choices=[choice({key: piece})]) for piece in pieces)


def chat_call() -> bytes:
    begun = {"name": CALL["name"], "arguments": ""}
    first = {"index": 0, "id": CALL["id"], "type": "function", "function": begun}
    args = json.dumps(CALL["args"])
    rest = [{"index": 0, "function": {"arguments": half}} for half in (args[:5], args[5:])]
    return b"".join(chunk(choices=[choice({"tool_calls": [each]})]) for each in (first, *rest))


def chat_end(reason: str) -> bytes:
    return chunk(choices=[choice({}, reason)]) + chunk(usage=CHAT_USAGE) + DONE


def openai_refusal(message: str) -> Any:
    return {"error": {"message": message, "type": "x", "code": None}}


def bearer(key: str) -> str:
    return f"authorization: bearer {key}"


def chat(module: str, thought: str = "reasoning_content", **more: Any) -> Protocol:
    given = {
        "text": chat_text,
        "thinking": partial(chat_thinking, thought),
        "call": chat_call(),
        "begin": chunk(choices=[choice({"role": "assistant", "content": ""})]),
        "end": chat_end("stop"),
        "end_of_call": chat_end("tool_calls"),
        "failure": event({"error": {"message": "overloaded", "code": 503}}),
        "refusal": openai_refusal,
        "key": bearer,
        "path": "/v1/chat/completions",
    }
    return Protocol(module, **{**given, **more})


# The Responses API


def response(status: str, **more: Any) -> dict[str, Any]:
    body = {"id": "resp_1", "object": "response", "created_at": 1, "model": "fake", "output": []}
    return {"sequence_number": 1, "response": {**body, "status": status, **more}}


def item(kind: str, number: int, **more: Any) -> dict[str, Any]:
    body = {"id": f"item_{number}", "type": kind, "status": "in_progress", **more}
    return {"sequence_number": 1, "output_index": number, "item": body}


def within(number: int, **more: Any) -> dict[str, Any]:
    return {"sequence_number": 1, "output_index": number, "item_id": f"item_{number}", **more}


def responses_text(*pieces: str) -> bytes:
    said = {"type": "output_text", "text": "".join(pieces), "annotations": []}
    place = within(1, content_index=0)
    message = partial(item, "message", 1, role="assistant")
    return b"".join(
        [
            told("response.output_item.added", **message(content=[])),
            told("response.content_part.added", **place, part=said | {"text": ""}),
            *(
                told("response.output_text.delta", **place, delta=each, logprobs=[])
                for each in pieces
            ),
            told("response.output_text.done", **place, text=said["text"], logprobs=[]),
            told("response.content_part.done", **place, part=said),
            told("response.output_item.done", **message(content=[said])),
        ]
    )


def responses_thinking(*pieces: str) -> bytes:
    thought = {"type": "summary_text", "text": "".join(pieces)}
    place = within(0, summary_index=0)
    return b"".join(
        [
            told("response.output_item.added", **item("reasoning", 0, summary=[])),
            told("response.reasoning_summary_part.added", **place, part=thought | {"text": ""}),
            *(
                told("response.reasoning_summary_text.delta", **place, delta=each)
                for each in pieces
            ),
            told("response.reasoning_summary_text.done", **place, text=thought["text"]),
            told("response.output_item.done", **item("reasoning", 0, summary=[thought])),
        ]
    )


def responses_call() -> bytes:
    args = json.dumps(CALL["args"])
    call = {"call_id": CALL["id"], "name": CALL["name"]}
    deltas = (
        told("response.function_call_arguments.delta", **within(2), delta=half)
        for half in (args[:5], args[5:])
    )
    return b"".join(
        [
            told("response.output_item.added", **item("function_call", 2, **call, arguments="")),
            *deltas,
            told("response.function_call_arguments.done", **within(2), arguments=args),
            told("response.output_item.done", **item("function_call", 2, **call, arguments=args)),
        ]
    )


RESPONSES_USAGE = {
    "input_tokens": USED[0],
    "input_tokens_details": {"cached_tokens": USED[1]},
    "output_tokens": USED[2],
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": USED[0] + USED[2],
}
RESPONSES_END = told("response.completed", **response("completed", usage=RESPONSES_USAGE))

# Anthropic's Messages


def block(index: int, begun: dict[str, Any], deltas: list[dict[str, Any]]) -> bytes:
    return b"".join(
        [
            told("content_block_start", index=index, content_block=begun),
            *(told("content_block_delta", index=index, delta=delta) for delta in deltas),
            told("content_block_stop", index=index),
        ]
    )


def messages_text(*pieces: str) -> bytes:
    deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
    return block(1, {"type": "text", "text": ""}, deltas)


def messages_thinking(*pieces: str) -> bytes:
    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
    signed = [{"type": "signature_delta", "signature": "c2lnbmVk"}]
    return block(0, {"type": "thinking", "thinking": "", "signature": ""}, deltas + signed)


def messages_call() -> bytes:
    args = json.dumps(CALL["args"])
    begun = {"type": "tool_use", "id": CALL["id"], "name": CALL["name"], "input": {}}
    deltas = [{"type": "input_json_delta", "partial_json": half} for half in (args[:5], args[5:])]
    return block(2, begun, deltas)


def messages_begin() -> bytes:
    # What was read from the cache is not counted among the tokens of the input.
    usage = {"input_tokens": USED[0] - USED[1], "cache_read_input_tokens": USED[1]}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-fake"}
    rest = {"content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    return told("message_start", message={**message, **rest}) + told("ping")


def messages_end(reason: str) -> bytes:
    delta = {"stop_reason": reason, "stop_sequence": None}
    usage = {"output_tokens": USED[2]}
    return told("message_delta", delta=delta, usage=usage) + told("message_stop")


def messages_refusal(message: str) -> Any:
    return {"type": "error", "error": {"type": "x", "message": message}}


# Gemini


def candidate(part: dict[str, Any] | None, **more: Any) -> bytes:
    content = {"parts": [part] if part else [], "role": "model"}
    body = {"candidates": [{"content": content, "index": 0, **more}]}
    usage = {
        "promptTokenCount": USED[0],
        "cachedContentTokenCount": USED[1],
        "candidatesTokenCount": USED[2],
        "totalTokenCount": USED[0] + USED[2],
    }
    named = {"modelVersion": "gemini-fake", "responseId": "r1", "usageMetadata": usage}
    # In CRLF, as the service has it.
    return event({**body, **named}).replace(b"\n", b"\r\n")


def gemini_text(*pieces: str) -> bytes:
    return b"".join(candidate({"text": piece}) for piece in pieces)


def gemini_thinking(*pieces: str) -> bytes:
    return b"".join(candidate({"text": piece, "thought": True}) for piece in pieces)


def gemini_refusal(message: str) -> Any:
    return {"error": {"code": 0, "message": message, "status": "X"}}


GEMINI_CALL = candidate({"functionCall": {"name": CALL["name"], "args": CALL["args"]}})
GEMINI_END = candidate(None, finishReason="STOP")

PROTOCOLS = {
    "openai": chat("provider-openai"),
    "compatible": chat("provider-openai-compatible"),
    "vllm": chat("provider-vllm"),
    "ollama": chat("provider-ollama", "reasoning"),
    "azure": chat(
        "provider-azure-openai",
        key=lambda key: f"api-key: {key}",
        path="/openai/deployments/fake/chat/completions?api-version=2024-10-21",
        place="azure_endpoint",
        at=root,
        more={"api_version": "2024-10-21"},
    ),
    "responses": Protocol(
        module="provider-openai",
        text=responses_text,
        thinking=responses_thinking,
        call=responses_call(),
        begin=told("response.created", **response("in_progress")),
        end=RESPONSES_END,
        end_of_call=RESPONSES_END,
        failure=told("error", sequence_number=1, code="server_error", message="overloaded"),
        refusal=openai_refusal,
        key=bearer,
        path="/v1/responses",
        more={"api": "responses"},
    ),
    "anthropic": Protocol(
        module="provider-anthropic",
        text=messages_text,
        thinking=messages_thinking,
        call=messages_call(),
        begin=messages_begin(),
        end=messages_end("end_turn"),
        end_of_call=messages_end("tool_use"),
        failure=told("error", error={"type": "overloaded_error", "message": "overloaded"}),
        refusal=messages_refusal,
        key=bearer,
        path="/v1/messages",
        at=root,
    ),
    "google": Protocol(
        module="provider-google",
        text=gemini_text,
        thinking=gemini_thinking,
        call=GEMINI_CALL,
        begin=b"",
        end=GEMINI_END,
        end_of_call=GEMINI_END,
        failure=event({"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}),
        refusal=gemini_refusal,
        key=lambda key: f"x-goog-api-key: {key}",
        path="/v1beta/models/fake:streamGenerateContent?alt=sse",
        at=root,
    ),
}
