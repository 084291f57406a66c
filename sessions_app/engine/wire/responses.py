"""OpenAI's Responses API: the body of a request, and the reader of what is streamed back.

Nothing is stored at the service: what it needs again (reasoning, encrypted) goes back to it.
"""

from collections.abc import Iterable
from typing import Any

from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.messages import (
    AssistantMessage,
    Message,
    Part,
    Request,
    SystemMessage,
    Thinking,
    ToolCall,
    ToolMessage,
    ToolSpec,
)
from sessions_app.engine.settings import Thinking as ThinkingSettings
from sessions_app.engine.wire.answer import (
    Reader,
    TextBlock,
    as_count,
    as_dict,
    as_dicts,
    as_text,
    load_opaque,
)
from sessions_app.engine.wire.errors import read_payload
from sessions_app.engine.wire.events import Event, FinishReason, StreamError
from sessions_app.engine.wire.json_text import dump_arguments, dump_json
from sessions_app.engine.wire.sse import ServerEvent


def build_responses_body(
    request: Request,
    *,
    model: str,
    service: str,
    settings: dict[str, Any],
    thinking: ThinkingSettings,
    can: ProviderCapabilities,
) -> dict[str, Any]:
    """Return the body of a request for a stream.

    `settings` are those of `engine.settings.model_settings`.
    """
    body: dict[str, Any] = {
        "model": model,
        "input": _build_input(request.messages, service, can.system_role),
        "stream": True,
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }
    if request.instructions.strip():
        body["instructions"] = request.instructions
    if request.tools:
        body["tools"] = [_build_tool(tool) for tool in request.tools]
    names = {"temperature": "temperature", "top_p": "top_p", "max_tokens": "max_output_tokens"}
    body |= {names[key]: value for key, value in settings.items() if key in names}
    if thinking.wanted is not False and (thinking.effort or thinking.wanted):
        effort = {"effort": thinking.effort} if thinking.effort else {}
        # Else it thinks without telling.
        summary = {"summary": "auto"} if thinking.wanted else {}
        reasoning = {**effort, **summary}
        body["reasoning"] = {k: v for k, v in reasoning.items() if k not in can.without}
    return {key: value for key, value in body.items() if key not in can.without and value != {}}


def _build_input(
    messages: Iterable[Message], service: str, system_role: str
) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for message in messages:
        if isinstance(message, AssistantMessage):
            items += _build_answer(message, message.service == service)
        elif isinstance(message, ToolMessage):
            items += [
                {
                    "type": "function_call_output",
                    "call_id": result.call_id,
                    "output": result.content,
                }
                for result in message.results
            ]
        elif message.content.strip():
            role = system_role if isinstance(message, SystemMessage) else "user"
            items.append({"role": role, "content": message.content})
    return items


def _build_answer(message: AssistantMessage, is_own: bool) -> list[dict[str, Any]]:
    opaque = [load_opaque(part) if is_own else {} for part in message.parts]
    # Reasoning that is not encrypted is stored nowhere, and would not be found by its id; then
    # what follows it must not have one either.
    lost = [each for each in opaque if each.get("type") == "reasoning" and not _is_readable(each)]
    return [
        item
        for part, each in zip(message.parts, opaque, strict=True)
        if each not in lost and (item := _build_part(part, {} if lost else each))
    ]


def _is_readable(reasoning: dict[str, Any]) -> bool:
    return bool(reasoning.get("encrypted_content") or reasoning.get("content"))


def _build_part(part: Part, opaque: dict[str, Any]) -> dict[str, Any] | None:
    if isinstance(part, ToolCall):
        arguments = part.arguments.strip() or "{}"
        call = {"call_id": part.id, "name": part.name, "arguments": arguments}
        return {"type": "function_call", **opaque, **call}
    if isinstance(part, Thinking):
        return opaque or None
    if not part.text:
        return None
    if opaque:
        content = {"type": "output_text", "text": part.text, "annotations": []}
        return {"type": "message", "role": "assistant", **opaque, "content": [content]}
    return {"role": "assistant", "content": part.text}


def _build_tool(tool: ToolSpec) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        # Unless it is told otherwise, the API makes every parameter a required one.
        "strict": False,
    }


# The status that a code of an error stands for; any other one is the server's own fault.
_STATUS = {
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "invalid_prompt": 400,
    "bio_policy": 400,
    "misalignment_policy_violation": 400,
    "data_residency_mismatch": 400,
    "unsupported_parameter": 400,
    "unknown_parameter": 400,
    "context_length_exceeded": 400,
    "invalid_api_key": 401,
    "model_not_found": 404,
}
_REASONING = {
    "response.reasoning_summary_text.delta": "summary_index",
    "response.reasoning_text.delta": "content_index",
    "response.reasoning_summary.delta": "summary_index",
    "response.reasoning.delta": "content_index",
}
_TEXTS = {
    "response.output_text.done": ("message", "text"),
    "response.refusal.done": ("message", "refusal"),
    "response.reasoning_summary_text.done": ("reasoning", "text"),
    "response.reasoning_text.done": ("reasoning", "text"),
}
_ENDS = (
    "response.completed",
    "response.incomplete",
    "response.failed",
    "response.cancelled",
    "response.done",
)


class ResponsesReader(Reader):
    """Reads a stream of the Responses API, or a whole response.

    Servers differ in what they tell twice: deltas, what they come to, the whole item, all items in
    the end. Whatever comes first counts, and the rest fills in what has not come.
    """

    def __init__(self) -> None:
        super().__init__()
        # In the order in which they began.
        self._items: list[_Item] = []
        self._by_id: dict[str, _Item] = {}
        # The newest of each number of the server's.
        self._by_index: dict[int, _Item] = {}

    def _read(self, document: Any, event: ServerEvent) -> list[Event]:
        document = as_dict(document)
        kind = document.get("type") or event.event
        if kind == "response.output_text.delta":
            return self._read_text(document, document.get("delta"))
        if not isinstance(kind, str):
            kind = ""
        if kind in _REASONING:
            return self._read_reasoning(document, _REASONING[kind])
        if kind == "response.function_call_arguments.delta":
            return self._read_arguments(document)
        if kind == "response.function_call_arguments.done":
            return self._end_arguments(document)
        if kind == "response.refusal.delta":
            return self._read_text(document, document.get("delta"), is_refusal=True)
        if kind in _TEXTS:
            return self._end_text(document, *_TEXTS[kind])
        if kind == "response.output_item.added":
            return self._begin_item(document)
        if kind == "response.output_item.done":
            return self._end_item(document)
        if kind in _ENDS:
            return self._end_response(as_dict(document.get("response")), kind)
        if kind == "error" or (document.get("error") and not kind.startswith("response")):
            return [_read_error(document)]
        if document.get("object") == "response" or (event.is_document and "output" in document):
            return self._end_response(document, "")
        if event.is_document and not kind:
            return [StreamError("bad_answer", "it sent JSON that is no response")]
        self._model = as_text(as_dict(document.get("response")).get("model")) or self._model
        return []

    def _finish(self) -> list[Event]:
        return [self._break_off()]

    def _find(self, document: dict[str, Any], kind: str) -> "_Item":
        """Return the item that an event is about; a new one where it never began.

        Some servers give an item another id in each event, others the same number to all.
        """
        item = self._by_id.get(document.get("item_id") or "") if _has_id(document) else None
        if item is None or item.kind != kind:
            index = document.get("output_index")
            item = self._by_index.get(index) if type(index) is int else None
        if (item is None or item.kind != kind) and type(document.get("output_index")) is not int:
            of_kind = (each for each in reversed(self._items) if each.kind == kind)
            item = next(of_kind, None)
        if item is None or item.kind != kind:
            item = self._add_item({"type": kind, "id": document.get("item_id")}, document)
        return item

    def _add_item(self, data: dict[str, Any], document: dict[str, Any]) -> "_Item":
        item = _Item(data)
        self._items.append(item)
        if isinstance(data.get("id"), str) and data["id"]:
            self._by_id.setdefault(data["id"], item)
        if type(index := document.get("output_index")) is int:
            self._by_index[index] = item
        return item

    def _begin_item(self, document: dict[str, Any]) -> list[Event]:
        data = as_dict(document.get("item"))
        known = self._by_id.get(data.get("id")) if isinstance(data.get("id"), str) else None
        if known is None or known.is_done:
            self._add_item(data, document)
        return []

    def _end_item(self, document: dict[str, Any]) -> list[Event]:
        data = as_dict(document.get("item"))
        item = self._find_same(data, sorted(self._items, key=lambda item: item.is_done))
        if item is None or item.is_done:
            index = document.get("output_index")
            item = self._by_index.get(index) if type(index) is int else None
        if item is None or item.is_done or not item.fits(data):
            item = self._add_item(data, document)
        return self._complete(item, data)

    def _find_same(self, data: dict[str, Any], items: Iterable["_Item"]) -> "_Item | None":
        """Return the item that has the same ids, or one of them; the best first."""
        items = [item for item in items if item.fits(data)]
        # Two calls may have the same `call_id`, and an item another `id` in each event.
        for keys in (("id", "call_id"), ("call_id",), ("id",)):
            wanted = [data.get(key) for key in keys]
            for item in items if all(wanted) else ():
                if [item.data.get(key) for key in keys] == wanted:
                    return item
        return None

    def _complete(self, item: "_Item", data: dict[str, Any]) -> list[Event]:
        """Take in all of an item, or, without data, that no more comes of it."""
        if item.is_done:
            return []
        if item.kind == "function_call":
            self._count_opaque("" if item.json else data.get("arguments"))
        elif item.kind != "message":
            self._count_opaque(data)
        events = item.complete(data)
        if item.kind == "function_call":
            given = item.data.get("call_id") or item.data.get("id")
            item.call = self._make_call(given, item.data.get("name"), item.arguments(), item.rest())
            events += self._emit_call(item.call)
        return events

    def _read_text(
        self, document: dict[str, Any], delta: Any, is_refusal: bool = False
    ) -> list[Event]:
        item = self._find(document, "message")
        item.is_refusal = item.is_refusal or is_refusal
        return item.add(delta, document.get("content_index"))

    def _read_reasoning(self, document: dict[str, Any], place: str) -> list[Event]:
        delta = document.get("delta")
        text = delta.get("text") if isinstance(delta, dict) else delta
        return self._find(document, "reasoning").add(text, (place, document.get(place)))

    def _end_text(self, document: dict[str, Any], kind: str, key: str) -> list[Event]:
        item = self._find(document, kind)
        item.is_refusal = item.is_refusal or key == "refusal"
        place = "summary_index" if "summary_index" in document else "content_index"
        index = document.get(place)
        return item.fill(document.get(key), index if kind == "message" else (place, index))

    def _read_arguments(self, document: dict[str, Any]) -> list[Event]:
        if isinstance(delta := document.get("delta"), str):
            self._find(document, "function_call").json.append(delta)
            self.call_characters += len(delta)
        return []

    def _end_arguments(self, document: dict[str, Any]) -> list[Event]:
        item = self._find(document, "function_call")
        text = document.get("arguments")
        if isinstance(text, str) and text.strip():
            item.json = [text]
        if isinstance(name := document.get("name"), str) and not item.data.get("name"):
            item.data["name"] = name
        return []

    def _end_response(self, response: dict[str, Any], kind: str) -> list[Event]:
        self._model = as_text(response.get("model")) or self._model
        status = response.get("status") or kind.removeprefix("response.")
        events = self._read_usage(response.get("usage"))
        if response.get("error") or status == "failed":
            return [*events, _read_error(response)]
        if status == "cancelled":
            return [*events, StreamError("broken_off", "the service has cancelled its answer")]
        if status not in ("completed", "incomplete", "done"):
            return [*events, StreamError("bad_answer", f"its answer is {as_text(status)!r}")]
        self.is_complete = True
        left = [*self._items]
        for data in as_dicts(response.get("output")):
            # Ids may differ from those before, but the order does not.
            same = (item for item in left if item.fits(data))
            item = self._find_same(data, left) or next(same, None)
            if item is None:
                item = self._add_item(data, {})
            else:
                left.remove(item)
            events += self._complete(item, data)
        for item in left:
            events += self._complete(item, {})
        why = as_dict(response.get("incomplete_details")).get("reason")
        reason: FinishReason = "stop"
        if status == "incomplete":
            reason = "content_filter" if why == "content_filter" else "length"
        elif any(item.is_refusal for item in self._items):
            reason = "content_filter"
        parts = [part for item in self._items if (part := item.part()) is not None]
        return events + self._end_answer(reason, parts)

    def _read_usage(self, given: Any) -> list[Event]:
        if not isinstance(given, dict):
            return []
        return [
            self._count(
                as_count(given.get("input_tokens")),
                as_count(given.get("output_tokens")),
                as_count(as_dict(given.get("input_tokens_details")).get("cached_tokens")),
                as_count(as_dict(given.get("output_tokens_details")).get("reasoning_tokens")),
            )
        ]


class _Item:
    """An item of a response, as far as it has come."""

    __slots__ = (
        "_filled",
        "_places",
        "call",
        "data",
        "is_done",
        "is_refusal",
        "json",
        "kind",
        "text",
    )

    def __init__(self, data: dict[str, Any]) -> None:
        self.kind = _kind(data)
        self.data = data
        self.text = TextBlock(is_thinking=self.kind == "reasoning")
        # What has come of each of its contents, and those that have come whole.
        self._places: dict[Any, list[str]] = {}
        self._filled: set[Any] = set()
        self.json: list[str] = []
        self.call: ToolCall | None = None
        self.is_done = self.is_refusal = False

    def add(self, piece: Any, place: Any) -> list[Event]:
        """Take in a piece of text of one of its contents, by the number of that."""
        place = _as_place(place)
        if not piece or not isinstance(piece, str) or self.is_done or place in self._filled:
            return []
        events: list[Event] = []
        if place not in self._places:
            if self._places and self.kind == "reasoning":
                # One summary after another, each a paragraph.
                events = self.text.add("\n\n")
            self._places[place] = []
        self._places[place].append(piece)
        return [*events, *self.text.add(piece)]

    def fill(self, whole: Any, place: Any) -> list[Event]:
        """Take in what the pieces of one content come to: whatever has not come of it yet."""
        if not isinstance(whole, str) or not whole:
            return []
        came = _join_halves("".join(self._places.get(_as_place(place), ())))
        whole = _join_halves(whole)
        events = self.add(whole[len(came) :], place) if whole.startswith(came) else []
        self._filled.add(_as_place(place))
        return events

    def fits(self, data: dict[str, Any]) -> bool:
        """Tell whether it may be the same item, by another id: of its kind, and no other call."""
        ours, theirs = self.data.get("call_id"), data.get("call_id")
        is_same = not ours or not theirs or ours == theirs
        return is_same and self.kind == _kind(data)

    def complete(self, data: dict[str, Any]) -> list[Event]:
        """Take in the whole item, or that no more comes of it."""
        events: list[Event] = []
        if data:
            known = ("type", "id", "call_id", "name")
            before = {key: self.data[key] for key in known if key in self.data}
            self.data = data | {key: value for key, value in before.items() if not data.get(key)}
        if data and self.kind in ("message", "reasoning"):
            for place, index, text in _contents(data):
                events += self.fill(text, index if place == "content" else (place, index))
            self.is_refusal = self.is_refusal or _is_refusal(data)
        text = data.get("arguments")
        if isinstance(text, str) and text.strip():
            self.json = [text]
        elif isinstance(text, dict):
            self.json = [dump_arguments(text)]
        self.is_done = True
        return events + self.text.finish()

    def arguments(self) -> str:
        """Return the arguments of a call as JSON text; empty where none came."""
        text = "".join(self.json)
        if not text.strip() and isinstance(given := self.data.get("arguments"), str):
            text = given
        return text

    def rest(self) -> str:
        """Return what belongs to the service alone, beside what a part says itself."""
        known = ("type", "call_id", "name", "arguments", "content", "role")
        rest = {k: v for k, v in self.data.items() if k not in known and v is not None}
        if rest.get("status") == "in_progress":
            rest["status"] = "completed"
        return dump_json(rest) if rest.get("id") else ""

    def part(self) -> Part | None:
        """Return the part of the answer that it is; None where it has nothing in it."""
        if self.kind == "function_call":
            return self.call
        if self.kind == "message":
            part = self.text.part(self.rest())
            return part if part.text else None
        if self.kind == "reasoning":
            return self.text.part(dump_json(self.data) if self.data.get("id") else "")
        return Thinking("", dump_json(self.data)) if self.data.get("id") else None


def _kind(data: dict[str, Any]) -> str:
    """Return the type of an item; where it has none, the one that it looks like."""
    if kind := as_text(data.get("type")):
        return kind
    if data.get("call_id"):
        return "function_call"
    return "reasoning" if "summary" in data else "message" if "content" in data else ""


def _contents(data: dict[str, Any]) -> Iterable[tuple[str, Any, Any]]:
    """Yield the texts of a whole item: where each stands, its number there, and itself."""
    is_message = _kind(data) == "message"
    for number, each in enumerate(as_dicts(data.get("summary"))):
        yield "summary_index", number, each.get("text")
    content = data.get("content")
    if is_message and isinstance(content, str):
        yield "content", 0, content
    for number, each in enumerate(as_dicts(content)):
        text = each.get("text") if each.get("text") is not None else each.get("refusal")
        yield "content" if is_message else "content_index", number, text


def _is_refusal(data: dict[str, Any]) -> bool:
    return any(each.get("type") == "refusal" for each in as_dicts(data.get("content")))


def _as_place(place: Any) -> Any:
    """Return the number of a content; the first where there is none."""
    if isinstance(place, tuple):
        return place[0], place[1] if type(place[1]) is int else 0
    return place if type(place) is int else 0


def _join_halves(text: str) -> str:
    """Return a text in which a character that came in two halves is one."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _has_id(document: dict[str, Any]) -> bool:
    return isinstance(document.get("item_id"), str)


def _read_error(document: dict[str, Any]) -> StreamError:
    inner = document.get("error")
    code = (inner if isinstance(inner, dict) else document).get("code")
    return read_payload(document, _STATUS.get(code) if isinstance(code, str) else None)
