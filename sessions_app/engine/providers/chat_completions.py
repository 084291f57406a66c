"""Providers that speak OpenAI's protocols (chat completions, Responses), and the base of others."""

import re
from abc import abstractmethod
from collections.abc import Collection
from dataclasses import replace
from typing import Any, ClassVar

from sessions_app.engine.config import Config
from sessions_app.engine.providers.hosted import (
    HOSTED,
    HostedProvider,
    Lessons,
    has_field,
    join_url,
)
from sessions_app.engine.settings import SAMPLING, THINKING, api_of
from sessions_app.engine.wire import chat, responses
from sessions_app.engine.wire.answer import Protocol
from sessions_app.engine.wire.events import StreamError

# If one of these is in a refusal that names no field, it is the field that is refused.
_NAMED_ALONE = (
    "stream_options",
    "max_completion_tokens",
    "reasoning_effort",
    "reasoning_content",
    "reasoning_details",
    "extra_content",
)
_OPTIONAL = chat.OPTIONAL_FIELDS | {"max_output_tokens", "include", "store"}
# Fields of thinking that goes back to its service; one that refuses a part of it takes none.
_OWN_THINKING = frozenset({"reasoning_content", "reasoning_details"})
_PATHS = {"chat": "chat/completions", "responses": "responses"}


class ChatProvider(HostedProvider):
    """A provider with chat completions or, if its config has `api: responses`, Responses."""

    # Fields of Responses that a service may refuse in other words than their names.
    optional = {
        "include": re.compile(r"encrypted[ _]content|`?include`?\b", re.I),
        "summary": re.compile(r"reasoning summar", re.I),
    }

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        api_of(config, cls.module)

    @abstractmethod
    def url(self, path: str) -> str:
        """Return the URL of a path of the API, such as `chat/completions`."""

    def headers(self) -> dict[str, str]:
        """Return the headers with the key; none without a key."""
        key = self.config.get("api_key")
        return {"Authorization": f"Bearer {key}"} if key else {}

    def endpoint(self) -> tuple[str, dict[str, str]]:
        return self.url(_PATHS[self._api]), self.headers()

    @property
    def protocol(self) -> Protocol:
        return responses.PROTOCOL if self._api == "responses" else chat.PROTOCOL

    def learn(self, error: StreamError, body: dict[str, Any], lessons: Lessons) -> Lessons | None:
        if field := find_refused_field(error, body, lessons.refused):
            if field in _OWN_THINKING:
                lessons.refused |= _OWN_THINKING
            return self.leave_out(field, lessons)
        return super().learn(error, body, lessons)

    @property
    def _api(self) -> str:
        return api_of(self.config, self.module)


def find_refused_field(error: StreamError, body: dict[str, Any], refused: Collection[str]) -> str:
    """Return the optional field because of which a request was refused; empty without one.

    A field that the request did not have is no reason to send it again.
    """
    field = ""
    if error.kind == "unsupported_field":
        field = find_optional_field(error.field)
    elif error.kind == "rejected" and error.status in (400, 422):
        field = next((name for name in _NAMED_ALONE if name in error.message), "")
    if not field or field in refused or has_field(body, field):
        return "" if field in refused else field
    # It may also be in a message, or in a call of one.
    messages = [each for each in body.get("messages", body.get("input")) or () if each]
    calls = [call for each in messages for call in each.get("tool_calls") or ()]
    return field if any(field in each for each in (*messages, *calls)) else ""


def find_optional_field(place: str) -> str:
    """Return the optional field of a request to which a path leads; empty without one.

    Paths such as `messages.3.reasoning_content` and `stream_options.include_usage` are known, too.
    """
    if place == "reasoning.summary":
        return "summary"
    names = re.split(r"[^A-Za-z0-9_]+", place)
    return next((name for name in reversed(names) if name in _OPTIONAL), "")


class OpenAICompatible(ChatProvider):
    """The service at `base_url`; it gets a key only if the config has one."""

    module = "provider-openai-compatible"
    capabilities = replace(HOSTED, needs_key=False)
    needs: ClassVar[tuple[tuple[str, ...], ...]] = (("base_url",), ("default_model",))
    settings = SAMPLING | THINKING

    def url(self, path: str) -> str:
        return join_url(str(self.config["base_url"]), path)


class Ollama(OpenAICompatible):
    """The Ollama on this machine, or at `base_url`."""

    module = "provider-ollama"
    capabilities = replace(HOSTED, needs_key=False, lenient_schemas=True)
    defaults = {"base_url": "http://127.0.0.1:11434/v1"}
    needs = (("default_model",),)


class VLLM(OpenAICompatible):
    """The vLLM at `base_url`. What it accepts depends on the chat template of its model."""

    module = "provider-vllm"
    capabilities = replace(HOSTED, needs_key=False, lenient_schemas=True)
