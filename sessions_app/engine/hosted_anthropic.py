"""provider-anthropic: Claude, behind Anthropic's Messages API."""

import re
from typing import Any

from anthropic import AsyncAnthropic
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider

from sessions_app.engine.base import EngineError
from sessions_app.engine.client import Wire
from sessions_app.engine.config import Config, required
from sessions_app.engine.hosted import Hosted, client_of, url_of
from sessions_app.engine.settings import Thinking, model_settings, thinking_of

MODULE = "provider-anthropic"
WIRE = Wire(re.compile(rb'"type" ?: ?"message_stop"'))
# Named, so that no variable of the environment sends the key elsewhere.
_HOME = "https://api.anthropic.com"


class MessagesModel(Hosted, AnthropicModel):
    """A model behind the Messages API."""

    speaks = "Anthropic's"


def open_model(config: Config) -> Model:
    """Return a model of Anthropic, or of a transparent proxy of it at `base_url`."""
    name, key = (required(config, MODULE, each) for each in ("default_model", "api_key"))
    settings, url = _settings(config, name), url_of(config, MODULE) or _HOME
    http = client_of(config, MODULE, WIRE)
    # Retries are the engine's, which tells of them.
    client = AsyncAnthropic(
        api_key=key, base_url=url, http_client=http, timeout=http.timeout, max_retries=0
    )
    provider = AnthropicProvider(anthropic_client=client)
    return MessagesModel(name, http, provider=provider, settings=settings)


def _settings(config: Config, name: str) -> Any:
    settings, thinking = model_settings(config, MODULE), thinking_of(config, MODULE)
    if thinking.wanted is False or thinking == Thinking():
        return settings
    profile: Any = AnthropicProvider.model_profile(name) or {}
    if thinking.budget:
        _check_budget(thinking.budget, settings.get("max_tokens"), name, profile)
        budget = {"type": "enabled", "budget_tokens": thinking.budget}
        return {**settings, "anthropic_thinking": budget}
    if not profile.get("anthropic_supports_adaptive_thinking"):
        return {**settings, "thinking": thinking.effort or True}
    effort = {"anthropic_effort": thinking.effort} if thinking.effort else {}
    # Newer models would think unheard.
    display = {"display": "summarized"} if thinking.wanted else {}
    return {**settings, **effort, "anthropic_thinking": {"type": "adaptive", **display}}


def _check_budget(budget: int, most: int | None, name: str, profile: Any) -> None:
    """Raise EngineError for a budget that the model does not take, or that leaves no answer."""
    if profile.get("anthropic_disallows_budget_thinking"):
        raise _bad_budget(f"{name} takes none; remove it, and set `reasoning_effort`.")
    if most is not None and budget >= most:
        raise _bad_budget("must be below `max_tokens`, which it counts towards.")


def _bad_budget(what: str) -> EngineError:
    return EngineError("bad_config", f"`thinking_budget` of {MODULE}: {what}")
