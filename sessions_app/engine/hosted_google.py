"""provider-google: Gemini, behind the Gemini API."""

import re
from typing import Any

from google.genai import Client
from google.genai.types import HttpOptions
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.providers.google import GoogleProvider

from sessions_app.engine.client import Wire, trusted
from sessions_app.engine.config import Config, required
from sessions_app.engine.hosted import Hosted, client_of, url_of
from sessions_app.engine.settings import model_settings, thinking_of

MODULE = "provider-google"
WIRE = Wire(
    re.compile(rb'"(finishReason|blockReason)" ?: ?"'),
    # The library keeps lines that are no event, until they make one.
    breaks=(b"\n\ndata:", b"\r\n\r\ndata:", b"\r\rdata:"),
)
# Named, so that no variable of the environment sends the key elsewhere.
_HOME = "https://generativelanguage.googleapis.com"


class GeminiModel(Hosted, GoogleModel):
    """A model behind the Gemini API."""

    speaks = "Gemini's"

    async def _build_content_and_config(
        self, messages: Any, model_settings: Any, model_request_parameters: ModelRequestParameters
    ) -> Any:
        contents, config = await super()._build_content_and_config(
            messages, model_settings, model_request_parameters
        )
        # Retries are the engine's, which tells of them; the library would resume a cut answer.
        return contents, {**config, "automatic_continuation": False}


def open_model(config: Config) -> Model:
    """Return a model of Google, or of a transparent proxy of it at `base_url`."""
    name, key = (required(config, MODULE, each) for each in ("default_model", "api_key"))
    settings, url = _settings(config), url_of(config, MODULE) or _HOME
    http = client_of(config, MODULE, WIRE)
    # Unless it is given what TLS trusts, the library reads it anew for each kind of client it has.
    tls = {"verify": trusted(), "ssl": trusted()}
    options = HttpOptions(
        base_url=url, httpx_async_client=http, client_args=tls, async_client_args=tls
    )
    client = Client(vertexai=False, api_key=key, http_options=options)
    return GeminiModel(name, http, provider=GoogleProvider(client=client), settings=settings)


def _settings(config: Config) -> Any:
    thinking = thinking_of(config, MODULE)
    settings = model_settings(config, MODULE)
    if thinking.wanted is False:
        return settings
    if thinking.budget:
        told = {"include_thoughts": True, "thinking_budget": thinking.budget}
        return {**settings, "google_thinking_config": told}
    if thinking.wanted or thinking.effort:
        settings["thinking"] = thinking.effort or True
    return settings
