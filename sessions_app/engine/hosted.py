"""What all providers on the network have in common, whatever protocol they speak."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import httpx2
from pydantic_ai.exceptions import AgentRunError, UnexpectedModelBehavior, UserError
from pydantic_ai.messages import ModelMessage, ModelResponseStreamEvent
from pydantic_ai.models import ModelRequestParameters, StreamedResponse
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import RunContext

from sessions_app.engine.base import EngineError
from sessions_app.engine.client import CHAT, OwnsClient, Wire, guarded_client
from sessions_app.engine.config import Config
from sessions_app.engine.limits import limits_of


class Hosted(OwnsClient):
    """A model on the network: what does not keep to its protocol is UnexpectedModelBehavior."""

    # Whose protocol is spoken.
    speaks: str

    def __init__(self, name: str, http: httpx2.AsyncClient, **options: Any) -> None:
        super().__init__(name, **options)
        self.http = http

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Open the stream of an answer."""
        opened = super().request_stream(
            messages, model_settings, model_request_parameters, run_context
        )
        async with AsyncExitStack() as stack:
            with _understood(self.speaks):
                response = await stack.enter_async_context(opened)
            # Each protocol has a class of streams, and few let another one be named in its place.
            read = partial(_checked, response, response._get_event_iterator, self.speaks)
            response._get_event_iterator = read
            yield response


def client_of(config: Config, module: str, wire: Wire = CHAT) -> httpx2.AsyncClient:
    """Return the guarded client of a provider; raise EngineError for a limit that is none."""
    return guarded_client(module, limits_of(config, module).connect_timeout, wire)


def url_of(config: Config, module: str, key: str = "base_url") -> str | None:
    """Return the URL that a config has, if any; raise EngineError `bad_config` for what is none."""
    if not (url := config.get(key)):
        return None
    try:
        is_url = httpx2.URL(str(url)).scheme in ("http", "https") and httpx2.URL(str(url)).host
    except httpx2.InvalidURL:
        is_url = False
    if is_url:
        return str(url)
    raise EngineError(
        "bad_config", f"`{key}` of {module} must be a URL, http:// or https://: correct it."
    )


async def _checked(
    response: StreamedResponse, read: Any, speaks: str
) -> AsyncIterator[ModelResponseStreamEvent]:
    is_empty = True
    with _understood(speaks):
        async for event in read():
            is_empty = False
            yield event
    if is_empty and response.finish_reason in (None, "stop"):
        raise UnexpectedModelBehavior("the answer is empty")


@contextmanager
def _understood(speaks: str) -> Iterator[None]:
    """Turn whatever the client trips over in an answer into UnexpectedModelBehavior.

    It checks little of what it reads, so an answer of another shape fails anywhere inside it.
    """
    try:
        yield
    except (AgentRunError, UserError, EngineError) as error:
        if not isinstance(error.__cause__, ValueError):
            raise
        raise UnexpectedModelBehavior(str(error)) from error
    except Exception as error:
        raise UnexpectedModelBehavior(f"not {speaks} protocol: {error}") from error
