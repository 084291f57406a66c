"""How real servers misbehave: one function each, named after what they do, in one table.

A behaviour looks at a request and returns what the server does, or None where it has nothing to
say; `first` are those that misbehave once, so that the next request shows what became of the
session. Behaviours are combined by `+` and take a value after `=`: see `parse`.
"""

import inspect
import json
import re
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from tests.harness.rude.reply import (
    Behaviour,
    End,
    Reply,
    model_of,
    refuse,
    send_json,
    send_text,
    stream,
)
from tests.harness.rude.request import Request, Seen
from tests.harness.rude.wire import WIRES, Answer, Call, Chat, event, say, want

BEHAVIOURS: dict[str, Behaviour] = {}


def behaviour(function: Behaviour) -> Behaviour:
    """Put a behaviour into the table, under its name."""
    assert function.__name__ not in BEHAVIOURS
    BEHAVIOURS[function.__name__] = function
    return function


def first(function: Behaviour) -> Behaviour:
    """Put a behaviour into the table that only the first request meets."""

    @wraps(function)
    def once(request: Request, **value: Any) -> Reply | None:
        return function(request, **value) if request.number == 1 else None

    return behaviour(once)


def parse(spec: str) -> list[Behaviour]:
    """Return the behaviours that `name+name=value` stands for."""
    import tests.harness.rude.siblings  # noqa: F401, they put themselves into the table

    return [_bound(*each.partition("=")[::2]) for each in filter(None, spec.split("+"))]


def _bound(name: str, value: str) -> Behaviour:
    function = BEHAVIOURS[name]
    if not value:
        return function
    kind = inspect.signature(function).parameters["value"].annotation
    return partial(function, value=kind(value))


def plays(*answers: Answer) -> Behaviour:
    """Return a behaviour that gives these answers one after the other, the last one ever again.

    A model calls only tools that it is offered: without them it says something.
    """
    left = list(answers)

    def play(request: Request) -> Reply:
        if left and left[0].calls and not request.tools:
            return stream(request, say("Nothing to call here."))
        return stream(request, left.pop(0) if len(left) > 1 else left[0])

    return play


def wire(request: Request) -> Any:
    """Return the protocol of the request, to write an answer by hand."""
    return WIRES[request.protocol](model_of(request))


# Streams


@first
def split_surrogates(request: Request) -> Reply:
    """vLLM, SGLang, TGI: a token may end in the middle of what JSON writes as two escapes."""
    return stream(request, say("Look: \ud83d", "\ude00", " and a half \ud83d", "."))


@first
def split_surrogates_in_thinking(request: Request) -> Reply:
    """The same servers, in the text of thinking."""
    return stream(request, say("Seen.", thinking=("Hm \ud83d", "\ude00", " \ude00.")))


@first
def surrogates_in_arguments(request: Request) -> Reply:
    """The same servers, in the arguments of a call: halves that belong together, and one alone."""
    pieces = ('{"path": "a.txt", "content": "\ud83d', '\ude00 \\ud83d\\ude00 \\ud800."}')
    return stream(request, want(Call("write_file", pieces)))


@first
def two_calls_same_index(request: Request) -> Reply:
    """Gemini's OpenAI endpoint, older vLLM: whole calls, all of them with `index: 0`."""
    chat = Chat(model_of(request))
    calls = [
        {
            "index": 0,
            "id": f"call_{name}",
            "type": "function",
            "function": {"name": "read_file", "arguments": json.dumps({"path": name})},
        }
        for name in ("a.txt", "b.txt")
    ]
    frames = [chat.chunk({"tool_calls": [call]}) for call in calls]
    return Reply([*chat.begin(), *frames, *chat.end("tool_calls", (100, 50))])


@first
def running_usage(request: Request) -> Reply:
    """vLLM with `continuous_usage_stats`, SGLang, Perplexity: each chunk has the total so far."""
    chat = Chat(model_of(request))
    frames = [
        chat.chunk({"content": f"{number} "}, usage=chat.usage(100, number))
        for number in range(1, 51)
    ]
    return Reply([*chat.begin(), *frames, *chat.end("stop", (100, 50))])


@first
def cut_by_length(request: Request) -> Reply:
    """Every server: the answer has as many tokens as it may, and is told to be cut."""
    return stream(request, say("Half of an", " answer", finish="length"))


@first
def empty_finish_then_close(request: Request) -> Reply:
    """LiteLLM, one-api: `finish_reason: ""` in each chunk; the upstream dies and so it ends."""
    chat = Chat(model_of(request))
    return Reply([chat.chunk({"content": f"{n} "}, "") for n in range(10)], until_closed=True)


@first
def split_think_tags(request: Request) -> Reply:
    """llama.cpp, Ollama, LM Studio without a parser for reasoning: tags, in tokens of their own."""
    return stream(request, say("<th", "in", "k>I add.", "</thi", "nk>", "\n\nThree."))


@first
def error_event_after_text(request: Request) -> Reply:
    """All services when their machine fails: an error in the stream, after half of the answer."""
    to = wire(request)
    return Reply([*to.begin(), *to.text(("Half",)), *to.error("CUDA is out of memory")])


@first
def named_error_after_text(request: Request) -> Reply:
    """Groq, Mistral, LiteLLM: `event: error` in a stream whose other events have no name."""
    to = wire(request)
    frame = event({"error": {"message": "CUDA is out of memory", "code": 500}}, "error")
    return Reply([*to.begin(), *to.text(("Half",)), frame])


@first
def error_event_first(request: Request) -> Reply:
    """The same, when it was overloaded from the beginning: with status 200 all the same."""
    return Reply(list(wire(request).error("The engine is overloaded")))


@first
def keepalives_then_answer(request: Request) -> Reply:
    """DeepSeek, OpenRouter, Anthropic: signs of life while the request waits in a queue."""
    to = wire(request)
    waits: list[bytes | float | End] = [each for _ in range(8) for each in (to.ping, 0.15)]
    return Reply([*waits, *to.whole(say("Here I am."))])


@behaviour
def keepalives_forever(request: Request) -> Reply | None:
    """The same when the queue never moves: only the time limit of the run ends it."""
    if request.number > 1:
        return None
    ping: list[bytes | float | End] = [wire(request).ping, 0.1]
    return Reply([*ping * 600, End.HANG])


@behaviour
def refuses_unknown_field(request: Request, value: str = "stream_options") -> Reply | None:
    """Mistral, TGI, older vLLM and gateways that validate: 422 for a field they do not know."""
    if value not in request.body:
        return None
    error = {"type": "extra_forbidden", "loc": ["body", value], "input": request.body[value]}
    return send_json({"detail": [{**error, "msg": "Extra inputs are not permitted"}]}, 422)


@behaviour
def empty_after_tools(request: Request) -> Reply | None:
    """All models: after its tools have done the work a model may have nothing to add."""
    if request.results:
        to = wire(request)
        return Reply([*to.begin(), *to.end("stop", (100, 0))])
    return stream(request, want(read("a.txt"))) if request.number == 1 else None


@first
def json_label(request: Request) -> Reply:
    """Gateways (Apigee, one-api, Cloudflare workers): SSE that is labelled as JSON."""
    reply = stream(request, say("Read", " me."))
    reply.kind = "application/json"
    return reply


@first
def raw_u2028(request: Request) -> Reply:
    """Gemini, and servers in Go or JavaScript: U+2028 and U+0085 stand in JSON as they are."""
    frames = wire(request).whole(say("one\u2028two\u2029three\x85four", " end"))
    return Reply([_unescaped(frame) for frame in frames])


def _unescaped(frame: bytes) -> bytes:
    escapes = {b"\\u2028": "\u2028", b"\\u2029": "\u2029", b"\\u0085": "\x85"}
    for escape, character in escapes.items():
        frame = frame.replace(escape, character.encode())
    return frame


def read(path: str, id_: str = "") -> Call:
    return Call("read_file", {"path": path}, id_)


# Reasoning that goes back


@behaviour
def thinks_and_calls(request: Request) -> Reply | None:
    """A model that thinks, tells it in its own way, and calls a tool, in its first answer."""
    if request.number > 1 or not request.tools:
        return None
    answer = want(read("a.txt"), thinking=("I look. ", "  Twice.\n"), opaque="c2lnbmVk+//+")
    return stream(request, answer)


@behaviour
def refuses_foreign_reasoning(request: Request) -> Reply | None:
    """DeepSeek, Groq, Mistral: a message with `reasoning_content` of somebody is refused."""
    for message in request.body.get("messages", ()):
        for name in {"reasoning_content", "reasoning", "reasoning_details"} & message.keys():
            return refuse(request, 400, f"property 'messages.1.{name}' is unsupported")
    return None


@behaviour
def signature_checked(request: Request) -> Reply | None:
    """Anthropic, Gemini, OpenAI: thinking comes back as it was signed, or is refused.

    Signs the thinking of `thinks_and_calls`, and wants it back while its calls are answered.
    """
    own = ("I look.   Twice.\n", "c2lnbmVk+//+")
    for each in request.talk:
        for text, opaque in each.thoughts:
            if request.protocol == "gemini" and opaque not in ("", own[1]):
                return refuse(request, 400, "Thought signature is not valid.")
            if request.protocol == "messages" and (text, opaque) != own:
                return refuse(
                    request, 400, "messages.1.content.0: Invalid `signature` in `thinking` block"
                )
            if request.protocol == "responses" and opaque not in ("", own[1]):
                message = "The encrypted content could not be verified."
                return refuse(request, 400, message, "invalid_encrypted_content")
    missing = request.results and not any(each.thoughts for each in request.talk)
    if missing and request.protocol in ("messages", "gemini"):
        return refuse(
            request,
            400,
            "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found"
            " `tool_use`. / Function call is missing a thought_signature in functionCall parts.",
        )
    return None


# Histories


@behaviour
def strict_roles(request: Request) -> Reply | None:
    """vLLM and llama.cpp with the templates of Mistral and Gemma; Bedrock; Perplexity."""
    if request.protocol == "responses":
        return None
    expects_user = True
    for each in request.talk:
        if each.is_system:
            continue
        if each.role == "tool" or (request.protocol == "chat" and each.results):
            expects_user = False
        elif each.is_assistant:
            if expects_user:
                return _roles(request)
            expects_user = True
        else:
            if not expects_user:
                return _roles(request)
            expects_user = False
    return None


def _roles(request: Request) -> Reply:
    return refuse(
        request,
        400,
        "After the optional system message, conversation roles must alternate"
        " user/assistant/user/assistant/...",
    )


@behaviour
def leading_system_only(request: Request) -> Reply | None:
    """Qwen's and Mistral's templates, Perplexity, SambaNova: a system message comes first."""
    if any(each.is_system for each in request.talk):
        return refuse(request, 400, "System message must be at the beginning.")
    return None


@behaviour
def no_tool_blocks_without_tools(request: Request) -> Reply | None:
    """Bedrock, LiteLLM in front of Anthropic, Cohere: calls in the history need `tools`."""
    if not request.tools and any(each.calls or each.results for each in request.talk):
        return refuse(
            request,
            400,
            "Requests which include `tool_use` or `tool_result` blocks must define tools",
        )
    return None


@behaviour
def id_pattern(request: Request, value: str = "[a-zA-Z0-9_-]{1,64}") -> Reply | None:
    """Anthropic, Bedrock, Mistral (`[a-zA-Z0-9]{9}`): ids of calls have an alphabet, a length."""
    for id_ in _ids(request.talk):
        if not re.fullmatch(value, id_):
            return refuse(
                request, 400, f"tool_use.id: String should match pattern '^{value}$', not {id_!r}"
            )
    return None


def _ids(messages: list[Seen]) -> list[str]:
    called = [id_ for each in messages for id_, _, _ in each.calls]
    return called + [id_ for each in messages for id_, _ in each.results]


@behaviour
def no_blank_messages(request: Request) -> Reply | None:
    """Anthropic, Bedrock, Vertex, Cohere: every text has a character that is no white space."""
    for each in request.messages:
        texts = each.texts + [text for _, text in each.results]
        if request.protocol == "chat" and each.calls and texts == [""]:
            # Content that is empty beside calls is what OpenAI's own answers have.
            continue
        if any(not text.strip("\u200b\u200c\u200d\u2060\ufeff \t\r\n\xa0\u3000") for text in texts):
            return refuse(request, 400, "messages: text content blocks must be non-empty")
        if not (texts or each.calls or each.thoughts):
            return refuse(request, 400, "all messages must have non-empty content")
    return None


@behaviour
def strict_schemas(request: Request) -> Reply | None:
    """OpenAI, Gemini, Bedrock, Fireworks: schemas of tools are checked first of all."""
    for name, schema in request.tools.items():
        if request.protocol == "gemini" and not schema:
            # A function without parameters has no schema there: an empty one is refused.
            continue
        if flaw := next(iter(_flaws(schema, name)), None):
            return refuse(request, 400, f"Invalid schema for function '{name}': {flaw}")
    return None


def _flaws(schema: Any, place: str, top: bool = True) -> list[str]:
    if isinstance(schema, bool):
        return []
    if not isinstance(schema, dict):
        return [f"{place}: {schema!r} is not of type 'object', 'boolean'"]
    flaws = []
    given = schema.get("type")
    # Gemini's own spelling has capitals.
    kinds = [str(each).lower() for each in (given if isinstance(given, list) else [given])]
    if top and kinds != ["object"]:
        flaws.append(f"schema must be a JSON Schema of 'type: \"object\"', got {given}")
    if top and {"anyOf", "oneOf", "allOf", "enum", "not"} & schema.keys():
        flaws.append("schema must not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level.")
    if "array" in kinds and "items" not in schema:
        flaws.append(f"In context={place}, array schema missing items.")
    if "$ref" in schema:
        flaws.append(f"In context={place}, reference can only point to definitions")
    properties = schema.get("properties") or {}
    flaws += [
        f"required fields [{name!r}] are not defined in the schema properties"
        for name in schema.get("required", ())
        if name not in properties
    ]
    inner = [*properties.items(), *((key, schema[key]) for key in ("items",) if key in schema)]
    for word in ("anyOf", "oneOf", "allOf", "prefixItems"):
        inner += [(f"{word}.{n}", each) for n, each in enumerate(schema.get(word) or ())]
    return flaws + [flaw for name, each in inner for flaw in _flaws(each, f"{place}.{name}", False)]


# Context


@behaviour
def overflow_above_bytes(request: Request, value: int = 200_000) -> Reply | None:
    """Every server: what is larger than its window is refused, in the protocol's own words."""
    words = {"messages": overflow_anthropic, "gemini": overflow_gemini}
    return words.get(request.protocol, overflow_openai)(request, value)


def overflow(status: int, message: str, code: str | None = None) -> Callable[..., Reply | None]:
    """Return the behaviour of a server that says in these words that a request is too large."""

    def refused(request: Request, value: int = 200_000) -> Reply | None:
        if len(request.raw) <= value:
            return None
        numbers = {"asked": len(request.raw) // 4, "limit": value // 4}
        return refuse(request, status, message.format(**numbers), code)

    return refused


overflow_openai = overflow(
    400,
    "This model's maximum context length is {limit} tokens. However, your messages resulted in"
    " {asked} tokens. Please reduce the length of the messages.",
    "context_length_exceeded",
)
overflow_anthropic = overflow(400, "prompt is too long: {asked} tokens > {limit} maximum")
overflow_gemini = overflow(
    400,
    "The input token count ({asked}) exceeds the maximum number of tokens allowed ({limit}).",
)
BEHAVIOURS["overflow_openai"] = overflow_openai
BEHAVIOURS["overflow_anthropic"] = overflow_anthropic
BEHAVIOURS["overflow_gemini"] = overflow_gemini


@behaviour
def overflow_llama_cpp(request: Request, value: int = 200_000) -> Reply | None:
    """llama.cpp's server."""
    if len(request.raw) <= value:
        return None
    error = {
        "code": 400,
        "message": "the request exceeds the available context size, try increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": len(request.raw) // 4,
        "n_ctx": value // 4,
    }
    return send_json({"error": error}, 400)


@behaviour
def overflow_413(request: Request, value: int = 200_000) -> Reply | None:
    """nginx in front of anything: `client_max_body_size`, with its own page."""
    if len(request.raw) <= value:
        return None
    return send_text(page("413 Request Entity Too Large"), "text/html", 413)


@behaviour
def same_tool_forever(request: Request) -> Reply | None:
    """Small models, and large ones at low temperature: the same call for ever.

    For a message that says "for ever"; even this one gives up after a thousand requests.
    """
    if "for ever" in request.last_user and request.tools and request.number < 1000:
        return stream(request, want(read("a.txt", f"call_{request.number}")))
    return None


# Places and keys


def page(title: str) -> str:
    """Return a page as servers have it that are no model."""
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1>\r\n"
    )


@behaviour
def html_404(request: Request) -> Reply:
    """nginx, or any web server, where `base_url` lacks its `/v1`."""
    return send_text(page("404 Not Found"), "text/html", 404)


@behaviour
def refuses_key(request: Request, value: str = "sk-good") -> Reply | None:
    """OpenAI, Anthropic, Google: the key is wrong, and a part of it is repeated."""
    if request.key == value:
        return None
    shown = f"{request.key[:6]}***{request.key[-4:]}"
    return refuse(request, 401, f"Incorrect API key provided: {shown}.", "invalid_api_key")


@first
def refuses_once(request: Request) -> Reply:
    """A key that is valid only from the second request on, as one just made is."""
    return refuse(request, 401, "Incorrect API key provided.", "invalid_api_key")


@first
def hangs_in_answer(request: Request) -> Reply:
    """A machine that is lost in the middle of an answer: nothing more comes, nobody hangs up."""
    to = wire(request)
    return Reply([*to.begin(), *to.text(("Half of",)), End.HANG])


@first
def slow_answer(request: Request) -> Reply:
    """A small machine: a piece now and then, none of them late."""
    to = wire(request)
    pieces: list[bytes | float | End] = []
    for number in range(10):
        pieces += [*to.text((f"{number} ",)), 0.3]
    return Reply([*to.begin(), *pieces, *to.end("stop", (100, 50))])
