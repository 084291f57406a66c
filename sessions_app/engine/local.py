"""provider-local: a small language model inside this process, with no key and no network."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from django.conf import settings
from openai import AsyncOpenAI
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, UserPromptPart
from pydantic_ai.models import ModelRequestParameters, StreamedResponse
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import RunContext

from sessions_app.engine.base import EngineError
from sessions_app.engine.client import OwnsClient, trusted
from sessions_app.engine.config import Config
from sessions_app.engine.local_server import CONTEXT, NAME, LocalServer, local_server
from sessions_app.engine.model_files import SMOLLM2
from sessions_app.engine.settings import model_settings

MODULE = "provider-local"
DEFAULTS = {"temperature": 0.2, "max_tokens": 300}
# Tokens of earlier turns that are read with a message: so small a model makes nothing of more,
# and two cores read some 200 a second.
MEMORY = 1024
# What the chat template adds to each message, in tokens, rounded up.
_FRAME = 8
# What it adds to the whole, with its own system prompt where the profile has none.
_FRAME_OF_ALL = 64


def open_model(config: Config) -> "LocalModel":
    """Return the local model, starting its server in this process on first use; blocks so long.

    Raises EngineError `model_missing` without the model's file.
    """
    chosen = ModelSettings(**{**DEFAULTS, **model_settings(config, MODULE)})
    return LocalModel(local_server(settings.MODELS_DIR / SMOLLM2.name), chosen)


class LocalModel(OwnsClient, WrapperModel):
    """The local model: forgets the oldest turns, so that the prompt fits into its context.

    The instructions and the newest prompt are always kept.
    """

    def __init__(self, server: LocalServer, chosen: ModelSettings) -> None:
        self.http = _client(server)
        api = AsyncOpenAI(
            base_url=f"{server.url}/v1",
            api_key=server.key,
            http_client=self.http,
            max_retries=0,
        )
        provider = OpenAICompatibleProvider(MODULE, openai_client=api)
        super().__init__(OpenAIChatModel(NAME, provider=provider, settings=chosen))
        self.answer_room = min(int(chosen["max_tokens"]), CONTEXT // 4)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Stream the answer to the newest messages that fit."""
        newest = await self._newest(messages)
        async with super().request_stream(
            newest, model_settings, model_request_parameters, run_context
        ) as response:
            yield response

    async def _newest(self, messages: list[ModelMessage]) -> list[ModelMessage]:
        """Return the messages from the oldest turn on that still fits; a turn is never cut."""
        starts = [index for index, message in enumerate(messages) if _opens_turn(message)]
        kept = starts.pop()
        newest = _FRAME_OF_ALL + await self._tokens(messages[kept:])
        _refuse_beyond_context(newest)
        free = min(CONTEXT - self.answer_room - newest, MEMORY)
        for start in reversed(starts):
            free -= await self._tokens(messages[start:kept])
            if free < 0:
                break
            kept = start
        return messages[kept:]

    async def _tokens(self, messages: list[ModelMessage]) -> int:
        text = "\n".join(map(_text, messages))
        answer = await self.http.post("/tokenize", json={"content": text})
        return len(answer.raise_for_status().json()["tokens"]) + _FRAME * len(messages)


def _client(server: LocalServer) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        base_url=server.url,
        verify=trusted(),
        headers={"Authorization": f"Bearer {server.key}"},
        # The engine's own end a silence.
        timeout=httpx2.Timeout(None, connect=5),
        # The server drops idle connections without notice.
        limits=httpx2.Limits(max_keepalive_connections=0),
        # A proxy for the network is none for this process.
        trust_env=False,
    )


def _refuse_beyond_context(tokens: int) -> None:
    if tokens >= CONTEXT:
        raise EngineError(
            "too_long",
            f"The message is too long for the local model: {tokens} tokens, of {CONTEXT} that it "
            "can read. Shorten it, or use a profile with a larger model.",
        )


def _opens_turn(message: ModelMessage) -> bool:
    return isinstance(message, ModelRequest) and any(
        isinstance(part, UserPromptPart) for part in message.parts
    )


def _text(message: ModelMessage) -> str:
    parts = [str(getattr(part, "content", "")) for part in message.parts]
    if isinstance(message, ModelResponse):
        return "\n".join(parts)
    return "\n".join([message.instructions or "", *parts])
