"""The Gemini API: the body of a request, and the reader of the stream that comes back."""

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from sessions_app.engine.messages import (
    AssistantMessage,
    Message,
    Part,
    Request,
    Text,
    Thinking,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from sessions_app.engine.settings import RequestOptions, ThinkingSettings
from sessions_app.engine.tool_schemas import find_reference, list_values
from sessions_app.engine.wire.answer import (
    Protocol,
    Reader,
    TextBlock,
    dump_opaque,
    load_opaque,
    merge_turns,
)
from sessions_app.engine.wire.errors import read_payload
from sessions_app.engine.wire.events import Event, FinishReason, StreamError
from sessions_app.engine.wire.json_text import (
    TextJoiner,
    as_count,
    as_dict,
    as_dicts,
    as_list,
    as_text,
    dump_arguments,
    dump_json,
    load_arguments,
)
from sessions_app.engine.wire.sse import ServerEvent

# Tokens of thinking for each effort, for models that take no level.
BUDGETS = {"low": 2_048, "medium": 8_192, "high": 24_576}
# Beginnings of models' names, and the levels of thinking that they take.
_LEVELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("gemini-3.1-flash-lite-image", ("MINIMAL", "HIGH")),
    ("gemini-3-pro-preview", ("LOW", "HIGH")),
)
_ORDER = ("MINIMAL", "LOW", "MEDIUM", "HIGH")
_WITHOUT_LEVELS = re.compile(r"gemini-(1|2)\b|gemini-(1|2)\.|gemini-pro$|gemma")
# The signature for a call of another model, as Google documents it.
_NO_SIGNATURE = "skip_thought_signature_validator"

_SETTINGS = {
    "temperature": "temperature",
    "top_p": "topP",
    "max_tokens": "maxOutputTokens",
    "stop": "stopSequences",
    "seed": "seed",
}


def takes_levels(model: str) -> bool:
    """Return whether a model accepts a level of thinking, and signs its calls."""
    return not _WITHOUT_LEVELS.search(model)


def build_path(model: str) -> str:
    """Return the path of a model's stream; `model` may name its collection, too."""
    name = model if "/" in model else f"models/{model}"
    return f"{quote(name, safe='/')}:streamGenerateContent"


def build_body(request: Request, options: RequestOptions) -> dict[str, Any]:
    """Return the body of a request for a stream.

    A model that takes no `systemInstruction` gets the instructions before the first message.
    """
    messages, without = request.messages, options.can.without
    has_instructions = bool(request.instructions.strip())
    if has_instructions and "systemInstruction" in without:
        messages = (UserMessage(request.instructions), *messages)
    turns = build_turns(messages, options.service, takes_levels(options.model))
    body: dict[str, Any] = {"contents": merge_turns(turns, "parts")}
    if has_instructions:
        body["systemInstruction"] = {"parts": [{"text": request.instructions}]}
    tools = []
    for tool in request.tools:
        schema = simplify_schema(tool.parameters)
        # A tool without parameters must not have a schema of them.
        parameters = {"parameters": schema} if schema.get("properties") else {}
        described = {"name": tool.name, "description": tool.description or tool.name}
        tools.append({**described, **parameters})
    if tools:
        body["tools"] = [{"functionDeclarations": tools}]
    generation = {_SETTINGS[key]: value for key, value in options.settings.items()}
    config = build_thinking(options.thinking, options.model)
    if config := {key: value for key, value in config.items() if key not in without}:
        generation["thinkingConfig"] = config
    if generation := {key: v for key, v in generation.items() if key not in without}:
        body["generationConfig"] = generation
    return {key: value for key, value in body.items() if key not in without}


def build_thinking(thinking: ThinkingSettings, model: str) -> dict[str, Any]:
    if thinking.wanted is False or thinking == ThinkingSettings():
        return {}
    config: dict[str, Any] = {"include_thoughts": True}
    if thinking.budget:
        config["thinking_budget"] = thinking.budget
    elif thinking.effort and takes_levels(model):
        # The nearest level that the model has; the lower one of two.
        name, wanted = model.rpartition("/")[2], _ORDER.index(thinking.effort.upper())
        levels = next((levels for head, levels in _LEVELS if name.startswith(head)), _ORDER)
        nearest = min(levels, key=lambda level: abs(_ORDER.index(level) - wanted))
        config["thinking_level"] = nearest
    elif thinking.effort:
        config["thinking_budget"] = BUDGETS[thinking.effort]
    return config


def build_turns(
    messages: Iterable[Message], service: str, signs: bool
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for message in messages:
        if isinstance(message, AssistantMessage):
            yield "model", build_answer(message, message.service == service, signs)
        elif isinstance(message, ToolMessage):
            parts = []
            for result in message.results:
                response = {"error" if result.is_error else "result": result.content}
                answer = {"id": result.call_id, "name": result.name, "response": response}
                parts.append({"functionResponse": answer})
            yield "user", parts
        else:
            yield "user", [{"text": message.content}] if message.content.strip() else []


def build_answer(message: AssistantMessage, is_own: bool, signs: bool) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    is_first_call = True
    for part in message.parts:
        opaque = load_opaque(part) if is_own else {}
        if isinstance(part, ToolCall):
            call = {"id": part.id, "name": part.name, "args": load_arguments(part.arguments)}
            built: dict[str, Any] = {"functionCall": call, **opaque}
            if is_first_call and signs and "thoughtSignature" not in built:
                built["thoughtSignature"] = _NO_SIGNATURE
            is_first_call = False
            parts.append(built)
        elif opaque:
            parts.append(opaque)
        elif isinstance(part, Text) and part.text:
            parts.append({"text": part.text})
    return parts


# The types of the API's schemas, and the bounds that each may have.
_BOUNDS: dict[str, tuple[str, ...]] = {
    "string": ("minLength", "maxLength"),
    "number": ("minimum", "maximum"),
    "integer": ("minimum", "maximum"),
    "boolean": (),
    "array": ("minItems", "maxItems"),
    "object": (),
}
_FORMATS = {"string": ("date-time",), "number": ("float", "double"), "integer": ("int32", "int64")}
# Schemas in one document at most, after its references are filled in.
_SCHEMAS = 1000
_OBJECT_AS_TEXT = "A JSON object, written as text."
_VALUE_AS_TEXT = "A JSON value, written as text."


def simplify_schema(schema: Any) -> dict[str, Any]:
    """Return a JSON schema of an object in the subset that the Gemini API understands.

    References are filled in (recursive ones two levels deep), `allOf` is merged, `oneOf` becomes
    `anyOf`, `const` an `enum` of one value. Other keywords are added to the description, or left
    out. The tool itself checks the arguments against its own schema.
    """
    return SchemaSimplifier(as_dict(schema)).simplify(schema, is_root=True)


class SchemaSimplifier:
    """The schemas of one document, in the subset that the API understands."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        # The references that are being filled in, and how many more schemas are allowed.
        self._path: list[str] = []
        self._left = _SCHEMAS

    def simplify(self, schema: Any, is_root: bool = False) -> dict[str, Any]:
        places: list[str] = []
        schema = self._resolve(as_dict(schema), places)
        self._left -= 1
        if self._left < 0 or any(self._path.count(place) > 1 for place in places):
            return {"type": "string", "description": _VALUE_AS_TEXT}
        self._path += places
        simple, notes = self.build(schema, is_root)
        del self._path[len(self._path) - len(places) :]
        if note := " ".join(filter(None, [as_text(schema.get("description")), *notes])):
            simple["description"] = note
        return simple

    def build(self, schema: dict[str, Any], is_root: bool) -> tuple[dict[str, Any], list[str]]:
        """Return a schema whose references are filled in, and notes for its description."""
        kinds, is_nullable = guess_types(schema)
        options = as_dicts(schema.get("anyOf")) or as_dicts(schema.get("oneOf"))
        choices = [option for option in options if option.get("type") != "null"]
        nullable = {"nullable": True} if is_nullable or len(choices) < len(options) else {}
        if is_root:
            # It must be one object: it has the properties of all, and requires only its own.
            merged = self._merge([*choices, schema])
            merged["required"] = schema.get("required")
            return self._fill("object", merged, is_root)
        if choices and not schema.get("properties"):
            if len(choices) == 1:
                chosen = self.simplify(choices[0])
                return {**chosen, **nullable}, [chosen.get("description", "")]
            return {"anyOf": [self.simplify(choice) for choice in choices], **nullable}, []
        if len(kinds) > 1:
            each = [self._fill(kind, schema, is_root)[0] for kind in kinds]
            return {"anyOf": each, **nullable}, []
        simple, notes = self._fill(kinds[0] if kinds else "string", schema, is_root)
        return {**simple, **nullable}, notes

    def _fill(
        self, kind: str, schema: dict[str, Any], is_root: bool
    ) -> tuple[dict[str, Any], list[str]]:
        """Return a schema of one type, and notes for its description."""
        simple: dict[str, Any] = {"type": kind}
        notes = []
        if kind == "object":
            given = as_dict(schema.get("properties"))
            properties = {key: self.simplify(x) for key, x in given.items() if x is not False}
            if not properties and not is_root:
                # The API refuses an object without properties.
                return {"type": "string"}, [_OBJECT_AS_TEXT]
            simple["properties"] = properties
            required = as_list(schema.get("required"))
            if names := [name for name in required if isinstance(name, str) and name in properties]:
                simple["required"] = list(dict.fromkeys(names))
        elif kind == "array":
            items = schema.get("items")
            if several := as_dicts(schema.get("prefixItems")) or as_dicts(items):
                each = [self.simplify(item) for item in several]
                unique = [item for number, item in enumerate(each) if item not in each[:number]]
                simple["items"] = unique[0] if len(unique) == 1 else {"anyOf": unique}
            else:
                simple["items"] = self.simplify(items)
        for key in _BOUNDS[kind]:
            if isinstance(bound := schema.get(key), int | float) and not isinstance(bound, bool):
                simple[key] = bound
        if values := list_values(schema):
            texts = [value for value in values if isinstance(value, str) and value]
            if kind == "string" and texts:
                simple["enum"] = list(dict.fromkeys(texts))
            else:
                notes.append(f"One of: {', '.join(map(dump_arguments, values))}.")
        style = schema.get("format")
        if isinstance(style, str) and style in _FORMATS.get(kind, ()):
            simple["format"] = style
        elif isinstance(style, str):
            notes.append(f"Format: {style}.")
        for key in ("pattern", "default"):
            if schema.get(key) is not None:
                notes.append(f"{key.capitalize()}: {dump_arguments(schema[key])}.")
        return simple, notes

    def _resolve(self, schema: dict[str, Any], places: list[str]) -> dict[str, Any]:
        """Return a schema with its reference and its `allOf` filled in; collect the references."""
        while isinstance(place := schema.get("$ref"), str):
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            if place in places:
                return rest
            places.append(place)
            schema = {**as_dict(find_reference(self._root, place)), **rest}
        if parts := as_dicts(schema.get("allOf")):
            rest = {key: value for key, value in schema.items() if key != "allOf"}
            schema = self._merge([*(self._resolve(each, places) for each in parts), rest])
        return schema

    def _merge(self, schemas: list[dict[str, Any]]) -> dict[str, Any]:
        """Return one schema for what all of several require; a later value replaces an earlier."""
        merged: dict[str, Any] = {}
        properties: dict[str, Any] = {}
        required: list[Any] = []
        for each in schemas:
            schema = self._resolve(each, [])
            merged |= schema
            properties |= as_dict(schema.get("properties"))
            required += as_list(schema.get("required"))
        return {**merged, "properties": properties, "required": required}


def guess_types(schema: dict[str, Any]) -> tuple[list[str], bool]:
    """Return the types of a schema, guessed if it names none, and whether null is allowed."""
    given = schema.get("type")
    named = given if isinstance(given, list) else [given]
    is_nullable = schema.get("nullable") is True or ("null" in named and len(named) > 1)
    kinds = [kind for kind in named if isinstance(kind, str) and kind in _BOUNDS]
    if kinds:
        return kinds, is_nullable
    if as_dict(schema.get("properties")):
        return ["object"], is_nullable
    if "items" in schema or "prefixItems" in schema:
        return ["array"], is_nullable
    known = {bool: "boolean", int: "integer", float: "number"}
    first = next(iter(list_values(schema)), "")
    return [known.get(type(first), "string")], is_nullable


# Every chunk has one of these keys.
_KNOWN = {"candidates", "usageMetadata", "promptFeedback"}
# Reasons for the end of an answer; any other is a normal end.
_REASON_NAMES: dict[FinishReason, str] = {
    "length": "MAX_TOKENS CONTINUATION",
    "content_filter": "SAFETY RECITATION LANGUAGE BLOCKLIST PROHIBITED_CONTENT SPII MODEL_ARMOR "
    "IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT IMAGE_RECITATION",
    "error": "OTHER IMAGE_OTHER NO_IMAGE TOO_MANY_TOOL_CALLS",
}
_REASONS = {name: reason for reason, names in _REASON_NAMES.items() for name in names.split()}
# The service could not read the model's call, so it is lost; a retry may succeed.
_BAD_CALLS = (
    "MALFORMED_FUNCTION_CALL",
    "UNEXPECTED_TOOL_CALL",
    "MALFORMED_RESPONSE",
    "MISSING_THOUGHT_SIGNATURE",
)


class GeminiReader(Reader):
    """Reads the chunks of `streamGenerateContent`, or the same as a JSON array or document."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[TextBlock | Part] = []
        # The block to which the next piece of text may belong.
        self._block: TextBlock | None = None
        self._candidate: int | None = None
        self._given_usage: Any = None
        self._reason = ""
        self._explanation = ""
        # Opaque content by the number of its part.
        self._opaque: dict[int, str] = {}
        self._calls: dict[str, tuple[str, str]] = {}
        self._joiners = {False: TextJoiner(), True: TextJoiner()}

    def read_document(self, document: Any, event: ServerEvent) -> list[Event]:
        if isinstance(document, list):
            events: list[Event] = []
            for item in document:
                events += self.read_document(item, event)
                if events and isinstance(events[-1], StreamError):
                    break
            return events
        document = as_dict(document)
        if document.get("error") or event.event == "error":
            return [read_payload(document)]
        candidates = document.get("candidates")
        if not candidates:
            feedback = as_dict(document.get("promptFeedback"))
            reason = as_text(feedback.get("blockReason"))
            if reason and not reason.endswith("UNSPECIFIED"):
                text = as_text(feedback.get("blockReasonMessage"))
                return [StreamError("content_filter", text or f"it blocked the prompt ({reason})")]
        if event.is_document and not document.keys() & _KNOWN:
            return [StreamError("bad_answer", "it sent JSON that is no answer of the Gemini API")]
        events = []
        usage = document.get("usageMetadata")
        # Most chunks repeat the usage.
        if usage != self._given_usage and isinstance(usage, dict):
            self._given_usage, before = usage, self._usage
            read = ("promptTokenCount", "toolUsePromptTokenCount")
            thoughts = as_count(usage.get("thoughtsTokenCount"))
            counted = self._count(
                sum(as_count(usage.get(key)) for key in read),
                as_count(usage.get("candidatesTokenCount")) + thoughts,
                as_count(usage.get("cachedContentTokenCount")),
                thoughts,
            )
            events += [] if counted == before else [counted]
        if (model := document.get("modelVersion")) != self._model:
            self._model = as_text(model) or self._model
        for candidate in as_dicts(candidates):
            events += self._read_candidate(candidate)
        return events

    def end_stream(self) -> list[Event]:
        if not self._reason:
            return super().end_stream()
        if self._reason in _BAD_CALLS:
            text = f"the model's call of a tool cannot be read ({self._reason})"
            return [StreamError("bad_answer", self._explanation or text, retry=True)]
        events = self._end_block()
        for is_thinking in (False, True):
            # The joiner may hold half a character after a signed part, which is never continued.
            blocks = [part for part in self._parts if isinstance(part, TextBlock)]
            of_kind = [block for block in blocks if block.is_thinking == is_thinking]
            events += of_kind[-1].finish() if of_kind else []
        reason = _REASONS.get(self._reason, "stop")
        parts = [
            part.part(self._opaque.get(number, "")) if isinstance(part, TextBlock) else part
            for number, part in enumerate(self._parts)
        ]
        text = self._explanation or f"it withheld the answer ({self._reason})"
        return events + self._end_answer(reason, parts, text)

    def _read_candidate(self, candidate: dict[str, Any]) -> list[Event]:
        index = candidate.get("index") or 0
        if self._candidate is None:
            self._candidate = index
        if index != self._candidate:
            return []
        events: list[Event] = []
        before = len(self._parts)
        for part in as_dicts(as_dict(candidate.get("content")).get("parts")):
            text = part.get("text")
            if isinstance(text, str):
                events += self._read_text(part, text)
            elif isinstance(call := part.get("functionCall"), dict):
                events += self._read_call(part, call)
            elif part:
                # Content for the service alone: code that it has run, a file, a signature.
                events += self._end_block()
                self._count_opaque(part)
                self._parts.append(Thinking("", dump_json(part)))
        reason = candidate.get("finishReason")
        if reason and isinstance(reason, str) and not reason.endswith("UNSPECIFIED"):
            self._reason, self.is_complete = reason.upper(), True
            self._explanation = as_text(candidate.get("finishMessage")) or self._explanation
        elif self._reason and (events or len(self._parts) > before):
            # The answer goes on after a reason to finish.
            self._reason, self.is_complete = "", False
        return events

    def _read_text(self, part: dict[str, Any], text: str) -> list[Event]:
        is_thinking = part.get("thought") is True
        # A signed part must go back as it came, so nothing is joined to it.
        is_signed = "thoughtSignature" in part or "thought_signature" in part
        if not text and not is_signed:
            return []
        block = self._block
        if block is not None and block.is_thinking == is_thinking and not is_signed:
            return block.add(text)
        events = self._end_block(is_thinking)
        if is_signed:
            self._count_opaque(part)
            self._opaque[len(self._parts)] = dump_json(part)
        block = TextBlock(is_thinking, self._joiners[is_thinking])
        self._parts.append(block)
        self._block = None if is_signed else block
        return events + block.add(text)

    def _end_block(self, next_is_thinking: bool | None = None) -> list[Event]:
        """End the block of text; half of a character may go on in the next one of its kind."""
        block, self._block = self._block, None
        if block is None or block.is_thinking == next_is_thinking:
            return []
        return block.finish()

    def _read_call(self, part: dict[str, Any], call: dict[str, Any]) -> list[Event]:
        events = self._end_block()
        args = call.get("args")
        if args is None or isinstance(args, str):
            arguments = (args or "").strip() or "{}"
        else:
            arguments = dump_arguments(args)
        given, same = call.get("id"), (as_text(call.get("name")), arguments)
        if isinstance(given, str) and given:
            if self._calls.get(given) == same:
                # The server repeats the call.
                return events
            self._calls.setdefault(given, same)
        opaque = dump_opaque({key: value for key, value in part.items() if key != "functionCall"})
        made = self._make_call(given, call.get("name"), arguments, opaque)
        self._parts.append(made)
        self.call_characters += len(arguments) + len(opaque)
        return events + self._emit_call(made)


PROTOCOL = Protocol(build_body, GeminiReader)
