"""What every server of a protocol checks: a request that it would refuse is refused here.

Each check follows the strictest real server of its protocol and uses its words.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.harness.rude.reply import Reply, refuse
from tests.harness.rude.request import Request

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_GEMINI_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")


def check(request: Request) -> Reply | None:
    """Return the refusal of a request that breaks the rules of its protocol."""
    try:
        request.raw.decode()
        body = request.body
    except ValueError:
        return refuse(request, 400, "We could not parse the JSON body of your request.")
    if _has_lone_surrogate(body) or "\0" in json.dumps(body, ensure_ascii=False):
        return refuse(request, 400, "We could not parse the JSON body: invalid unicode code point.")
    try:
        complaint = next(_RULES[request.protocol](request), None)
    except (KeyError, TypeError, AttributeError) as error:
        complaint = f"The request is not of this protocol: {error!r}."
    return refuse(request, 400, complaint) if complaint else None


def _has_lone_surrogate(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _chat(request: Request) -> Iterator[str]:
    body = request.body
    if not body.get("model"):
        yield "you must provide a model parameter"
    if not body["messages"]:
        yield "[] is too short - 'messages'"
    open_calls: list[str] = []
    for number, message in enumerate(body["messages"]):
        role = message["role"]
        if role not in ("system", "developer", "user", "assistant", "tool"):
            yield f"Invalid value: '{role}'. Supported values are: 'system', 'assistant', …"
        if role == "tool":
            if message["tool_call_id"] not in open_calls:
                yield (
                    f"Invalid parameter: messages[{number}] with role 'tool' must be a response"
                    " to a preceeding message with 'tool_calls'."
                )
            open_calls.remove(message["tool_call_id"])
        elif open_calls:
            break
        calls = message.get("tool_calls")
        if calls == []:
            yield f"Invalid 'messages[{number}].tool_calls': empty array."
        for call in calls or []:
            if not _NAME.fullmatch(call["function"]["name"]):
                yield (
                    f"Invalid 'messages[{number}].tool_calls[0].function.name': string does not"
                    " match pattern. Expected a string that matches '^[a-zA-Z0-9_-]+$'."
                )
            if not isinstance(call["function"]["arguments"], str):
                yield f"Invalid type for 'messages[{number}].tool_calls[0].function.arguments'"
            open_calls.append(call["id"])
        if message.get("content") is None and not calls:
            yield f"Invalid value for 'content': expected a string, got null. messages[{number}]"
    if open_calls:
        yield (
            "An assistant message with 'tool_calls' must be followed by tool messages responding"
            " to each 'tool_call_id'. The following tool_call_ids did not have response messages:"
            f" {', '.join(open_calls)}"
        )
    for name in request.tools:
        if not _NAME.fullmatch(name):
            yield "Invalid 'tools[0].function.name': string does not match pattern."
    if body.get("tools") == []:
        yield "[] is too short - 'tools'"
    if body.get("tool_choice") and not body.get("tools"):
        yield "'tool_choice' is only allowed when 'tools' are specified."


_RESPONSES_FIELDS = (
    "background include input instructions max_output_tokens max_tool_calls metadata model"
    " parallel_tool_calls previous_response_id prompt_cache_key reasoning safety_identifier"
    " service_tier store stream stream_options temperature text tool_choice tools top_logprobs"
    " top_p truncation user conversation"
)


def _responses(request: Request) -> Iterator[str]:
    body = request.body
    for name in body.keys() - set(_RESPONSES_FIELDS.split()):
        yield f"Unknown parameter: '{name}'."
    items = body["input"] if isinstance(body["input"], list) else []
    if not body["input"]:
        yield "Missing required parameter: 'input'."
    given = [item for item in items if item.get("type") == "function_call"]
    answered = {item["call_id"] for item in items if item.get("type") == "function_call_output"}
    for call in given:
        if call["call_id"] not in answered:
            yield f"No tool output found for function call {call['call_id']}."
        if len(call["call_id"]) > 64:
            yield "Invalid 'input[0].call_id': string too long. Expected a maximum length of 64."
    for id_ in answered - {call["call_id"] for call in given}:
        yield f"No tool call found for function call output with call_id {id_}."
    for number, item in enumerate(items):
        id_ = item.get("id", "")
        prefixes = {"message": "msg", "reasoning": "rs", "function_call": "fc"}
        wanted = prefixes.get(item.get("type", ""))
        if id_ and wanted and not id_.startswith(wanted):
            yield (
                f"Invalid 'input[{number}].id': '{id_}'. Expected an ID that begins with"
                f" '{wanted}'."
            )
        follower = items[number + 1] if number + 1 < len(items) else {}
        own = follower.get("role") == "assistant" or "function_call" in follower.get("type", "")
        if item.get("type") == "reasoning" and not own and follower.get("type") != "reasoning":
            yield (
                f"Item '{id_}' of type 'reasoning' was provided without its required following"
                " item."
            )
    for name in request.tools:
        if not _NAME.fullmatch(name):
            yield "Invalid 'tools[0].name': string does not match pattern."


_MESSAGES_FIELDS = (
    "model messages max_tokens system temperature top_p top_k stop_sequences stream tools"
    " tool_choice thinking metadata service_tier container context_management mcp_servers"
    " output_config output_format cache_control inference_geo speed"
)
_BLOCKS = {
    "text": "text cache_control citations",
    "thinking": "thinking signature",
    "redacted_thinking": "data",
    "tool_use": "id name input cache_control caller",
    "tool_result": "tool_use_id content is_error cache_control",
}


def _messages(request: Request) -> Iterator[str]:
    body = request.body
    for name in body.keys() - set(_MESSAGES_FIELDS.split()):
        yield f"{name}: Extra inputs are not permitted"
    if "max_tokens" not in body:
        yield "max_tokens: Field required"
    if "anthropic-version" not in request.headers:
        yield "anthropic-version: header is required"
    if not body["messages"]:
        yield "messages: at least one message is required"
    thinking = body.get("thinking") or {}
    if thinking.get("budget_tokens", 0) >= body["max_tokens"]:
        yield "`max_tokens` must be greater than `thinking.budget_tokens`."
    for text in _system_texts(body):
        if not text.strip():
            yield "system: text content blocks must be non-empty"
    open_calls: list[str] = []
    for number, message in enumerate(body["messages"]):
        role, content = message["role"], message["content"]
        if role not in ("user", "assistant"):
            yield f'messages: Unexpected role "{role}".'
        if number == 0 and role != "user":
            yield 'messages: first message must use the "user" role'
        is_last = number == len(body["messages"]) - 1
        if not content and not (is_last and role == "assistant"):
            yield f"messages.{number}: all messages must have non-empty content"
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        results = [b["tool_use_id"] for b in blocks if b["type"] == "tool_result"]
        if missing := set(open_calls) - set(results):
            yield (
                f"messages.{number - 1}: `tool_use` ids were found without `tool_result` blocks"
                f" immediately after: {', '.join(sorted(missing))}. Each `tool_use` block must have"
                " a corresponding `tool_result` block in the next message."
            )
        if unknown := set(results) - set(open_calls):
            yield (
                f"messages.{number}.content.0: unexpected `tool_use_id` found in `tool_result`"
                f" blocks: {', '.join(sorted(unknown))}."
            )
        if len(results) != len(set(results)):
            yield f"messages.{number}.content: each tool_use must have a single result."
        if results and blocks[0]["type"] != "tool_result":
            yield f"messages.{number}: `tool_result` blocks must come first in the content"
        open_calls = []
        for place, block in enumerate(blocks):
            kind, where = block["type"], f"messages.{number}.content.{place}"
            for name in block.keys() - {"type"} - set(_BLOCKS.get(kind, "").split()):
                yield f"{where}.{kind}.{name}: Extra inputs are not permitted"
            if kind == "text" and not block["text"]:
                yield "messages: text content blocks must be non-empty"
            if kind == "text" and not block["text"].strip():
                yield "messages: text content blocks must contain non-whitespace text"
            if kind == "tool_use":
                if not re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"]):
                    yield (f"{where}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
                if not isinstance(block["input"], dict):
                    yield f"{where}.tool_use.input: Input should be a valid dictionary"
                open_calls.append(block["id"])
            if kind == "thinking" and not block["signature"]:
                yield f"{where}.thinking.signature: Field required"
        if len(open_calls) != len(set(open_calls)):
            yield "messages: `tool_use` ids must be unique"
        if (
            is_last
            and role == "assistant"
            and blocks[-1].get("text", "").rstrip() != blocks[-1].get("text", "")
        ):
            yield "messages: final assistant content cannot end with trailing whitespace"
    if open_calls:
        yield "messages: `tool_use` ids were found without `tool_result` blocks immediately after"
    for name, schema in request.tools.items():
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", name):
            yield "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"
        if schema.get("type") != "object":
            yield "tools.0.custom.input_schema.type: Field required"
        if {"oneOf", "allOf", "anyOf"} & schema.keys():
            yield (
                "tools.0.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf"
                " at the top level"
            )


def _system_texts(body: dict[str, Any]) -> list[str]:
    given = body.get("system")
    if given is None:
        return []
    return [given] if isinstance(given, str) else [block["text"] for block in given]


_GEMINI_FIELDS = (
    "contents systemInstruction tools toolConfig generationConfig safetySettings cachedContent"
    " labels"
)
# What the schema of the API itself has; `parametersJsonSchema` takes all of JSON Schema.
_GEMINI_SCHEMA = (
    "type format title description nullable enum maxItems minItems properties required"
    " minProperties maxProperties minLength maxLength pattern example anyOf propertyOrdering"
    " default items minimum maximum additionalProperties $ref $defs ref defs prefixItems"
)


def _gemini(request: Request) -> Iterator[str]:
    body = request.body
    for name in body.keys() - set(_GEMINI_FIELDS.split()):
        yield f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
    if not body["contents"]:
        yield "* GenerateContentRequest.contents: contents is not specified"
    before: dict[str, Any] = {}
    for number, content in enumerate(body["contents"]):
        role, parts = content.get("role", "user"), content["parts"]
        if role not in ("user", "model", "function"):
            yield "Please use a valid role: user, model."
        if not parts:
            yield f"* contents[{number}].parts: contents.parts must not be empty."
        for part in parts:
            if part.keys() <= {"text", "thought"} and not part.get("text"):
                yield (
                    "Unable to submit request because it must have a text parameter, but the text"
                    " parameter is empty."
                )
            named = part.get("functionCall") or part.get("functionResponse")
            if named and not _GEMINI_NAME.fullmatch(named["name"]):
                yield "* GenerateContentRequest.contents: Invalid function name."
        calls = [part for part in parts if "functionCall" in part]
        results = [part for part in parts if "functionResponse" in part]
        made = [part for part in before.get("parts", ()) if "functionCall" in part]
        if calls and (number == 0 or before.get("role") == "model"):
            yield (
                "Please ensure that function call turn comes immediately after a user turn or"
                " after a function response turn."
            )
        if len(results) != len(made):
            yield (
                "Please ensure that the number of function response parts is equal to the number"
                " of function call parts of the function call turn."
            )
        before = content
    if any("functionCall" in part for part in before.get("parts", ())):
        yield "Please ensure that function response turn comes immediately after a function call."
    for tool in body.get("tools") or []:
        for declared in tool.get("functionDeclarations", ()):
            if not _GEMINI_NAME.fullmatch(declared["name"]):
                yield "* GenerateContentRequest.tools[0].function_declarations[0].name: Invalid."
            if schema := declared.get("parameters"):
                yield from _gemini_schema(schema, "parameters")


def _gemini_schema(schema: dict[str, Any], place: str) -> Iterator[str]:
    for name in schema.keys() - set(_GEMINI_SCHEMA.split()):
        yield f"Invalid JSON payload received. Unknown name \"{name}\" at '{place}'."
    if str(schema.get("type")).upper() == "ARRAY" and "items" not in schema:
        yield f"* tools[0].function_declarations[0].{place}.items: missing field."
    for name, each in (schema.get("properties") or {}).items():
        yield from _gemini_schema(each, f"{place}.properties[{name}]")
    if isinstance(schema.get("items"), dict):
        yield from _gemini_schema(schema["items"], f"{place}.items")


_RULES = {"chat": _chat, "responses": _responses, "messages": _messages, "gemini": _gemini}
