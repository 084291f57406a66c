"""A request as the server sees it, and its conversation in one form for all four protocols."""

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

PROTOCOLS = ("chat", "responses", "messages", "gemini")


@dataclass
class Seen:
    """A message of the conversation in a request; `role` is the protocol's own word for it."""

    role: str
    texts: list[str] = field(default_factory=list)
    # Thinking as (text, what is opaque).
    thoughts: list[tuple[str, str]] = field(default_factory=list)
    # Calls as (id, name, arguments), results as (id, text).
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    results: list[tuple[str, str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def is_assistant(self) -> bool:
        return self.role in ("assistant", "model")

    @property
    def is_system(self) -> bool:
        return self.role in ("system", "developer")


@dataclass
class Request:
    """A request for an answer; `number` counts them from 1 at this server."""

    protocol: str
    path: str
    headers: dict[str, str]
    raw: bytes
    number: int
    # What behaviours remember between requests.
    memory: dict[str, Any] = field(repr=False, default_factory=dict)

    @cached_property
    def body(self) -> dict[str, Any]:
        body = json.loads(self.raw)
        return dict(_camel(body) if self.protocol == "gemini" else body)

    @cached_property
    def messages(self) -> list[Seen]:
        """The conversation, the instructions first as a message of role `system`."""
        return _READERS[self.protocol](self.body)

    @property
    def talk(self) -> list[Seen]:
        """The conversation without the leading system message."""
        return self.messages[1:] if self.messages and self.messages[0].is_system else self.messages

    @cached_property
    def tools(self) -> dict[str, dict[str, Any]]:
        """The schemas of the tools that are offered, by name."""
        return dict(_read_tools(self.protocol, self.body))

    @property
    def key(self) -> str:
        """The API key, as each protocol carries it."""
        bearer = self.headers.get("authorization", "").removeprefix("Bearer ")
        named = ("x-api-key", "x-goog-api-key", "api-key")
        return next((self.headers[name] for name in named if name in self.headers), bearer)

    @property
    def last_user(self) -> str:
        """The newest text of the user."""
        said = (each.text for each in reversed(self.talk) if each.role == "user" and each.text)
        return next(said, "")

    @property
    def results(self) -> list[str]:
        """The results of calls since the newest text of the user."""
        found: list[str] = []
        for each in self.talk:
            if each.role == "user" and each.text:
                found.clear()
            found += [text for _, text in each.results]
        return found


def _camel(value: Any) -> Any:
    """Return JSON of a protocol that takes names in both cases with those in camel case.

    What is not the protocol's own, schemas and arguments, stays as it is.
    """
    if isinstance(value, list):
        return [_camel(each) for each in value]
    if not isinstance(value, dict):
        return value
    foreign = ("parameters", "parametersJsonSchema", "args", "response", "labels")
    named = {re.sub("_([a-z])", lambda m: m[1].upper(), key): each for key, each in value.items()}
    return {key: each if key in foreign else _camel(each) for key, each in named.items()}


def _texts(content: Any) -> list[str]:
    """Return the texts of content that is a text, a list of parts, or nothing."""
    if content is None:
        return []
    if isinstance(content, str):
        return [content]
    return [part.get("text") or "" for part in content if "text" in part]


def _chat(body: dict[str, Any]) -> list[Seen]:
    found = []
    for message in body["messages"]:
        seen = Seen(message["role"], _texts(message.get("content")))
        for key in ("reasoning_content", "reasoning"):
            if message.get(key):
                seen.thoughts.append((message[key], ""))
        for detail in message.get("reasoning_details") or []:
            seen.thoughts.append((detail.get("text", ""), detail.get("data", "")))
        for call in message.get("tool_calls") or []:
            made = call["function"]
            seen.calls.append((call["id"], made["name"], made["arguments"]))
        if seen.role == "tool":
            seen.results.append((message["tool_call_id"], seen.text))
            seen.texts = []
        found.append(seen)
    return found


def _responses(body: dict[str, Any]) -> list[Seen]:
    found = [Seen("system", [body["instructions"]])] if body.get("instructions") else []
    given = body["input"]
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given:
        kind = item.get("type", "message")
        if kind == "function_call":
            call = (item["call_id"], item["name"], item["arguments"])
            found.append(Seen("assistant", calls=[call]))
        elif kind == "function_call_output":
            output = item["output"]
            text = output if isinstance(output, str) else "".join(_texts(output))
            found.append(Seen("tool", results=[(item["call_id"], text)]))
        elif kind == "reasoning":
            text = "".join(_texts(item.get("summary")))
            thought = (text, item.get("encrypted_content") or "")
            found.append(Seen("assistant", thoughts=[thought]))
        else:
            found.append(Seen(item["role"], _texts(item["content"])))
    return found


def _messages(body: dict[str, Any]) -> list[Seen]:
    found = [Seen("system", _texts(body["system"]))] if body.get("system") else []
    for message in body["messages"]:
        seen = Seen(message["role"])
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            kind = block["type"]
            if kind == "text":
                seen.texts.append(block["text"])
            elif kind == "thinking":
                seen.thoughts.append((block["thinking"], block["signature"]))
            elif kind == "redacted_thinking":
                seen.thoughts.append(("", block["data"]))
            elif kind == "tool_use":
                seen.calls.append((block["id"], block["name"], block["input"]))
            elif kind == "tool_result":
                text = "".join(_texts(block.get("content")))
                seen.results.append((block["tool_use_id"], text))
        found.append(seen)
    return found


def _gemini(body: dict[str, Any]) -> list[Seen]:
    given = body.get("systemInstruction")
    found = [Seen("system", _texts(given["parts"]))] if given else []
    for content in body["contents"]:
        seen = Seen(content.get("role", "user"))
        for part in content["parts"]:
            opaque = part.get("thoughtSignature", "")
            if call := part.get("functionCall"):
                seen.calls.append((call.get("id", ""), call["name"], call.get("args", {})))
            elif result := part.get("functionResponse"):
                text = json.dumps(result["response"], ensure_ascii=False)
                seen.results.append((result["name"], text))
            elif part.get("thought"):
                seen.thoughts.append((part["text"], ""))
            elif "text" in part:
                seen.texts.append(part["text"])
            if opaque:
                seen.thoughts.append(("", opaque))
        found.append(seen)
    return found


_READERS = {"chat": _chat, "responses": _responses, "messages": _messages, "gemini": _gemini}


def _read_tools(protocol: str, body: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    tools = body.get("tools") or []
    if protocol == "chat":
        return [(t["function"]["name"], t["function"].get("parameters") or {}) for t in tools]
    if protocol == "responses":
        return [(t["name"], t.get("parameters") or {}) for t in tools if t["type"] == "function"]
    if protocol == "messages":
        return [(t["name"], t["input_schema"]) for t in tools]
    declared = (d for t in tools for d in t.get("functionDeclarations", ()))
    keys = ("parametersJsonSchema", "parameters")
    return [(d["name"], next((d[k] for k in keys if d.get(k)), {})) for d in declared]
