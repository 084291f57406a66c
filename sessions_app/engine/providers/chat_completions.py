"""What all providers have in common that speak OpenAI's protocols: chat completions, Responses."""

from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from sessions_app.engine.base import EngineError
from sessions_app.engine.config import Config
from sessions_app.engine.messages import Request
from sessions_app.engine.providers.base import Provider
from sessions_app.engine.settings import api_of, model_settings, thinking_of
from sessions_app.engine.wire import chat
from sessions_app.engine.wire.events import Event, ProviderError, StreamError

# The fields that a service has refused, by the service and its model: it is not asked again with
# them for as long as this process lives.
_refused: dict[tuple[str, str], set[str]] = {}
# How many fields of one request may be refused, one after the other.
_LESSONS = 4
# Named in a refusal that is not understood otherwise, these are what it is about.
_NAMED_ALONE = (
    "stream_options",
    "max_completion_tokens",
    "reasoning_effort",
    "reasoning_content",
    "reasoning_details",
    "extra_content",
)
_PATHS = {"chat": "chat/completions", "responses": "responses"}


class ChatProvider(Provider):
    """A provider that speaks chat completions or, where its config says so, Responses."""

    @classmethod
    def check(cls, config: Config) -> None:
        """Raise EngineError `bad_config` where a resolved config lacks something, or is wrong."""
        super().check(config)
        check_url(config, cls.module, cls.place_of(config))
        api_of(config, cls.module)

    @classmethod
    def place_of(cls, config: Config) -> str:
        """Return the key of a config that says where the service is."""
        return "base_url"

    @property
    def deployment(self) -> str:
        """Return what the service calls the model that is asked."""
        return self.model

    @abstractmethod
    def url(self, path: str) -> str:
        """Return the URL of a path of its API."""

    def headers(self) -> dict[str, str]:
        """Return the headers of a request that say who asks."""
        key = self.config.get("api_key")
        return {"Authorization": f"Bearer {key}"} if key else {}

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[AsyncIterator[Event]]:
        """Give the events of an answer.

        A service that refuses an optional field is asked once more without it, and never again
        with it.
        """
        async with AsyncExitStack() as stack:
            yield await self._open(request, stack)

    async def _open(self, request: Request, stack: AsyncExitStack) -> AsyncIterator[Event]:
        # Late, because whoever only wants to know which providers there are needs no HTTP.
        from sessions_app.engine.wire.http import stream_events

        refused = _refused.setdefault((self.service, self.deployment), set())
        for _ in range(_LESSONS):
            body = self._build_body(request, refused)
            opening = stream_events(
                self.url(_PATHS[self._api]),
                self.headers(),
                body,
                self.limits,
                self._reader(),
                place=self.place_of(self.config),
            )
            try:
                return await stack.enter_async_context(opening)
            except ProviderError as error:
                field = find_refused_field(error.error, body, refused)
                if not field:
                    raise
                refused.add(field)
        raise ProviderError(
            StreamError("unsupported_field", f"it refused {', '.join(sorted(refused))}", 400)
        )

    @property
    def _api(self) -> str:
        return api_of(self.config, self.module)

    def _build_body(self, request: Request, refused: Collection[str]) -> dict[str, Any]:
        common = {
            "model": self.deployment,
            "service": self.service,
            "settings": model_settings(self.config, self.module),
            "thinking": thinking_of(self.config, self.module),
        }
        if self._api == "chat":
            return chat.build_body(request, can=self.can, without=refused, **common)
        from sessions_app.engine.wire.responses import build_responses_body

        can = replace(self.can, without=(*self.can.without, *refused))
        with_opaque = "encrypted_content" not in refused
        return build_responses_body(request, can=can, with_opaque=with_opaque, **common)

    def _reader(self) -> Any:
        if self._api == "chat":
            return chat.ChatReader()
        from sessions_app.engine.wire.responses import ResponsesReader

        return ResponsesReader()


def find_refused_field(error: StreamError, body: dict[str, Any], refused: Collection[str]) -> str:
    """Return the optional field that a request was refused for; empty where it was for another.

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
    if found := chat.find_optional_field(place):
        return found
    names = place.replace("[", ".").replace("]", "").split(".")
    return next((name for name in names if name in _OF_RESPONSES), "")


_OF_RESPONSES = ("max_output_tokens", "include", "store", "encrypted_content")


def _has_field(body: Any, field: str) -> bool:
    """Tell whether a request has a field, at its top or in its messages."""
    if field in body:
        return True
    messages = [each for each in body.get("messages", body.get("input")) or () if each]
    calls = [call for each in messages for call in each.get("tool_calls") or ()]
    return any(field in each for each in (*messages, *calls))


def check_url(config: Config, module: str, key: str) -> None:
    """Raise EngineError `bad_config` where a config has something that is no URL."""
    if not (url := config.get(key)):
        return
    try:
        parts = urlsplit(str(url))
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        is_url = is_url and str(url).isprintable() and " " not in str(url)
    except ValueError:
        is_url = False
    if not is_url:
        raise EngineError(
            "bad_config", f"`{key}` of {module} must be a URL, http:// or https://: correct it."
        )


def join_url(base: str, path: str, query: str = "") -> str:
    """Return a path below a URL, which may have a query of its own, or end with the path."""
    parts = urlsplit(base)
    head = parts.path.rstrip("/")
    joined = head if head.endswith(f"/{path}") else f"{head}/{path}"
    queries = "&".join(filter(None, (parts.query, query)))
    return urlunsplit((parts.scheme, parts.netloc, joined, queries, ""))
