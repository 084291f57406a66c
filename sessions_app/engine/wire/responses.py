"""OpenAI's Responses API: the body of a request, and the reader of the stream that comes back.

The service stores nothing: it gets its encrypted reasoning back with each request.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from sessions_app.engine.messages import (
    AssistantMessage,
    Message,
    Part,
    Request,
    SystemMessage,
    Thinking,
    ToolCall,
    ToolMessage,
)
from sessions_app.engine.settings import RequestOptions
from sessions_app.engine.wire.answer import Protocol, Reader, TextBlock, load_opaque
from sessions_app.engine.wire.errors import read_payload
from sessions_app.engine.wire.events import Event, FinishReason, StreamError
from sessions_app.engine.wire.json_text import (
    as_count,
    as_dict,
    as_dicts,
    as_index,
    as_text,
    dump_arguments,
    dump_json,
)
from sessions_app.engine.wire.sse import ServerEvent


def build_body(request: Request, options: RequestOptions) -> dict[str, Any]:
    can, thinking = options.can, options.thinking
    body: dict[str, Any] = {
        "model": options.model,
        "input": list(build_input(request.messages, options.service, can.system_role)),
        "stream": True,
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }
    if request.instructions.strip():
        body["instructions"] = request.instructions
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
                # The default would make every parameter required.
                "strict": False,
            }
            for tool in request.tools
        ]
    names = {"temperature": "temperature", "top_p": "top_p", "max_tokens": "max_output_tokens"}
    body |= {names[key]: value for key, value in options.settings.items() if key in names}
    if thinking.wanted is not False and (thinking.effort or thinking.wanted):
        effort = {"effort": thinking.effort} if thinking.effort else {}
        # Without a summary, it returns no thinking.
        summary = {"summary": "auto"} if thinking.wanted else {}
        reasoning = {**effort, **summary}
        body["reasoning"] = {k: v for k, v in reasoning.items() if k not in can.without}
    return {key: value for key, value in body.items() if key not in can.without and value != {}}


def build_input(
    messages: Iterable[Message], service: str, system_role: str
) -> Iterator[dict[str, Any]]:
    for message in messages:
        if isinstance(message, AssistantMessage):
            yield from build_answer(message, message.service == service)
        elif isinstance(message, ToolMessage):
            for result in message.results:
                output = {"call_id": result.call_id, "output": result.content}
                yield {"type": "function_call_output", **output}
        elif message.content.strip():
            role = system_role if isinstance(message, SystemMessage) else "user"
            yield {"role": role, "content": message.content}


def build_answer(message: AssistantMessage, is_own: bool) -> Iterator[dict[str, Any]]:
    opaque = [load_opaque(part) if is_own else {} for part in message.parts]
    # Reasoning that is not encrypted is stored nowhere, so the service would not find its id. The
    # items after it must not have ids either then.
    lost = [
        each
        for each in opaque
        if each.get("type") == "reasoning"
        and not (each.get("encrypted_content") or each.get("content"))
    ]
    for part, each in zip(message.parts, opaque, strict=True):
        if each not in lost and (item := build_part(part, {} if lost else each)):
            yield item


def build_part(part: Part, opaque: dict[str, Any]) -> dict[str, Any] | None:
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


# The status for each code of an error; any other code is an error of the server.
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
_ENDS = {f"response.{end}" for end in ("completed", "incomplete", "failed", "cancelled", "done")}


class ResponsesReader(Reader):
    """Reads a stream of the Responses API, or a whole response.

    Servers send the same content again in different ways: deltas, the whole text, the whole item,
    all items at the end. What comes first counts, and the rest adds what is missing.
    """

    def __init__(self) -> None:
        super().__init__()
        # All items, in the order in which they began.
        self._items: list[PartialItem] = []
        self._by_id: dict[str, PartialItem] = {}
        # The newest item with each of the server's indexes.
        self._by_index: dict[int, PartialItem] = {}

    def read_document(self, document: Any, event: ServerEvent) -> list[Event]:
        document = as_dict(document)
        kind = document.get("type") or event.event
        if kind == "response.output_text.delta":
            item = self._find(document, "message")
            return item.add(document.get("delta"), document.get("content_index"))
        if not isinstance(kind, str):
            kind = ""
        if place := _REASONING.get(kind):
            delta = document.get("delta")
            text = delta.get("text") if isinstance(delta, dict) else delta
            return self._find(document, "reasoning").add(text, (place, document.get(place)))
        if kind.startswith("response.function_call_arguments."):
            is_delta = kind.endswith(".delta") and isinstance(document.get("delta"), str)
            if is_delta or kind.endswith(".done"):
                item = self._find(document, "function_call")
                self.call_characters += item.read_call(document, is_delta)
            return []
        if kind == "response.refusal.delta":
            item = self._find(document, "message")
            item.is_refusal = True
            return item.add(document.get("delta"), document.get("content_index"))
        if kind in _TEXTS:
            item_kind, key = _TEXTS[kind]
            return self._find(document, item_kind).read_text(document, key)
        if kind == "response.output_item.added":
            data = as_dict(document.get("item"))
            known = self._by_id.get(data["id"]) if isinstance(data.get("id"), str) else None
            if known is None or known.is_done:
                self._add_item(data, document)
            return []
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

    def _find(self, document: dict[str, Any], kind: str) -> "PartialItem":
        """Return the item to which an event belongs; a new one if it never began.

        Some servers give an item a new id in each event, others give all items the same index.
        """
        item_id, index = document.get("item_id"), document.get("output_index")
        item = self._by_id.get(item_id) if isinstance(item_id, str) else None
        if item is None or item.kind != kind:
            item = self._by_index.get(index) if type(index) is int else None
        if (item is None or item.kind != kind) and type(index) is not int:
            item = next((each for each in reversed(self._items) if each.kind == kind), None)
        if item is None or item.kind != kind:
            item = self._add_item({"type": kind, "id": item_id}, document)
        return item

    def _add_item(self, data: dict[str, Any], document: dict[str, Any]) -> "PartialItem":
        item = PartialItem(data)
        self._items.append(item)
        if isinstance(data.get("id"), str) and data["id"]:
            self._by_id.setdefault(data["id"], item)
        if type(index := document.get("output_index")) is int:
            self._by_index[index] = item
        return item

    def _end_item(self, document: dict[str, Any]) -> list[Event]:
        data = as_dict(document.get("item"))
        item = self._find_same(data, sorted(self._items, key=lambda item: item.is_done))
        if item is None or item.is_done:
            index = document.get("output_index")
            item = self._by_index.get(index) if type(index) is int else None
        if item is None or item.is_done or not item.fits(data):
            item = self._add_item(data, document)
        return self._complete(item, data)

    def _find_same(
        self, data: dict[str, Any], items: Iterable["PartialItem"]
    ) -> "PartialItem | None":
        """Return the item with the same ids, or with one of them; None if there is none."""
        items = [item for item in items if item.fits(data)]
        # Two calls may have the same `call_id`, and an item may have a new `id` in each event.
        for keys in (("id", "call_id"), ("call_id",), ("id",)):
            wanted = [data.get(key) for key in keys]
            for item in items if all(wanted) else ():
                if [item.data.get(key) for key in keys] == wanted:
                    return item
        return None

    def _complete(self, item: "PartialItem", data: dict[str, Any]) -> list[Event]:
        """Take the data of a whole item; empty data means that no more of it comes."""
        if item.is_done:
            return []
        if item.kind == "function_call":
            self._count_opaque("" if item.json else data.get("arguments"))
        elif item.kind != "message":
            self._count_opaque(data)
        events = item.complete(data)
        if item.kind == "function_call":
            arguments = "".join(item.json)
            if not arguments.strip() and isinstance(given := item.data.get("arguments"), str):
                arguments = given
            call_id = item.data.get("call_id") or item.data.get("id")
            item.call = self._make_call(call_id, item.data.get("name"), arguments, item.opaque())
            events += self._emit_call(item.call)
        return events

    def _end_response(self, response: dict[str, Any], kind: str) -> list[Event]:
        self._model = as_text(response.get("model")) or self._model
        status = response.get("status") or kind.removeprefix("response.")
        events: list[Event] = []
        if isinstance(usage := response.get("usage"), dict):
            cached = as_dict(usage.get("input_tokens_details")).get("cached_tokens")
            reasoning = as_dict(usage.get("output_tokens_details")).get("reasoning_tokens")
            counts = (usage.get("input_tokens"), usage.get("output_tokens"), cached, reasoning)
            events.append(self._count(*map(as_count, counts)))
        if response.get("error") or status == "failed":
            return [*events, _read_error(response)]
        if status == "cancelled":
            return [*events, StreamError("broken_off", "the service has cancelled its answer")]
        if status not in ("completed", "incomplete", "done"):
            return [*events, StreamError("bad_answer", f"its answer is {as_text(status)!r}")]
        self.is_complete = True
        left = [*self._items]
        for data in as_dicts(response.get("output")):
            # Ids may have changed, but the order is the same.
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


class PartialItem:
    """An item of a response of which some events have come."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.kind = _find_kind(data)
        self.data = data
        self.text = TextBlock(is_thinking=self.kind == "reasoning")
        # The pieces of each of its contents, and the contents that are complete.
        self._pieces: dict[Any, list[str]] = {}
        self._filled: set[Any] = set()
        self.json: list[str] = []
        self.call: ToolCall | None = None
        self.is_done = self.is_refusal = False

    def add(self, piece: Any, place: Any) -> list[Event]:
        """Add a piece of text to one of its contents, whose index is `place`."""
        place = _normalize_place(place)
        if not piece or not isinstance(piece, str) or self.is_done or place in self._filled:
            return []
        events: list[Event] = []
        if place not in self._pieces:
            if self._pieces and self.kind == "reasoning":
                # Each summary is a paragraph.
                events = self.text.add("\n\n")
            self._pieces[place] = []
        self._pieces[place].append(piece)
        return [*events, *self.text.add(piece)]

    def fill(self, whole: Any, place: Any) -> list[Event]:
        """Take the whole text of one content, and add the part that has not come yet."""
        if not isinstance(whole, str) or not whole:
            return []
        place = _normalize_place(place)
        came, whole = _join_halves("".join(self._pieces.get(place, ()))), _join_halves(whole)
        events = self.add(whole[len(came) :], place) if whole.startswith(came) else []
        self._filled.add(place)
        return events

    def read_text(self, document: dict[str, Any], key: str) -> list[Event]:
        """Take the event with the whole text of one content, which is under `key`."""
        self.is_refusal = self.is_refusal or key == "refusal"
        place = "summary_index" if "summary_index" in document else "content_index"
        index = document.get(place)
        return self.fill(document.get(key), index if self.kind == "message" else (place, index))

    def read_call(self, document: dict[str, Any], is_delta: bool) -> int:
        """Take an event with arguments of the call; return the characters of a delta."""
        if is_delta:
            self.json.append(document["delta"])
            return len(document["delta"])
        text, name = document.get("arguments"), document.get("name")
        if isinstance(text, str) and text.strip():
            self.json = [text]
        if isinstance(name, str) and not self.data.get("name"):
            self.data["name"] = name
        return 0

    def fits(self, data: dict[str, Any]) -> bool:
        """Return whether data may be of this item: of the same kind, and not of another call."""
        ours, theirs = self.data.get("call_id"), data.get("call_id")
        is_same = not ours or not theirs or ours == theirs
        return is_same and self.kind == _find_kind(data)

    def complete(self, data: dict[str, Any]) -> list[Event]:
        """Take the data of the whole item; empty data means that no more of it comes."""
        events: list[Event] = []
        if data:
            known = ("type", "id", "call_id", "name")
            before = {key: self.data[key] for key in known if key in self.data}
            self.data = data | {key: value for key, value in before.items() if not data.get(key)}
        if data and self.kind in ("message", "reasoning"):
            for place, text in list_contents(data):
                events += self.fill(text, place)
            types = (each.get("type") for each in as_dicts(data.get("content")))
            self.is_refusal = self.is_refusal or "refusal" in types
        text = data.get("arguments")
        if isinstance(text, str) and text.strip():
            self.json = [text]
        elif isinstance(text, dict):
            self.json = [dump_arguments(text)]
        self.is_done = True
        return events + self.text.finish()

    def opaque(self) -> str:
        """Return the data for the service alone: without what the part itself has."""
        known = ("type", "call_id", "name", "arguments", "content", "role")
        rest = {k: v for k, v in self.data.items() if k not in known and v is not None}
        if rest.get("status") == "in_progress":
            rest["status"] = "completed"
        return dump_json(rest) if rest.get("id") else ""

    def part(self) -> Part | None:
        if self.kind == "function_call":
            return self.call
        if self.kind == "message":
            part = self.text.part(self.opaque())
            return part if part.text else None
        whole = dump_json(self.data) if self.data.get("id") else ""
        if self.kind == "reasoning":
            return self.text.part(whole)
        return Thinking("", whole) if whole else None


def _find_kind(data: dict[str, Any]) -> str:
    """Return the type of an item; if it has none, guess it from its keys."""
    if kind := as_text(data.get("type")):
        return kind
    if data.get("call_id"):
        return "function_call"
    return "reasoning" if "summary" in data else "message" if "content" in data else ""


def list_contents(data: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the place and the text of each content of a whole item."""
    is_message = _find_kind(data) == "message"
    for number, each in enumerate(as_dicts(data.get("summary"))):
        yield ("summary_index", number), each.get("text")
    content = data.get("content")
    if is_message and isinstance(content, str):
        yield 0, content
    for number, each in enumerate(as_dicts(content)):
        text = each.get("text") if each.get("text") is not None else each.get("refusal")
        yield number if is_message else ("content_index", number), text


def _normalize_place(place: Any) -> Any:
    """Return the index of a content; the first one for an invalid index."""
    if isinstance(place, tuple):
        return place[0], as_index(place[1])
    return as_index(place)


def _join_halves(text: str) -> str:
    """Return a text in which the two halves of a surrogate pair are one character."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _read_error(document: dict[str, Any]) -> StreamError:
    code = (as_dict(document.get("error")) or document).get("code")
    return read_payload(document, _STATUS.get(code) if isinstance(code, str) else None)


PROTOCOL = Protocol(build_body, ResponsesReader)
