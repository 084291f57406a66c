"""The model settings of a provider's config, such as `temperature`, checked and converted."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sessions_app.engine.base import bad_config
from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.config import Config, number, wrong_kind

SAMPLING = frozenset({"temperature", "top_p", "max_tokens", "stop", "seed"})
THINKING = frozenset({"extended_thinking", "reasoning_effort"})
EFFORTS = ("low", "medium", "high")
APIS = ("chat", "responses")
# Settings that OpenAI's Responses API does not have.
NOT_IN_RESPONSES = frozenset({"stop", "seed"})


@dataclass(frozen=True)
class ThinkingSettings:
    """How much a model shall think before it answers."""

    # Whether it shall think and return its thinking; None if the config does not decide.
    wanted: bool | None = None
    # Tokens of thinking, at most.
    budget: int | None = None
    effort: str | None = None


@dataclass(frozen=True)
class RequestOptions:
    """What a provider's config decides about the body of each request."""

    model: str
    # The service that gets its own opaque content back: see `Provider.service`.
    service: str
    can: ProviderCapabilities
    # Those of `model_settings`.
    settings: dict[str, Any]
    thinking: ThinkingSettings = ThinkingSettings()


def check(config: Config, module: str, has: frozenset[str]) -> None:
    """Raise EngineError `bad_config` for a setting of the wrong type, or one that is not in `has`.

    `has` are the settings of the module.
    """
    if config.get("api") == "responses":
        has -= NOT_IN_RESPONSES
    for key, read in _KINDS.items():
        if config.get(key) is None:
            continue
        if key not in has:
            raise bad_config(f"{module} has no setting `{key}` here: remove it.")
        read(config, module, key)


def model_settings(config: Config, module: str) -> dict[str, Any]:
    """Return the sampling settings that a config has; raise EngineError for a wrong one."""
    given = (key for key in SAMPLING if config.get(key) is not None)
    return {key: _KINDS[key](config, module, key) for key in given}


def thinking_of(config: Config, module: str) -> ThinkingSettings:
    """Return the settings of a config about thinking; raise EngineError for a wrong one."""
    keys = ("extended_thinking", "thinking_budget", "reasoning_effort")
    return ThinkingSettings(
        *(None if config.get(key) is None else _KINDS[key](config, module, key) for key in keys)
    )


def api_of(config: Config, module: str) -> str:
    """Return the API of OpenAI that a config chooses, `chat` or `responses`; raise EngineError."""
    return _choice(*APIS)({"api": "chat", **config}, module, "api")


def _positive(config: Config, module: str, key: str) -> int:
    if (value := int(number(config, module, key, int))) > 0:
        return value
    raise bad_config(f"`{key}` of {module} must be above zero.")


def _flag(config: Config, module: str, key: str) -> bool:
    # The text of a variable is converted.
    spelled = {True: True, False: False, "true": True, "false": False}
    value = config[key]
    if isinstance(value, bool | str) and value in spelled:
        return spelled[value]
    raise wrong_kind(config, module, key, "true or false")


def _texts(config: Config, module: str, key: str) -> list[str]:
    value = config[key]
    texts = value if isinstance(value, list) else [value]
    if texts and all(isinstance(text, str) and text for text in texts):
        return texts
    raise wrong_kind(config, module, key, "a text or a list of texts, none of them empty")


def _choice(*options: str) -> Callable[[Config, str, str], str]:
    def read(config: Config, module: str, key: str) -> str:
        if isinstance(config[key], str) and config[key] in options:
            return config[key]
        raise bad_config(f"`{key}` of {module} must be {' or '.join(options)}.")

    return read


_KINDS: dict[str, Callable[[Config, str, str], Any]] = {
    "api": _choice(*APIS),
    "temperature": partial(number, kind=float),
    "top_p": partial(number, kind=float),
    "max_tokens": _positive,
    "stop": _texts,
    "seed": partial(number, kind=int),
    "extended_thinking": _flag,
    "thinking_budget": _positive,
    "reasoning_effort": _choice(*EFFORTS),
}
