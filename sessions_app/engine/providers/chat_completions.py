"""What all providers have in common that speak OpenAI's protocols: chat completions, Responses."""

import re
from abc import abstractmethod
from collections.abc import Collection
from dataclasses import replace
from typing import Any, ClassVar

from sessions_app.engine.config import Config
from sessions_app.engine.messages import Request
from sessions_app.engine.providers.hosted import (
    HOSTED,
    HostedProvider,
    Lessons,
    has_field,
    join_url,
)
from sessions_app.engine.settings import SAMPLING, THINKING, api_of, model_settings, thinking_of
from sessions_app.engine.wire import chat
from sessions_app.engine.wire.events import StreamError

# Named in a refusal that is not understood otherwise, these are what it is about.
_NAMED_ALONE = (
    "stream_options",
    "max_completion_tokens",
    "reasoning_effort",
    "reasoning_content",
    "reasoning_details",
    "extra_content",
)
# Thinking that goes back to its service; one that refuses a part of it takes none.
_OWN_THINKING = frozenset({"reasoning_content", "reasoning_details"})
_PATHS = {"chat": "chat/completions", "responses": "responses"}


class ChatProvider(HostedProvider):
    """A provider that speaks chat completions or, if its config says so, Responses."""

    # Fields of Responses that a service may refuse without their names.
    optional = {
        "include": re.compile(r"encrypted[ _]content|`?include`?\b", re.I),
        "summary": re.compile(r"reasoning summar", re.I),
    }

    @classmethod
    def check(cls, config: Config) -> None:
        """Raise EngineError `bad_config` where a resolved config lacks something, or is wrong."""
        super().check(config)
        api_of(config, cls.module)

    @property
    def deployment(self) -> str:
        """Return what the service calls the model that is asked."""
        return self.model

    @abstractmethod
    def url(self, path: str) -> str:
        """Return the URL of a path of its API."""

    def headers(self) -> dict[str, str]:
        """Return the headers that authenticate a request."""
        key = self.config.get("api_key")
        return {"Authorization": f"Bearer {key}"} if key else {}

    def endpoint(self) -> tuple[str, dict[str, str]]:
        """Return the URL of an answer's stream, and the headers that authenticate us."""
        return self.url(_PATHS[self._api]), self.headers()

    def build_body(self, request: Request, lessons: Lessons) -> dict[str, Any]:
        """Return the body of a request, as far as is known what the service takes."""
        common: dict[str, Any] = {
            "model": self.deployment,
            "service": self.service,
            "settings": model_settings(self.config, self.module),
            "thinking": thinking_of(self.config, self.module),
        }
        refused = lessons.refused
        if self._api == "chat":
            return chat.build_body(request, can=self.can, without=refused, **common)
        from sessions_app.engine.wire.responses import build_responses_body

        can = replace(self.can, without=(*self.can.without, *refused))
        return build_responses_body(request, can=can, **common)

    def reader(self) -> Any:
        """Return a reader for one answer."""
        if self._api == "chat":
            return chat.ChatReader()
        from sessions_app.engine.wire.responses import ResponsesReader

        return ResponsesReader()

    def learn(self, error: StreamError, body: dict[str, Any], lessons: Lessons) -> Lessons | None:
        """Return what a refusal says of requests like this one; None if it says nothing."""
        if field := find_refused_field(error, body, lessons.refused):
            if field in _OWN_THINKING:
                lessons.refused |= _OWN_THINKING
            return self.leave_out(field, lessons)
        return super().learn(error, body, lessons)

    @property
    def _api(self) -> str:
        return api_of(self.config, self.module)


def find_refused_field(error: StreamError, body: dict[str, Any], refused: Collection[str]) -> str:
    """Return the optional field that a request was refused for; empty if it was for another reason.

    One that was left out already is no reason to ask again.
    """
    field = ""
    if error.kind == "unsupported_field":
        field = find_optional_field(error.field)
    elif error.kind == "rejected" and error.status in (400, 422):
        field = next((name for name in _NAMED_ALONE if name in error.message), "")
    return field if field and field not in refused and _has_field(body, field) else ""


def find_optional_field(place: str) -> str:
    """Return the optional field that a path such as `messages.3.reasoning_content` means."""
    if place == "reasoning.summary":
        return "summary"
    if found := chat.find_optional_field(place):
        return found
    names = place.replace("[", ".").replace("]", "").split(".")
    return next((name for name in names if name in _OF_RESPONSES), "")


_OF_RESPONSES = ("max_output_tokens", "include", "store", "reasoning")


def _has_field(body: Any, field: str) -> bool:
    """Tell whether a request has a field, at its top or in its messages."""
    if has_field(body, field):
        return True
    messages = [each for each in body.get("messages", body.get("input")) or () if each]
    calls = [call for each in messages for call in each.get("tool_calls") or ()]
    return any(field in each for each in (*messages, *calls))


class OpenAICompatible(ChatProvider):
    """The service at `base_url`; it is sent a key only if the config has one."""

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
    """The vLLM at `base_url`. What it accepts is up to the chat template of its model."""

    module = "provider-vllm"
    capabilities = replace(HOSTED, needs_key=False, lenient_schemas=True)
