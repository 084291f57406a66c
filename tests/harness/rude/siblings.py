"""More of each kind: what other servers do where those of `behaviours` do what is told there."""

import json
import re
from itertools import pairwise
from typing import Any

from tests.harness.rude.behaviours import BEHAVIOURS, behaviour, first, overflow, page, read, wire
from tests.harness.rude.reply import End, Reply, model_of, refuse, send_json, send_text, stream
from tests.harness.rude.request import Request
from tests.harness.rude.wire import Call, Chat, event, say, want


def chat_calls(
    request: Request, *deltas: list[dict[str, Any]], finish: str = "tool_calls"
) -> Reply:
    """Return an answer of chat completions whose chunks have these `tool_calls`."""
    chat = Chat(model_of(request))
    frames = [chat.chunk({"tool_calls": each}) for each in deltas]
    return Reply([*chat.begin(), *frames, *chat.end(finish, (100, 50))])


def call(path: str, **more: Any) -> dict[str, Any]:
    """Return a whole call of `read_file`, as it stands in a chunk."""
    made = {"name": "read_file", "arguments": json.dumps({"path": path})}
    return {"type": "function", "function": made, **more}


# Text that is torn


@first
def surrogates_across_kinds(request: Request) -> Reply:
    """A half at the end of thinking, and one at the beginning of text: they belong not together."""
    return stream(request, say("\ude00 done", thinking=("so \ud83d",)))


@first
def nul_in_text(request: Request) -> Reply:
    """Models that read binary files: NUL in text, which PostgreSQL cannot keep."""
    return stream(request, say("one\x00", "two"))


@first
def nul_in_arguments(request: Request) -> Reply:
    """The same in arguments."""
    call = Call("write_file", {"path": "a.txt", "content": "one\x00two"})
    return stream(request, want(call))


@first
def torn_bytes(request: Request) -> Reply:
    """Proxies: a packet ends in the middle of a character, of a line, of a CRLF."""
    frames = [
        json.dumps(json.loads(each[6:]), ensure_ascii=False).encode().join((b"data: ", b"\r\n\r\n"))
        if each.startswith(b"data: {")
        else each
        for each in wire(request).whole(say("Zürich - ", "東京 😀"))
    ]
    body = b"".join(frames)
    return Reply([body[n : n + 1] for n in range(len(body))])


# Calls


@first
def calls_without_index(request: Request) -> Reply:
    """Ollama, Gemini's OpenAI endpoint, Mistral: whole calls, and no `index`."""
    return chat_calls(request, [call("a.txt", id="call_a"), call("b.txt", id="call_b")])


@first
def calls_with_null_index(request: Request) -> Reply:
    """GLM, one-api: `index: null`, one call in a chunk."""
    calls = (call("a.txt", id="a", index=None), call("b.txt", id="b", index=None))
    return chat_calls(request, *([each] for each in calls))


@first
def calls_with_one_id(request: Request) -> Reply:
    """Gemini's OpenAI endpoint, llama.cpp: two calls whose ids are both empty, by their index."""
    return chat_calls(request, [call("a.txt", id="", index=0)], [call("b.txt", id="", index=1)])


@first
def calls_without_id(request: Request) -> Reply:
    """Older Ollama, LM Studio: no id at all."""
    return chat_calls(request, [call("a.txt", index=0)], [call("b.txt", index=1)])


@first
def same_id_twice(request: Request) -> Reply:
    """Kimi and models behind SGLang: both calls have the same id, and an index each."""
    same = {"id": "functions.read_file:0"}
    return chat_calls(request, [call("a.txt", **same, index=0)], [call("b.txt", **same, index=1)])


@first
def head_in_each_delta(request: Request) -> Reply:
    """vLLM with Hermes' parser, Qwen: id, type and name are repeated beside each piece."""
    pieces = ('{"path": ', '"a.txt"}')
    return chat_calls(
        request,
        *(
            [
                {
                    "index": 0,
                    "id": "call_a",
                    "type": "function",
                    "function": {"name": "read_file", "arguments": piece},
                }
            ]
            for piece in pieces
        ),
    )


@first
def empty_id_later(request: Request) -> Reply:
    """Groq, DeepSeek's mirrors: later pieces have `id: ""` and `name: null`."""
    begun = {"name": "read_file", "arguments": ""}
    rest = {"name": None, "arguments": '{"path": "a.txt"}'}
    return chat_calls(
        request,
        [{"index": 0, "id": "call_a", "type": "function", "function": begun}],
        [{"index": 0, "id": "", "type": None, "function": rest}],
    )


@first
def index_from_one(request: Request) -> Reply:
    """TensorRT-LLM, some gateways: indices begin at 1 and have gaps."""
    return chat_calls(request, [call("a.txt", id="a", index=1)], [call("b.txt", id="b", index=3)])


@first
def arguments_as_object(request: Request) -> Reply:
    """Ollama's own clients, Databricks: arguments are an object, not text."""
    made = {"name": "read_file", "arguments": {"path": "a.txt"}}
    return chat_calls(request, [{"index": 0, "id": "call_a", "type": "function", "function": made}])


@first
def calls_told_as_stop(request: Request) -> Reply:
    """Ollama, llama.cpp, Gemini: `finish_reason: "stop"` although tools are called."""
    return chat_calls(request, [call("a.txt", id="call_a", index=0)], finish="stop")


@first
def call_in_last_chunk(request: Request) -> Reply:
    """xAI, Mistral: the chunk that has the finish reason also has the call."""
    chat = Chat(model_of(request))
    delta = {"role": "assistant", "tool_calls": [call("a.txt", id="call_a", index=0)]}
    return Reply([chat.chunk(delta, "tool_calls"), chat.done])


# Usage


@first
def usage_in_choice(request: Request) -> Reply:
    """Kimi: the usage stands within the choice."""
    chat = Chat(model_of(request))
    choice = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": chat.usage(100, 50)}
    last = event({"id": "x", "object": "chat.completion.chunk", "choices": [choice]})
    return Reply([*chat.begin(), *chat.text(("Well.",)), last, chat.done])


@first
def usage_beside_text(request: Request) -> Reply:
    """Groq, Mistral, Fireworks: in the chunk of the finish, or with nulls before it."""
    chat = Chat(model_of(request))
    null = {**dict.fromkeys(("prompt_tokens", "completion_tokens")), "prompt_tokens_details": None}
    frames = [chat.chunk({"content": "Well."}, usage=null), chat.chunk({}, usage=None)]
    return Reply([*frames, chat.chunk({}, "stop", usage=chat.usage(100, 50)), chat.done])


@first
def usage_told_twice(request: Request) -> Reply:
    """LiteLLM, OpenRouter: the total in the chunk of the finish, and again in one of its own."""
    chat = Chat(model_of(request))
    last = chat.chunk({}, "stop", usage=chat.usage(100, 50))
    total = chat.chunk(None, usage=chat.usage(100, 50))
    return Reply([*chat.begin(), *chat.text(("Well.",)), last, total, chat.done])


@first
def odd_usage(request: Request) -> Reply:
    """Gateways: counts as floats, and details that are no object."""
    chat = Chat(model_of(request))
    usage = {**chat.usage(100, 50), "prompt_tokens": 100.0, "completion_tokens_details": []}
    return Reply(
        [*chat.text(("Well.",)), chat.chunk({}, "stop"), chat.chunk(None, usage=usage), chat.done]
    )


# Ends


def _finished(request: Request, reason: str) -> Reply:
    to = wire(request)
    finishes = {**to.finishes, "odd": reason}
    to.finishes = finishes
    return Reply([*to.begin(), *to.text(("Half of it",)), *to.end("odd", (100, 50))])


@first
def finished_by(request: Request, value: str = "stop") -> Reply:
    """Any finish reason: `model_length` (Mistral), `max_tokens` (gateways in front of Anthropic),
    `model_context_window_exceeded` (Anthropic), `eos` (TGI), `SAFETY`, `RECITATION` (Gemini).
    """
    return _finished(request, value)


@first
def reset_in_answer(request: Request) -> Reply:
    """A load balancer that is restarted: the connection is reset."""
    to = wire(request)
    return Reply([*to.begin(), *to.text(("Half",)), 0.05, End.RESET])


@first
def closed_in_answer(request: Request) -> Reply:
    """A server that is killed: the body of HTTP never ends."""
    to = wire(request)
    return Reply([*to.begin(), *to.text(("Half",)), End.CLOSE])


@first
def ends_without_finish(request: Request) -> Reply:
    """A gateway whose upstream dies: its own HTTP ends well, the answer has no end."""
    to = wire(request)
    return Reply([*to.begin(), *to.text(("Half",))])


@first
def ends_in_arguments(request: Request) -> Reply:
    """The same in the middle of a call, which must not be made."""
    to = wire(request)
    frames = to.begin() + to.calls((read("a.txt"),))
    return Reply(frames[:-1] if request.protocol != "gemini" else frames)


@first
def finish_without_done(request: Request) -> Reply:
    """Google's OpenAI endpoint, older LiteLLM: a finish reason, and no `[DONE]`: it is whole."""
    chat = Chat(model_of(request))
    frames = [*chat.begin(), *chat.text(("Well", " said.")), chat.chunk({}, "stop")]
    return Reply([*frames], until_closed=True)


@first
def open_after_done(request: Request) -> Reply:
    """Servers that keep a connection open after its answer: the end does not wait for theirs."""
    return Reply([*wire(request).whole(say("Well", " said.")), End.HANG])


# Thinking


@first
def think_tags_in_prose(request: Request) -> Reply:
    """A model that writes about the tags: only those at the beginning are its own thinking."""
    return stream(request, say("Put it into `<think>`", " and `</think>`, ", "please."))


@first
def think_tags_unclosed(request: Request) -> Reply:
    """The same servers, when the answer is cut in the middle of thinking."""
    return stream(request, say("<think>", "I add", finish="length"))


@first
def think_tag_in_one_piece(request: Request) -> Reply:
    """Servers that join tokens: all in one delta, blanks before the tag."""
    return stream(request, say("\n<think>\nI add.\n</think>\n\nThree."))


@first
def thinking_by_two_names(request: Request) -> Reply:
    """OpenRouter, vLLM 0.11: `reasoning` and `reasoning_content` with the same text."""
    chat = Chat(model_of(request))
    deltas = [{"reasoning": each, "reasoning_content": each} for each in ("I ", "add.")]
    frames = [*map(chat.chunk, deltas), *chat.text(("Three.",))]
    return Reply([*frames, *chat.end("stop", (100, 50))])


@first
def content_in_parts(request: Request) -> Reply:
    """Mistral's Magistral: content is a list of parts, thinking one of them."""
    chat = Chat(model_of(request))
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "I add."}]}
    frames = [
        chat.chunk({"content": [thought]}),
        chat.chunk({"content": [{"type": "text", "text": "Three."}]}),
    ]
    return Reply([*frames, *chat.end("stop", (100, 50))])


# Errors in a stream


def _after_text(request: Request, *frames: bytes) -> Reply:
    to = wire(request)
    return Reply([*to.begin(), *to.text(("Half",)), *frames])


@first
def error_as_text(request: Request) -> Reply:
    """Ollama, FastAPI: `{"error": "…"}`, a text instead of an object."""
    return _after_text(request, event({"error": "CUDA is out of memory"}))


@first
def error_of_vllm(request: Request) -> Reply:
    """vLLM: an object of its own, then `[DONE]` as if nothing had happened."""
    error = {"object": "error", "message": "CUDA is out of memory", "code": 500}
    return _after_text(request, event(error), Chat.done)


@first
def error_as_plain_text(request: Request) -> Reply:
    """Proxies: `event: error`, and data that is no JSON."""
    return _after_text(request, b"event: error\ndata: CUDA is out of memory\n\n")


@first
def error_in_choice(request: Request) -> Reply:
    """OpenRouter: a chunk with `finish_reason: "error"`, and the error beside the choices."""
    error = {"code": 502, "message": "CUDA is out of memory"}
    chat = Chat(model_of(request))
    return _after_text(request, chat.chunk({"content": ""}, "error", error=error), chat.done)


@first
def failed_response(request: Request) -> Reply:
    """OpenAI's Responses: `response.failed`, whose error is in the response."""
    to = wire(request)
    error = {"code": "server_error", "message": "CUDA is out of memory"}
    failed = to.response("failed", error=error)
    return Reply([*to.begin(), *to.text(("Half",)), to.named("response.failed", response=failed)])


@first
def error_as_body(request: Request) -> Reply:
    """Gateways: status 200, and a body of JSON that is an error."""
    error = {"message": "The engine is overloaded", "code": 503, "type": "server_error"}
    return send_json({"error": error})


@first
def unavailable(request: Request) -> Reply:
    """nginx while a container starts: 503 and a page."""
    return send_text(page("503 Service Temporarily Unavailable"), "text/html", 503)


@first
def rate_limited(request: Request) -> Reply:
    """Everybody: 429, with a wait that is not a whole number."""
    return refuse(request, 429, "Rate limit reached.", "rate_limit_exceeded", retry_after="0.05")


# Signs of life


@first
def empty_chunks_first(request: Request) -> Reply:
    """Azure, Groq, Kimi: chunks without choices, or with empty deltas, while it works."""
    chat = Chat(model_of(request))
    empty = [chat.chunk(None), chat.chunk({"role": "assistant", "content": None}), chat.chunk({})]
    waits: list[bytes | float | End] = [each for _ in range(3) for each in (*empty, 0.2)]
    return Reply([*waits, *chat.text(("Here I am.",)), *chat.end("stop", (100, 50))])


@first
def blank_lines_first(request: Request) -> Reply:
    """DeepSeek and proxies: blank lines and empty `data:` keep the connection."""
    signs: list[bytes | float | End] = [b"\n", 0.15, b"data:\n\n", 0.15, b": x\n\n", 0.15]
    return Reply([*signs * 3, *wire(request).whole(say("Here I am."))])


@first
def pings_in_answer(request: Request) -> Reply:
    """OpenRouter, Anthropic: the same in the middle of an answer that takes its time."""
    to = wire(request)
    frames = to.whole(say("Here ", "I am."))
    half = len(frames) // 2
    waits: list[bytes | float | End] = [each for _ in range(6) for each in (to.ping, 0.2)]
    return Reply([*frames[:half], *waits, *frames[half:]])


# Fields


@behaviour
def unsupported_parameter(request: Request, value: str = "max_tokens") -> Reply | None:
    """OpenAI's reasoning models: 400 with `param`, and which field to use instead."""
    if value not in request.body:
        return None
    instead = " Use 'max_completion_tokens' instead." if value == "max_tokens" else ""
    message = f"Unsupported parameter: '{value}' is not supported with this model.{instead}"
    error = {"message": message, "type": "invalid_request_error", "param": value}
    return send_json({"error": {**error, "code": "unsupported_parameter"}}, 400)


@behaviour
def unsupported_value(request: Request, value: str = "temperature") -> Reply | None:
    """OpenAI's reasoning models, Kimi: only the default is supported."""
    if value not in request.body:
        return None
    message = (
        f"Unsupported value: '{value}' does not support {request.body[value]} with this model."
    )
    error = {"message": message, "type": "invalid_request_error", "param": value}
    return send_json({"error": {**error, "code": "unsupported_value"}}, 400)


@behaviour
def unrecognized_argument(request: Request, value: str = "stream_options") -> Reply | None:
    """Azure's older versions: no `param`, the field is in the sentence only."""
    if value not in request.body:
        return None
    return refuse(request, 400, f"Unrecognized request argument supplied: {value}")


@behaviour
def extra_inputs(request: Request, value: str = "temperature") -> Reply | None:
    """Anthropic, Bedrock: 400 and the field before a colon."""
    if value not in request.body:
        return None
    return refuse(request, 400, f"{value}: Extra inputs are not permitted")


# Answers without content


@behaviour
def blank_after_tools(request: Request) -> Reply | None:
    """Small models: white space is all that they add to the results of their tools."""
    if request.results:
        return stream(request, say("\n", "\n"))
    return stream(request, want(read("a.txt"))) if request.number == 1 else None


@behaviour
def thought_only_after_tools(request: Request) -> Reply | None:
    """DeepSeek, Qwen: they think about the results, and say nothing."""
    if request.results:
        return stream(request, say(thinking=("Done already.",)))
    return stream(request, want(read("a.txt"))) if request.number == 1 else None


@first
def nothing_at_all(request: Request) -> Reply:
    """Every model, now and then: no text, no call, `stop`."""
    return stream(request, say())


# Labels and frames


@first
def no_label(request: Request) -> Reply:
    """Hand-made servers: no `content-type`."""
    reply = stream(request, say("Read", " me."))
    reply.kind = ""
    return reply


@first
def text_label(request: Request) -> Reply:
    """Hand-made servers: `text/plain` in another charset than its own."""
    reply = stream(request, say("Read", " me."))
    reply.kind = "text/plain; charset=iso-8859-1"
    return reply


@first
def frames_in_another_style(request: Request) -> Reply:
    """Java's and Go's servers: a byte order mark, lines that end in CR, no blank after colons."""
    body = b"".join(wire(request).whole(say("Read", " me.")))
    body = body.replace(b"\r\n", b"\n").replace(b"data: ", b"data:").replace(b"\n", b"\r")
    return Reply([b"\xef\xbb\xbf" + body])


@first
def data_in_lines(request: Request) -> Reply:
    """Proxies that indent JSON: a field `data` for each of its lines; ids and retries between."""
    frames = []
    for frame in wire(request).whole(say("Read", " me.")):
        *head, data = frame.decode().rstrip().split("\n")
        if data.startswith("data: {"):
            lines = json.dumps(json.loads(data[6:]), indent=1).split("\n")
            data = "\n".join(f"data: {line}" for line in lines)
        frames.append("\n".join(["id: 7", "retry: 3000", *head, data, "\n"]).encode())
    return Reply([*frames])


# Reasoning


@behaviour
def wants_own_reasoning(request: Request) -> Reply | None:
    """DeepSeek, Kimi: while tools are called, thinking must come back with the call."""
    for each in request.talk:
        if each.calls and not each.thoughts and request.results:
            return refuse(
                request,
                400,
                "Missing `reasoning_content` field in the assistant message at message index 2.",
            )
    return None


# Histories


@behaviour
def user_speaks_last(request: Request) -> Reply | None:
    """Mistral, vLLM: an answer is given to a user or to a tool, never to an assistant."""
    last = request.talk[-1]
    if last.is_assistant or last.is_system:
        return refuse(
            request,
            400,
            "Expected last role User or Tool (or Assistant with prefix True) for serving but got"
            f" {last.role}",
        )
    return None


@behaviour
def no_user_after_tool(request: Request) -> Reply | None:
    """Mistral: the assistant speaks between a tool and a user."""
    for one, other in pairwise(request.talk if request.protocol == "chat" else ()):
        if one.role == "tool" and other.role in ("user", "system"):
            return refuse(request, 400, f"Unexpected role '{other.role}' after role 'tool'")
    return None


@behaviour
def one_system_message(request: Request) -> Reply | None:
    """MiniMax, SambaNova: there may be one system message, no more."""
    if sum(each.is_system for each in request.messages) > 1:
        return refuse(request, 400, "invalid params, only one system message is allowed")
    return None


@behaviour
def user_speaks_first(request: Request) -> Reply | None:
    """Anthropic, Gemma's template, Perplexity: the conversation begins with a user."""
    if request.talk and request.talk[0].role != "user":
        return refuse(request, 400, "First message must be from user.")
    return None


@behaviour
def unique_call_ids(request: Request) -> Reply | None:
    """Anthropic, Bedrock: no id of a call occurs twice in a conversation."""
    ids = [id_ for each in request.talk for id_, _, _ in each.calls if id_]
    if len(ids) > len(set(ids)):
        return refuse(request, 400, "messages: `tool_use` ids must be unique")
    return None


@behaviour
def tool_name_pattern(request: Request, value: str = "[a-zA-Z0-9_-]{1,64}") -> Reply | None:
    """OpenAI, Anthropic, Bedrock: names of tools have an alphabet, in the history too."""
    called = [name for each in request.talk for _, name, _ in each.calls]
    for name in [*request.tools, *called]:
        if not re.fullmatch(value, name):
            return refuse(request, 400, f"tools.0.name: String should match pattern '^{value}$'")
    return None


@behaviour
def arguments_are_objects(request: Request) -> Reply | None:
    """vLLM, SGLang, Bedrock: arguments in the history are parsed, and must be an object."""
    for each in request.talk:
        for _, _, arguments in each.calls:
            try:
                given = json.loads(arguments) if isinstance(arguments, str) else arguments
            except ValueError:
                return refuse(request, 400, "Unterminated string starting at: line 1 column 10")
            if not isinstance(given, dict):
                return refuse(request, 400, "Can only get item pairs from a mapping.")
    return None


@behaviour
def calls_that_break_histories(request: Request) -> Reply | None:
    """Models: a first answer with ids and arguments that no other server takes."""
    if request.number > 1 or not request.tools:
        return None
    broken = Call("read_file", '{"path": "a.txt', "functions.read:0")
    listed = Call("read_file", '["a.txt"]', "fn/1 \xfc")
    # Gemini's own are objects always.
    calls = (Call("read_file", {}),) if request.protocol == "gemini" else (broken, listed)
    return stream(request, want(*calls))


def _arguments(schema: dict[str, Any]) -> dict[str, Any]:
    """Return what a model gives that keeps to the schema: what is required, and a text if any."""
    values: dict[str, Any] = {"array": [], "object": {}, "number": 1, "integer": 1, "boolean": True}
    properties = schema.get("properties") or {}
    names = [*schema.get("required", ()), *({"text"} & properties.keys())]
    kinds = {name: str(properties[name].get("type")).lower() for name in names}
    return {name: values.get(kind, "x") for name, kind in kinds.items()}


@behaviour
def calls_all_tools(request: Request) -> Reply | None:
    """A model that calls each tool that it is offered, by the name that it was told."""
    if request.results or not request.tools:
        return None
    tools = enumerate(request.tools.items())
    calls = (Call(name, _arguments(schema), f"call_{n}") for n, (name, schema) in tools)
    return stream(request, want(*calls))


@behaviour
def gone_after(request: Request, value: int = 1) -> Reply | None:
    """Every service: it answers some requests, and is overloaded from then on."""
    if request.number <= value:
        return None
    return refuse(request, 503, "The service is overloaded.")


# Overflows

for _name, _refused in {
    "overflow_vllm": overflow(
        400,
        "'max_tokens' or 'max_completion_tokens' is too large: 2000. This model's maximum context"
        " length is {limit} tokens and your request has {asked} input tokens.",
    ),
    "overflow_sglang": overflow(
        400,
        "The input ({asked} tokens) is longer than the model's context length ({limit} tokens).",
    ),
    "overflow_bedrock": overflow(400, "Input is too long for requested model."),
    "overflow_mistral": overflow(
        400,
        "Prompt contains {asked} tokens and 0 draft tokens, too large for model with {limit}"
        " maximum context length",
    ),
    "overflow_groq": overflow(
        413, "Request too large for model: Limit {limit}, Requested {asked}", "rate_limit_exceeded"
    ),
    "overflow_kimi": overflow(
        400, "Invalid request: Your request exceeded model token limit: {limit}"
    ),
    "overflow_lm_studio": overflow(
        400,
        "Trying to keep the first {asked} tokens when context the overflows. However, the model is"
        " loaded with context length of only {limit} tokens, which is not enough.",
    ),
    "overflow_anthropic_output": overflow(
        400, "input length and `max_tokens` exceed context limit: {asked} + 4096 > {limit}"
    ),
    "overflow_cohere": overflow(
        400, "too many tokens: size limit exceeded by {asked} tokens. Try using shorter inputs."
    ),
}.items():
    BEHAVIOURS[_name] = _refused


@behaviour
def overflow_in_stream(request: Request, value: int = 200_000) -> Reply | None:
    """vLLM behind gateways, OpenRouter: status 200, and the error is the first event."""
    if len(request.raw) <= value:
        return None
    error = {"message": f"maximum context length is {value // 4} tokens", "code": 400}
    return Reply([event({"error": error})])


@behaviour
def overflow_500(request: Request, value: int = 200_000) -> Reply | None:
    """Older llama.cpp, KoboldCpp, Ollama's runners: an error of the server, not of the request."""
    if len(request.raw) <= value:
        return None
    return refuse(request, 500, "input length exceeds the context size of the model")


# Loops


@behaviour
def two_tools_forever(request: Request) -> Reply | None:
    """The same models: two calls in turn, so that none is like the one before."""
    if "for ever" in request.last_user and request.tools and request.number < 1000:
        name = "a.txt" if request.number % 2 else "b.txt"
        return stream(request, want(read(name, f"call_{request.number}")))
    return None


@behaviour
def unknown_tool_forever(request: Request) -> Reply | None:
    """Models that were trained with other tools."""
    if "for ever" in request.last_user and request.tools and request.number < 1000:
        return stream(request, want(Call("str_replace_editor", {}, f"call_{request.number}")))
    return None


@behaviour
def broken_arguments_forever(request: Request) -> Reply | None:
    """Small models: JSON that is none, again and again."""
    if "for ever" in request.last_user and request.tools and request.number < 1000:
        return stream(request, want(Call("read_file", '{"path": ', f"call_{request.number}")))
    return None


# Places


@behaviour
def json_404(request: Request) -> Reply:
    """FastAPI: nothing is at this path."""
    return send_json({"detail": "Not Found"}, 404)


@behaviour
def plain_404(request: Request) -> Reply:
    """Go's servers, Ollama: a line of text."""
    return send_text("404 page not found\n", "text/plain", 404)


@behaviour
def page_instead(request: Request) -> Reply:
    """A web app at that place: status 200, and its page for every path."""
    return send_text(f"<!doctype html>{page('Open WebUI')}<script>1</script>", "text/html")


@behaviour
def html_405(request: Request) -> Reply:
    """nginx in front of static files: POST is not allowed."""
    return send_text(page("405 Not Allowed"), "text/html", 405)


@behaviour
def redirects_to_login(request: Request) -> Reply:
    """Single sign-on in front of a server: 302 to its login page."""
    return Reply([], 302, "text/html", {"location": "/login"})


@behaviour
def bad_gateway(request: Request) -> Reply:
    """Cloudflare while the origin is down: 502 and four screens of HTML."""
    return send_text(page("502: Bad gateway") + "<p>x</p>" * 400, "text/html", 502)
