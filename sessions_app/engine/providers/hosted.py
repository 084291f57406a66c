"""What all providers on the network have in common, whatever protocol they speak."""

import re
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

from sessions_app.engine.base import EngineError
from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.config import Config
from sessions_app.engine.messages import AssistantMessage, Request
from sessions_app.engine.providers.base import Provider
from sessions_app.engine.settings import SAMPLING, THINKING
from sessions_app.engine.wire.events import Event, ProviderError, StreamError

# What any provider on the network can do that has nothing else of its own.
HOSTED = ProviderCapabilities(executes_code=False, touches_files=False, is_scripted=False)
# Fields that a person has chosen: that one is left out is no matter of the wire alone.
_CHOSEN = (SAMPLING | THINKING | {"thinking", "generation_config"}) - {"max_tokens"}
# How often one request is changed for what the service says of it, and sent again.
_LESSONS = 4


@dataclass
class Lessons:
    """What a service has said of the requests for one of its models."""

    # Optional fields that it has refused.
    refused: set[str] = field(default_factory=set)
    # Tokens of an answer at most.
    max_tokens: int | None = None


# By the service and the model, for as long as this process lives.
_learned: dict[tuple[str, str], Lessons] = {}

# What a service says of content that it does not take back: its own signed or encrypted thinking,
# after the key, the instructions or the messages before it have changed.
_STALE = re.compile(
    r"signature|encrypted|bound to|reasoning.{0,20} item|required.{0,20} item"
    r"|(thinking|thought|reasoning).{0,20} blocks?\b|expected `?(redacted_)?thinking",
    re.I,
)
# What a service says of a field that it does not take at all, or not together with another one.
_REFUSES = re.compile(
    r"not (be )?(support|permit|allow|accept|enabl|available|expect|recogni|known)|n't support"
    r"|unsupported|unexpected|unknown|unrecogni|extra (input|field)|deprecated|cannot find field"
    r"|must be verified|cannot both|cannot be (used|set|specified|combined)|use only one"
    r"|may only be set|or unset|is invalid|incompatible|mutually exclusive|disallow|reject",
    re.I,
)


class HostedProvider(Provider):
    """A provider on the network.

    A service that refuses an optional field is asked again without it, and from then on never
    with it. One that refuses its own opaque content is asked again without that.
    """

    # Optional fields of the request's body, and what a refusal calls each. The first one counts
    # that the body has and the refusal names.
    optional: ClassVar[Mapping[str, re.Pattern[str]]] = {}

    @classmethod
    def check(cls, config: Config) -> None:
        """Raise EngineError `bad_config` where a resolved config lacks something, or is wrong."""
        super().check(config)
        check_url(config, cls.module, cls.place_of(config))

    @classmethod
    def place_of(cls, config: Config) -> str:
        """Return the key of a config that says where the service is."""
        return "base_url"

    @abstractmethod
    def endpoint(self) -> tuple[str, dict[str, str]]:
        """Return the URL of an answer's stream, and the headers that authenticate us."""

    @abstractmethod
    def build_body(self, request: Request, lessons: Lessons) -> dict[str, Any]:
        """Return the body of a request, as far as is known what the service takes."""

    @abstractmethod
    def reader(self) -> Any:
        """Return a reader for one answer (see `wire.answer.Reader`)."""

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[AsyncIterator[Event]]:
        """Give the events of an answer: the last one is `Finish`."""
        async with AsyncExitStack() as stack:
            yield await self._open(request, stack)

    def learn(self, error: StreamError, body: dict[str, Any], lessons: Lessons) -> Lessons | None:
        """Return what a refusal says of requests like this one; None if it says nothing.

        What is returned holds for this request. What holds for all of the service is added to
        `lessons`.
        """
        if error.status not in (400, 422) or error.kind not in ("rejected", "unsupported_field"):
            return None
        is_refused = error.kind == "unsupported_field" or _REFUSES.search(error.message)
        words = f"{error.field} {error.message}" if is_refused else ""
        found = (name for name, pattern in self.optional.items() if pattern.search(words))
        # The optional field that the request was refused for.
        name = next((name for name in found if has_field(body, name)), "")
        if not name or name in lessons.refused:
            return None
        return self.leave_out(name, lessons)

    def leave_out(self, name: str, lessons: Lessons) -> Lessons:
        """Return the lessons with a field that requests do without from now on."""
        lessons.refused.add(name)
        if name in _CHOSEN:
            self.notices.append(
                f"{self.module} does not take `{name}` for the model {self.model}: the request was "
                "sent without it."
            )
        return lessons

    async def _open(self, request: Request, stack: AsyncExitStack) -> AsyncIterator[Event]:
        # Late, because whoever only wants to know which providers there are needs no HTTP.
        from sessions_app.engine.wire.http import stream_events

        shared = _learned.setdefault((self.service, self.model), Lessons())
        lessons = shared
        url, headers = self.endpoint()
        for lesson in range(_LESSONS + 1):
            body = self.build_body(request, lessons)
            place = self.place_of(self.config)
            opening = stream_events(url, headers, body, self.limits, self.reader(), place=place)
            try:
                return await stack.enter_async_context(opening)
            except ProviderError as error:
                if lesson == _LESSONS:
                    raise
                if is_stale(error.error) and has_opaque(request, self.service):
                    request = without_opaque(request, self.service)
                elif (learned := self.learn(error.error, body, shared)) is not None:
                    lessons = learned
                else:
                    raise
        raise AssertionError("the last lesson raises")


def has_field(body: dict[str, Any], name: str) -> bool:
    """Tell whether a body has a field, at its top or within an object at its top."""
    inner = (value for value in body.values() if isinstance(value, dict))
    return name in body or any(has_field(each, name) for each in inner)


def is_stale(error: StreamError) -> bool:
    """Tell whether a request was refused for opaque content in it."""
    is_refused = error.status in (400, 422) and error.kind in ("rejected", "unsupported_field")
    return is_refused and bool(_STALE.search(error.message))


def has_opaque(request: Request, service: str) -> bool:
    """Tell whether a request returns content to a service that only it can read."""
    return any(
        isinstance(message, AssistantMessage)
        and message.service == service
        and any(part.opaque for part in message.parts)
        for message in request.messages
    )


def without_opaque(request: Request, service: str) -> Request:
    """Return a request without what only the service can read."""
    messages = tuple(
        replace(message, parts=tuple(replace(part, opaque="") for part in message.parts))
        if isinstance(message, AssistantMessage) and message.service == service
        else message
        for message in request.messages
    )
    return replace(request, messages=messages)


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
