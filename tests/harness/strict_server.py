"""What the strictest model server would say of a request: each rule is some real server's.

It is written without a look at the code that makes requests, and knows nothing of its helpers.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.messages import (
    AssistantMessage,
    Message,
    Request,
    SystemMessage,
    Text,
    Thinking,
    ToolCall,
    ToolMessage,
    UserMessage,
)

STRICT = ProviderCapabilities()


def complaints(
    request: Request, can: ProviderCapabilities = STRICT, service: str | None = None
) -> list[str]:
    """Return a sentence for each rule that a request breaks; none if the server takes it.

    If `service` is given, opaque content of any other is a complaint, too.
    """
    return [
        *_check_roles(request.messages, can),
        *_check_pairs(request, can),
        *_check_names(request, can),
        *_check_content(request, can),
        *_check_opaque(request, service),
        *_check_tools(request, can),
    ]


def _check_roles(messages: tuple[Message, ...], can: ProviderCapabilities) -> Iterator[str]:
    if not messages:
        yield "messages: at least one is required"
        return
    if can.leading_system and any(isinstance(m, SystemMessage) for m in messages):
        yield "only one leading system message is allowed"
    spoken = [m for m in messages if not isinstance(m, SystemMessage)]
    if not spoken or isinstance(spoken[-1], AssistantMessage):
        yield "the conversation must end with the user, or with results"
    if not can.strict_roles or not spoken:
        return
    if not isinstance(spoken[0], UserMessage):
        yield "the first message must be the user's"
    # As Anthropic counts: results are in a user's turn, with what the user says next.
    turns = ["assistant" if isinstance(m, AssistantMessage) else "user" for m in spoken]
    for before, after, first, second in zip(spoken, spoken[1:], turns, turns[1:], strict=False):
        if first == second and not isinstance(before, ToolMessage):
            yield f"two turns of the {second} follow each other"
        # As Mistral does.
        if isinstance(before, ToolMessage) and not isinstance(after, AssistantMessage):
            yield "unexpected role after role tool"
    # As the template of Mistral's models counts: without calls and results.
    plain = [
        isinstance(m, UserMessage)
        for m in spoken
        if not isinstance(m, ToolMessage) and not getattr(m, "tool_calls", ())
    ]
    if any(first == second for first, second in pairwise(plain)):
        yield "conversation roles must alternate user/assistant/user/assistant"


def _check_pairs(request: Request, can: ProviderCapabilities) -> Iterator[str]:
    blocks = False
    seen: set[str] = set()
    waiting: list[str] | None = None
    for message in request.messages:
        if isinstance(message, ToolMessage):
            blocks = True
            ids = [result.call_id for result in message.results]
            if waiting is None:
                yield f"results {ids} have no call before them"
            elif ids != waiting:
                yield f"calls {waiting} have the results {ids}"
            waiting = None
            continue
        if waiting is not None:
            yield f"calls {waiting} are not followed by their results"
            waiting = None
        if isinstance(message, AssistantMessage) and message.tool_calls:
            blocks = True
            waiting = [call.id for call in message.tool_calls]
            for call_id in waiting:
                if call_id in seen:
                    yield f"the id {call_id} is used twice"
                seen.add(call_id)
    if waiting is not None:
        yield f"calls {waiting} have no results"
    if blocks and not request.tools and not can.tool_history_without_tools:
        yield "calls and results are only allowed in a request with tools"


def _check_names(request: Request, can: ProviderCapabilities) -> Iterator[str]:
    offered = [tool.name for tool in request.tools]
    if len(set(offered)) < len(offered):
        yield "names of tools must be unique"
    calls = [c for m in request.messages if isinstance(m, AssistantMessage) for c in m.tool_calls]
    results = [r for m in request.messages if isinstance(m, ToolMessage) for r in m.results]
    for name in [*offered, *(c.name for c in calls), *(r.name for r in results)]:
        if not re.fullmatch(can.tool_name_pattern, name):
            yield f"the name {name!r} does not match {can.tool_name_pattern}"
    for call_id in [*(c.id for c in calls), *(r.call_id for r in results)]:
        if not re.fullmatch(can.call_id_pattern, call_id):
            yield f"the id {call_id!r} does not match {can.call_id_pattern}"
    by_id = {call.id: call.name for call in calls}
    for result in results:
        if by_id.get(result.call_id) != result.name:
            yield f"the result {result.call_id} has another name than its call"


def _check_content(request: Request, can: ProviderCapabilities) -> Iterator[str]:
    for number, message in enumerate(request.messages):
        if isinstance(message, ToolMessage):
            if not message.results or any(is_empty(r.content) for r in message.results):
                yield f"messages.{number}: a result without content"
        elif isinstance(message, AssistantMessage):
            yield from _check_answer(number, message, can)
        elif is_empty(message.content):
            yield f"messages.{number}: content must not be empty"


def _check_answer(
    number: int, message: AssistantMessage, can: ProviderCapabilities
) -> Iterator[str]:
    if not message.parts or all(isinstance(part, Thinking) for part in message.parts):
        yield f"messages.{number}: an answer without content"
    elif isinstance(message.parts[-1], Thinking) and not can.trailing_thinking:
        yield f"messages.{number}: the final block must not be thinking"
    for part in message.parts:
        if not isinstance(part, ToolCall):
            if is_empty(part.text) and not part.opaque:
                yield f"messages.{number}: text content blocks must contain visible text"
            continue
        try:
            arguments = json.loads(part.arguments, parse_constant=_refuse)
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            yield f"messages.{number}: arguments {part.arguments!r} are not a JSON object"
    if not any(isinstance(p, ToolCall) or (isinstance(p, Text) and p.text) for p in message.parts):
        yield f"messages.{number}: an answer that says nothing"


def _check_opaque(request: Request, service: str | None) -> Iterator[str]:
    if service is None:
        return
    for number, message in enumerate(request.messages):
        if not isinstance(message, AssistantMessage) or message.service == service:
            continue
        if any(part.opaque or isinstance(part, Thinking) for part in message.parts):
            yield f"messages.{number}: unknown content of {message.service!r}"


def _check_tools(request: Request, can: ProviderCapabilities) -> Iterator[str]:
    if request.tools and not can.accepts_tools:
        yield "this model takes no tools"
    for tool in request.tools:
        schema = tool.parameters
        if schema.get("type") != "object" or not isinstance(schema.get("properties"), dict):
            yield f"{tool.name}: schema must be of type object and have properties"
        refused = {"enum", "const", "not"} | (
            set() if can.lenient_schemas else {"anyOf", "oneOf", "allOf"}
        )
        if refused & set(schema):
            yield f"{tool.name}: {sorted(refused & set(schema))} at the top of the schema"
        try:
            json.dumps(schema, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            yield f"{tool.name}: the schema is not JSON"
            continue
        for problem in _check_schema(schema, schema, can.lenient_schemas):
            yield f"{tool.name}: {problem}"


def _check_schema(schema: Any, root: Any, lenient: bool) -> Iterator[str]:
    if not isinstance(schema, dict):
        yield f"{schema!r} is no schema"
        return
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if not set(types) <= {"object", "array", "string", "number", "integer", "boolean", "null"}:
        yield f"unknown type {types}"
    if "array" in types and not schema.get("items"):
        yield "array schema missing items"
    if "$ref" in schema:
        yield from _check_reference(schema["$ref"], root, lenient)
    if "enum" in schema:
        values = schema["enum"]
        if not isinstance(values, list) or not values:
            yield "enum must have at least one item"
        elif types == ["string"] and not all(isinstance(value, str) for value in values):
            yield "enum of strings with other values"
    if "default" in schema and schema["default"] is None:
        yield "default is null"
    if "required" in schema:
        required = schema["required"]
        known = schema.get("properties")
        if not isinstance(required, list) or not all(isinstance(n, str) for n in required):
            yield f"required is {required!r}"
        elif known is not None and not set(required) <= set(known):
            yield f"required {required} has unknown properties"
    if "properties" in schema and not types:
        yield "properties without a type"
    children = [*dict(schema.get("properties", {})).values()]
    if "items" in schema:
        children.append(schema["items"])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema and not schema[key]:
            yield f"{key} is empty"
        children += schema.get(key, [])
    for child in children:
        yield from _check_schema(child, root, lenient)


def _check_reference(reference: Any, root: Any, lenient: bool) -> Iterator[str]:
    if not lenient:
        yield "$ref is not supported"
        return
    found = root
    for step in reference.removeprefix("#/").split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        yield f"{reference} points to nothing"


def is_empty(text: str) -> bool:
    """Return whether nobody could see anything of a text."""
    for char in text:
        if char in "\u115f\u1160\u2800\u3164\uffa0":
            continue
        if unicodedata.category(char)[0] not in "ZM" and unicodedata.category(char) not in (
            "Cc",
            "Cf",
        ):
            return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(constant)
