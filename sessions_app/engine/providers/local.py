"""provider-local: a small language model inside this process, with no key and no network."""

import asyncio
import http.client
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit

from django.conf import settings

from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.local_server import CONTEXT, NAME, LocalServer, local_server
from sessions_app.engine.messages import (
    AssistantMessage,
    Message,
    Request,
    ToolMessage,
    UserMessage,
)
from sessions_app.engine.model_files import SMOLLM2, wait_for_fetch
from sessions_app.engine.providers.base import Provider
from sessions_app.engine.settings import SAMPLING, Thinking, model_settings
from sessions_app.engine.wire import chat
from sessions_app.engine.wire.events import Event, ProviderError, StreamError

DEFAULTS = {"temperature": 0.2, "max_tokens": 300}
# Tokens of earlier turns that are read with a message: so small a model makes nothing of more,
# and two cores read some 200 a second.
MEMORY = 1024
# What the chat template adds to each message, in tokens, rounded up.
_FRAME = 8
# What it adds to the whole, with its own system prompt where the profile has none.
_FRAME_OF_ALL = 64
# Seconds that the model's file may still take, where it is being fetched.
_FETCHING_TIME = 120.0
# Seconds for counting tokens, which takes milliseconds.
_COUNTING_TIME = 30.0


class Local(Provider):
    """The local model: forgets the oldest turns, so that the prompt fits into its context.

    The instructions and the newest turn are always kept.
    """

    module = "provider-local"
    capabilities = ProviderCapabilities(
        executes_code=False,
        touches_files=False,
        is_scripted=False,
        reaches_network=False,
        needs_key=False,
        has_address=False,
        accepts_tools=False,
        summarizes=False,
        context_window=CONTEXT,
        # Its chat template takes them all.
        strict_roles=False,
        leading_system=False,
    )
    # A request may wait long for one of its slots.
    defaults = {"timeout": 600}
    settings = SAMPLING

    @property
    def model(self) -> str:
        """Return the name of the model that is asked."""
        return NAME

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[AsyncIterator[Event]]:
        """Give the events of an answer to the newest messages that fit.

        The first request of a process starts the model's server, in a second. Raises EngineError
        `model_missing` without the model's file.
        """
        # Late, because whoever only wants to know which providers there are needs no HTTP.
        from sessions_app.engine.wire.http import stream_events

        chosen = {**DEFAULTS, **model_settings(self.config, self.module)}
        # A thread, because starting the server and counting tokens block.
        server, fitting = await asyncio.to_thread(self._prepare, request, int(chosen["max_tokens"]))
        body = chat.build_body(
            fitting,
            model=NAME,
            service=self.service,
            settings=chosen,
            thinking=Thinking(),
            can=self.can,
        )
        url = f"{server.url}/v1/chat/completions"
        headers = {"Authorization": f"Bearer {server.key}"}
        async with stream_events(url, headers, body, self.limits, chat.ChatReader()) as events:
            yield events

    def count_tokens(self, request: Request) -> int | None:
        """Return how many tokens a request has; blocks for milliseconds, the first time longer."""
        return _count_tokens(_server(), request.instructions, request.messages) + _FRAME_OF_ALL

    def _prepare(self, request: Request, max_tokens: int) -> tuple[LocalServer, Request]:
        server = _server()
        room = min(max_tokens, CONTEXT // 4)
        return server, replace(request, messages=self._select_newest(server, request, room))

    def _select_newest(
        self, server: LocalServer, request: Request, answer_room: int
    ) -> tuple[Message, ...]:
        """Return the messages from the oldest turn on that still fits; a turn is never cut."""
        messages = request.messages
        starts = [at for at, message in enumerate(messages) if isinstance(message, UserMessage)]
        kept = starts.pop() if starts else 0
        newest = _FRAME_OF_ALL + _count_tokens(server, request.instructions, messages[kept:])
        if newest >= CONTEXT:
            raise ProviderError(
                StreamError(
                    "too_long",
                    f"The message has {newest} tokens, of {CONTEXT} that the local model can "
                    "read. Shorten it, or use a profile with a larger model.",
                )
            )
        free = min(CONTEXT - answer_room - newest, MEMORY)
        for start in reversed(starts):
            free -= _count_tokens(server, "", messages[start:kept])
            if free < 0:
                break
            kept = start
        return messages[kept:]


def _server() -> LocalServer:
    path = settings.MODELS_DIR / SMOLLM2.name
    if not path.is_file():
        # A daemon that has just been set up is fetching it.
        wait_for_fetch(settings.MODELS_DIR, _FETCHING_TIME)
    return local_server(path)


def _count_tokens(server: LocalServer, instructions: str, messages: tuple[Message, ...]) -> int:
    """Return the tokens of messages, with what the chat template adds to each; blocks.

    Raises ProviderError where the server does not say.
    """
    text = "\n".join(filter(None, [instructions, *map(_text_of, messages)]))
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=_COUNTING_TIME)
    headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
    try:
        connection.request("POST", "/tokenize", json.dumps({"content": text}), headers)
        answer = json.loads(connection.getresponse().read())
        return len(answer["tokens"]) + _FRAME * (len(messages) + bool(instructions))
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        reason = f"the local model could not count tokens: {error}"
        raise ProviderError(StreamError("broken_off", reason)) from error
    finally:
        connection.close()


def _text_of(message: Message) -> str:
    if isinstance(message, AssistantMessage):
        return message.text
    if isinstance(message, ToolMessage):
        return "\n".join(result.content for result in message.results)
    return message.content
