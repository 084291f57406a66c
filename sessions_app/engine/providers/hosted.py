"""The base class of providers on the network, whatever protocol they speak."""

import re
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

from amplifierd.common.outbound import AddressRefused, rules_for_profiles
from sessions_app.engine.base import bad_config
from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.config import Config, is_url
from sessions_app.engine.messages import AssistantMessage, Request
from sessions_app.engine.providers.base import Provider
from sessions_app.engine.settings import (
    SAMPLING,
    THINKING,
    RequestOptions,
    model_settings,
    thinking_of,
)
from sessions_app.engine.wire.answer import Protocol
from sessions_app.engine.wire.events import Event, ProviderError, StreamError

# The capabilities of every provider on the network; each class adds its own.
HOSTED = ProviderCapabilities(executes_code=False, touches_files=False, is_scripted=False)
# Fields that come from a profile: if one is left out, people must know.
_CHOSEN = (SAMPLING | THINKING | {"thinking", "generation_config"}) - {"max_tokens"}
# How often one request is changed after a refusal and sent again.
_LESSONS = 4


@dataclass
class Lessons:
    """What refusals have taught about the requests for one model of a service."""

    # Optional fields that the service has refused.
    refused: set[str] = field(default_factory=set)
    # Tokens of an answer at most.
    max_tokens: int | None = None


# By the service and the model, for as long as this process lives.
_learned: dict[tuple[str, str], Lessons] = {}

# Words of a service that does not take back its own signed or encrypted thinking, because the key,
# the instructions or the messages before it have changed.
_STALE = re.compile(
    r"signature|encrypted|bound to|reasoning.{0,20} item|required.{0,20} item"
    r"|(thinking|thought|reasoning).{0,20} blocks?\b|expected `?(redacted_)?thinking",
    re.I,
)
# Words of a service that does not take a field at all, or not together with another one.
_REFUSES = re.compile(
    r"not (be )?(support|permit|allow|accept|enabl|available|expect|recogni|known)|n't support"
    r"|unsupported|unexpected|unknown|unrecogni|extra (input|field)|deprecated|cannot find field"
    r"|must be verified|cannot both|cannot be (used|set|specified|combined)|use only one"
    r"|may only be set|or unset|is invalid|incompatible|mutually exclusive|disallow|reject",
    re.I,
)


class HostedProvider(Provider):
    """A provider on the network.

    If a service refuses an optional field, the request is sent again without it, and later requests
    never have it. If it refuses its own opaque content, the request is sent again without that.
    """

    # Optional fields of the request's body, and how a refusal names each. Of those that the body
    # has and the refusal names, the first counts.
    optional: ClassVar[Mapping[str, re.Pattern[str]]] = {}

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        place = cls.place_of(config)
        if (url := config.get(place)) and not is_url(str(url), ("http", "https")):
            problem = "must be a URL, http:// or https://: correct it."
            raise bad_config(f"`{place}` of {cls.module} {problem}")
        try:
            rules_for_profiles().check_url(str(url or ""))
        except AddressRefused as error:
            raise bad_config(f"`{place}` of {cls.module} cannot be used. {error}") from None

    @classmethod
    def place_of(cls, config: Config) -> str:
        """Return the key of the config whose value is the service's URL."""
        return "base_url"

    @abstractmethod
    def endpoint(self) -> tuple[str, dict[str, str]]:
        """Return the URL to post a request to, and the headers with the key."""

    @property
    @abstractmethod
    def protocol(self) -> Protocol:
        """The API that the service speaks."""

    def options(self, lessons: Lessons) -> RequestOptions:
        """Return the options of a request, without what the service has refused before."""
        can = replace(self.can, without=(*self.can.without, *lessons.refused))
        settings = model_settings(self.config, self.module)
        if (most := lessons.max_tokens) is not None:
            settings["max_tokens"] = min(settings.get("max_tokens", most), most)
        thinking = thinking_of(self.config, self.module)
        return RequestOptions(self.model, self.service, can, settings, thinking)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[AsyncIterator[Event]]:
        # Late: to list the providers, HTTP is not needed.
        from sessions_app.engine.wire.http import stream_events

        shared = lessons = _learned.setdefault((self.service, self.model), Lessons())
        url, headers = self.endpoint()
        build_body, make_reader = self.protocol
        place = self.place_of(self.config)
        async with AsyncExitStack() as stack:
            for left in reversed(range(_LESSONS + 1)):
                body = build_body(request, self.options(lessons))
                opening = stream_events(url, headers, body, self.limits, make_reader(), place=place)
                try:
                    events = await stack.enter_async_context(opening)
                    break
                except ProviderError as error:
                    if not left:
                        raise
                    plain = without_opaque(request, self.service)
                    if is_stale(error.error) and plain != request:
                        request = plain
                    elif (learned := self.learn(error.error, body, shared)) is not None:
                        lessons = learned
                    else:
                        raise
            yield events

    def learn(self, error: StreamError, body: dict[str, Any], lessons: Lessons) -> Lessons | None:
        """Return what a refusal teaches about the request; None if it teaches nothing.

        The result holds for this request. What holds for all requests is added to `lessons`.
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
        """Return the lessons with a field that requests do not have from now on."""
        lessons.refused.add(name)
        if name in _CHOSEN:
            self.notices.append(
                f"{self.module} does not take `{name}` for the model {self.model}: the request was "
                "sent without it."
            )
        return lessons


def has_field(body: dict[str, Any], name: str) -> bool:
    """Return whether a body has a field, at its top or within an object at its top."""
    inner = (value for value in body.values() if isinstance(value, dict))
    return name in body or any(has_field(each, name) for each in inner)


def is_stale(error: StreamError) -> bool:
    """Return whether a request was refused for opaque content in it."""
    is_refused = error.status in (400, 422) and error.kind in ("rejected", "unsupported_field")
    return is_refused and bool(_STALE.search(error.message))


def without_opaque(request: Request, service: str) -> Request:
    """Return a request without content that only the service can read."""
    messages = tuple(
        replace(message, parts=tuple(replace(part, opaque="") for part in message.parts))
        if isinstance(message, AssistantMessage) and message.service == service
        else message
        for message in request.messages
    )
    return replace(request, messages=messages)


def join_url(base: str, path: str, query: str = "") -> str:
    """Return the URL of a path below a base URL, which may have a query, or end with the path."""
    parts = urlsplit(base)
    head = parts.path.rstrip("/")
    joined = head if head.endswith(f"/{path}") else f"{head}/{path}"
    queries = "&".join(filter(None, (parts.query, query)))
    return urlunsplit((parts.scheme, parts.netloc, joined, queries, ""))
