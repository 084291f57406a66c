"""Answers in the four protocols, as each service streams them: all SSE is written here."""

import json
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Call:
    """A call that the model asks for; text in `arguments` is sent as it stands, in these pieces."""

    name: str
    arguments: dict[str, Any] | str | tuple[str, ...]
    id: str = ""

    @property
    def json(self) -> str:
        return "".join(self.pieces)

    @property
    def pieces(self) -> tuple[str, ...]:
        if isinstance(self.arguments, tuple):
            return self.arguments
        given = self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)
        half = len(given) // 2
        return given[:half], given[half:]


@dataclass(frozen=True)
class Answer:
    """One answer: text and thinking in the pieces in which they come."""

    text: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    thinking: tuple[str, ...] = ()
    # What only the service can read, and has back: a signature, or encrypted reasoning.
    opaque: str = ""
    # `stop`, `length`, `content_filter`; empty for what is usual.
    finish: str = ""
    # Tokens read and written.
    usage: tuple[int, int] = (100, 50)


def say(*text: str, **more: Any) -> Answer:
    return Answer(text, **more)


def want(*calls: Call, **more: Any) -> Answer:
    return Answer(calls=calls, **more)


def event(data: Any, kind: str = "", *, ascii_only: bool = True) -> bytes:
    """Return an event of an SSE stream. Halves of surrogate pairs stay escapes, as servers do."""
    name = f"event: {kind}\n" if kind else ""
    return f"{name}data: {json.dumps(data, ensure_ascii=ascii_only)}\n\n".encode()


COMMENT = b": keep-alive\n\n"


class Wire:
    """A protocol's answer in parts; one instance for each answer, since parts are numbered."""

    # What each finish is called.
    finishes: ClassVar[dict[str, str]] = {}
    # What a service sends so that the connection is not thought dead.
    ping = COMMENT

    def __init__(self, model: str = "fake") -> None:
        self.model = model
        self.index = -1

    def begin(self) -> list[bytes]:
        return []

    def text(self, pieces: tuple[str, ...]) -> list[bytes]:
        raise NotImplementedError

    def thinking(self, pieces: tuple[str, ...], opaque: str = "") -> list[bytes]:
        raise NotImplementedError

    def calls(self, calls: tuple[Call, ...], opaque: str = "") -> list[bytes]:
        raise NotImplementedError

    def end(self, finish: str, usage: tuple[int, int]) -> list[bytes]:
        raise NotImplementedError

    def error(self, message: str) -> list[bytes]:
        """Return how the service tells of a failure in the middle of a stream."""
        raise NotImplementedError

    def whole(self, answer: Answer) -> list[bytes]:
        """Return a whole answer, as the service sends it on a good day."""
        finish = answer.finish or ("tool_calls" if answer.calls else "stop")
        frames = self.begin()
        if answer.thinking or answer.opaque:
            frames += self.thinking(answer.thinking, answer.opaque)
        if answer.text:
            frames += self.text(answer.text)
        if answer.calls:
            frames += self.calls(answer.calls, answer.opaque)
        return frames + self.end(finish, answer.usage)

    def next(self) -> int:
        self.index += 1
        return self.index


class Chat(Wire):
    """Chat completions."""

    finishes = {name: name for name in ("stop", "length", "content_filter", "tool_calls")}

    def chunk(self, delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1}
        return event({**head, "model": self.model, "choices": choices, **more})

    def begin(self) -> list[bytes]:
        return [self.chunk({"role": "assistant", "content": ""})]

    def text(self, pieces: tuple[str, ...]) -> list[bytes]:
        return [self.chunk({"content": piece}) for piece in pieces]

    def thinking(self, pieces: tuple[str, ...], opaque: str = "") -> list[bytes]:
        frames = [self.chunk({"reasoning_content": piece}) for piece in pieces]
        if opaque:
            # As OpenRouter has it.
            detail = {"type": "reasoning.encrypted", "data": opaque, "index": 0}
            frames.append(self.chunk({"reasoning_details": [detail]}))
        return frames

    def calls(self, calls: tuple[Call, ...], opaque: str = "") -> list[bytes]:
        frames = []
        for number, call in enumerate(calls):
            begun = {"name": call.name, "arguments": ""}
            head = {"index": number, "id": call.id or f"call_{number}", "type": "function"}
            frames.append(self.chunk({"tool_calls": [{**head, "function": begun}]}))
            for piece in call.pieces:
                rest = {"index": number, "function": {"arguments": piece}}
                frames.append(self.chunk({"tool_calls": [rest]}))
        return frames

    def usage(self, read: int, written: int) -> dict[str, int]:
        total = read + written
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": total}

    def end(self, finish: str, usage: tuple[int, int]) -> list[bytes]:
        last = self.chunk(None, usage=self.usage(*usage))
        return [self.chunk({}, self.finishes[finish]), last, self.done]

    done = b"data: [DONE]\n\n"

    def error(self, message: str) -> list[bytes]:
        return [event({"error": {"message": message, "type": "server_error", "code": 500}})]


class Responses(Wire):
    """OpenAI's Responses API."""

    def named(self, kind: str, **data: Any) -> bytes:
        return event({"type": kind, "sequence_number": self.next(), **data}, kind)

    def __init__(self, model: str = "fake") -> None:
        super().__init__(model)
        self.output: list[dict[str, Any]] = []

    def response(self, status: str, **more: Any) -> dict[str, Any]:
        head = {"id": "resp_1", "object": "response", "created_at": 1, "model": self.model}
        return {**head, "status": status, "output": self.output, **more}

    def begin(self) -> list[bytes]:
        kinds = ("response.created", "response.in_progress")
        return [self.named(kind, response=self.response("in_progress")) for kind in kinds]

    def item(self, item: dict[str, Any], *within: tuple[str, dict[str, Any]]) -> list[bytes]:
        """Return an item of the output with the events of its content in between."""
        number = len(self.output)
        place = {"output_index": number}
        bare = {"content": [], "summary": [], "arguments": "", "status": "in_progress"}
        begun = {**item, **{key: bare[key] for key in bare if key in item}}
        frames = [self.named("response.output_item.added", **place, item=begun)]
        frames += [self.named(kind, **place, item_id=item["id"], **data) for kind, data in within]
        self.output.append(item)
        return [*frames, self.named("response.output_item.done", **place, item=item)]

    def text(self, pieces: tuple[str, ...]) -> list[bytes]:
        part = {"type": "output_text", "text": "".join(pieces), "annotations": []}
        item = {"id": f"msg_{len(self.output)}", "type": "message", "role": "assistant"}
        place = {"content_index": 0}
        return self.item(
            {**item, "status": "completed", "content": [part]},
            ("response.content_part.added", {**place, "part": {**part, "text": ""}}),
            *(("response.output_text.delta", {**place, "delta": piece}) for piece in pieces),
            ("response.output_text.done", {**place, "text": part["text"]}),
            ("response.content_part.done", {**place, "part": part}),
        )

    def thinking(self, pieces: tuple[str, ...], opaque: str = "") -> list[bytes]:
        part = {"type": "summary_text", "text": "".join(pieces)}
        item = {"id": f"rs_{len(self.output)}", "type": "reasoning", "summary": [part]}
        place = {"summary_index": 0}
        return self.item(
            item | ({"encrypted_content": opaque} if opaque else {}),
            ("response.reasoning_summary_part.added", {**place, "part": {**part, "text": ""}}),
            *(
                ("response.reasoning_summary_text.delta", {**place, "delta": piece})
                for piece in pieces
            ),
            ("response.reasoning_summary_text.done", {**place, "text": part["text"]}),
        )

    def calls(self, calls: tuple[Call, ...], opaque: str = "") -> list[bytes]:
        frames = []
        for number, call in enumerate(calls):
            item = {"id": f"fc_{len(self.output)}", "type": "function_call", "status": "completed"}
            named = {"call_id": call.id or f"call_{number}", "name": call.name}
            kind = "response.function_call_arguments"
            frames += self.item(
                {**item, **named, "arguments": call.json},
                *((f"{kind}.delta", {"delta": piece}) for piece in call.pieces),
                (f"{kind}.done", {"arguments": call.json}),
            )
        return frames

    def end(self, finish: str, usage: tuple[int, int]) -> list[bytes]:
        counted = {
            "input_tokens": usage[0],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage[1],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": sum(usage),
        }
        reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
        if reason := reasons.get(finish):
            details = {"incomplete_details": {"reason": reason}, "usage": counted}
            whole = self.response("incomplete", **details)
            return [self.named("response.incomplete", response=whole)]
        return [
            self.named("response.completed", response=self.response("completed", usage=counted))
        ]

    def error(self, message: str) -> list[bytes]:
        return [self.named("error", code="server_error", message=message, param=None)]


class Messages(Wire):
    """Anthropic's Messages."""

    finishes = {
        "stop": "end_turn",
        "length": "max_tokens",
        "content_filter": "refusal",
        "tool_calls": "tool_use",
    }
    ping = event({"type": "ping"}, "ping")

    def named(self, kind: str, **data: Any) -> bytes:
        return event({"type": kind, **data}, kind)

    def begin(self) -> list[bytes]:
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": self.model}
        usage = {"input_tokens": 100, "output_tokens": 1}
        rest = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        return [self.named("message_start", message={**message, **rest}), self.ping]

    def block(self, begun: dict[str, Any], *deltas: dict[str, Any]) -> list[bytes]:
        index = self.next()
        return [
            self.named("content_block_start", index=index, content_block=begun),
            *(self.named("content_block_delta", index=index, delta=each) for each in deltas),
            self.named("content_block_stop", index=index),
        ]

    def text(self, pieces: tuple[str, ...]) -> list[bytes]:
        deltas = ({"type": "text_delta", "text": piece} for piece in pieces)
        return self.block({"type": "text", "text": ""}, *deltas)

    def thinking(self, pieces: tuple[str, ...], opaque: str = "") -> list[bytes]:
        deltas: list[dict[str, Any]] = [
            {"type": "thinking_delta", "thinking": piece} for piece in pieces
        ]
        if opaque:
            deltas.append({"type": "signature_delta", "signature": opaque})
        return self.block({"type": "thinking", "thinking": "", "signature": ""}, *deltas)

    def calls(self, calls: tuple[Call, ...], opaque: str = "") -> list[bytes]:
        frames = []
        for number, call in enumerate(calls):
            begun = {"type": "tool_use", "id": call.id or f"toolu_{number}", "name": call.name}
            deltas = ({"type": "input_json_delta", "partial_json": each} for each in call.pieces)
            frames += self.block({**begun, "input": {}}, *deltas)
        return frames

    def end(self, finish: str, usage: tuple[int, int]) -> list[bytes]:
        delta = {"stop_reason": self.finishes[finish], "stop_sequence": None}
        counted = {"output_tokens": usage[1]}
        return [
            self.named("message_delta", delta=delta, usage=counted),
            self.named("message_stop"),
        ]

    def error(self, message: str) -> list[bytes]:
        return [self.named("error", error={"type": "overloaded_error", "message": message})]


class Gemini(Wire):
    """Gemini's streamGenerateContent, whose lines end as those of HTTP."""

    finishes = {
        "stop": "STOP",
        "length": "MAX_TOKENS",
        "content_filter": "SAFETY",
        "tool_calls": "STOP",
    }

    def candidate(self, *parts: dict[str, Any], usage: tuple[int, int], **more: Any) -> bytes:
        content = {"parts": list(parts), "role": "model"}
        counted = {
            "promptTokenCount": usage[0],
            "candidatesTokenCount": usage[1],
            "totalTokenCount": sum(usage),
        }
        body = {"candidates": [{"content": content, "index": 0, **more}]}
        named = {"modelVersion": self.model, "responseId": "r1", "usageMetadata": counted}
        return event({**body, **named}).replace(b"\n", b"\r\n")

    def text(self, pieces: tuple[str, ...]) -> list[bytes]:
        return [
            self.candidate({"text": piece}, usage=(100, number))
            for number, piece in enumerate(pieces)
        ]

    def thinking(self, pieces: tuple[str, ...], opaque: str = "") -> list[bytes]:
        return [
            self.candidate({"text": piece, "thought": True}, usage=(100, 0)) for piece in pieces
        ]

    def calls(self, calls: tuple[Call, ...], opaque: str = "") -> list[bytes]:
        parts: list[dict[str, Any]] = [
            {"functionCall": {"name": call.name, "args": json.loads(call.json or "{}")}}
            for call in calls
        ]
        if opaque:
            # Of parallel calls, only the first one is signed.
            parts[0]["thoughtSignature"] = opaque
        return [self.candidate(*parts, usage=(100, 10))]

    def end(self, finish: str, usage: tuple[int, int]) -> list[bytes]:
        return [self.candidate({"text": ""}, usage=usage, finishReason=self.finishes[finish])]

    def error(self, message: str) -> list[bytes]:
        error = {"code": 503, "message": message, "status": "UNAVAILABLE"}
        return [event({"error": error}).replace(b"\n", b"\r\n")]


WIRES: dict[str, type[Wire]] = {
    "chat": Chat,
    "responses": Responses,
    "messages": Messages,
    "gemini": Gemini,
}
