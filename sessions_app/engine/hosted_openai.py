"""Providers that speak OpenAI's protocol: OpenAI itself, Azure, Ollama, vLLM, any such service."""

import re
from typing import Any

from httpx2 import AsyncClient
from openai import AsyncAzureOpenAI, AsyncOpenAI
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.azure import AzureProvider
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

from sessions_app.engine.base import EngineError
from sessions_app.engine.client import CHAT, Wire
from sessions_app.engine.config import Config, required
from sessions_app.engine.hosted import Hosted, client_of, url_of
from sessions_app.engine.settings import api_of, model_settings, thinking_of

RESPONSES = Wire(re.compile(rb'"type" ?: ?"response\.(completed|incomplete|failed)"'))
# Without any key, the client would send that of OpenAI.
_NO_KEY = "no-key"


class ChatModel(Hosted, OpenAIChatModel):
    """A model behind the API of chat completions."""

    speaks = "OpenAI's"


class ResponsesModel(Hosted, OpenAIResponsesModel):
    """A model behind the Responses API."""

    speaks = "OpenAI's"


def open_openai(config: Config) -> Model:
    """Return a model of OpenAI, or of a transparent proxy of it at `base_url`."""
    module = "provider-openai"
    key, http = required(config, module, "api_key"), _http(config, module)
    client = _client(config, module, key, http)
    return _model(config, module, http, provider=OpenAIProvider(openai_client=client))


def open_compatible(config: Config, module: str = "provider-openai-compatible") -> Model:
    """Return a model of the service at `base_url`; a key only if it has one."""
    required(config, module, "base_url")
    http = _http(config, module)
    client = _client(config, module, config.get("api_key") or _NO_KEY, http)
    provider = OpenAICompatibleProvider("openai-compatible", openai_client=client)
    return _model(config, module, http, provider=provider)


def open_vllm(config: Config) -> Model:
    """Return a model of the vLLM at `base_url`."""
    return open_compatible(config, "provider-vllm")


def open_ollama(config: Config) -> Model:
    """Return a model of the Ollama at `base_url`."""
    module = "provider-ollama"
    http = _http(config, module)
    client = _client(config, module, config.get("api_key") or _NO_KEY, http)
    return _model(config, module, http, provider=OllamaProvider(openai_client=client))


def open_azure(config: Config) -> Model:
    """Return the model of a deployment in Azure.

    Where `default_model` says of which model it is, its `deployment` may have any name.
    """
    module = "provider-azure-openai"
    http = _http(config, module)
    provider = AzureProvider(openai_client=_azure_client(config, module, http))
    name = str(config.get("deployment") or required(config, module, "default_model"))
    profile = AzureProvider.model_profile(str(config.get("default_model") or name))
    named = {**config, "default_model": name}
    return _model(named, module, http, provider=provider, profile=profile)


def _azure_client(config: Config, module: str, http: AsyncClient) -> AsyncOpenAI:
    place = "azure_endpoint" if config.get("azure_endpoint") else "base_url"
    required(config, module, place)
    key, endpoint = required(config, module, "api_key"), str(url_of(config, module, place))
    if endpoint.rstrip("/").endswith("/v1"):
        _refuse_version(config, module, place)
        return AsyncOpenAI(base_url=endpoint, api_key=key, **_options(http))
    version = required(config, module, "api_version")
    return AsyncAzureOpenAI(
        azure_endpoint=endpoint, api_version=version, api_key=key, **_options(http)
    )


def _refuse_version(config: Config, module: str, place: str) -> None:
    if config.get("api_version"):
        raise EngineError(
            "bad_config",
            f"{module} takes no `api_version` where its `{place}` ends with /v1: remove it.",
        )


def _http(config: Config, module: str) -> AsyncClient:
    return client_of(config, module, CHAT if api_of(config, module) == "chat" else RESPONSES)


def _client(config: Config, module: str, key: str, http: AsyncClient) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=url_of(config, module), api_key=key, **_options(http))


def _options(http: AsyncClient) -> dict[str, Any]:
    # Retries are the engine's, which tells of them.
    return {"http_client": http, "timeout": http.timeout, "max_retries": 0}


def _model(config: Config, module: str, http: AsyncClient, **options: Any) -> Model:
    kind = ChatModel if api_of(config, module) == "chat" else ResponsesModel
    name = required(config, module, "default_model")
    return kind(name, http, settings=_settings(config, module), **options)


def _settings(config: Config, module: str) -> Any:
    thinking = thinking_of(config, module)
    settings = model_settings(config, module)
    if thinking.effort:
        settings["openai_reasoning_effort"] = thinking.effort
    elif thinking.wanted:
        settings["thinking"] = True
    if thinking.wanted and api_of(config, module) == "responses":
        # Else it thinks unheard.
        settings["openai_reasoning_summary"] = "auto"
    return settings
