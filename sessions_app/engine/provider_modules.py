"""The provider modules: what builds each, and what its config may say."""

from dataclasses import dataclass, field

from sessions_app.engine.base import EngineError
from sessions_app.engine.config import Config
from sessions_app.engine.settings import SAMPLING, THINKING, check


@dataclass(frozen=True)
class Module:
    """A provider module: where its builder is, and the config that goes without saying.

    The builder takes the resolved config and returns an async context manager of the model,
    which lives for one attempt. It may block: it is called off the event loop.
    """

    builder: str
    defaults: Config = field(default_factory=dict)
    # What its config cannot do without: of each line, one of the keys.
    needs: tuple[tuple[str, ...], ...] = ()
    # The settings that it has. None where whoever builds it checks them.
    settings: frozenset[str] | None = None

    def check(self, config: Config, name: str) -> None:
        """Raise EngineError `bad_config` where a config lacks something, or has what is wrong."""
        for keys in self.needs:
            if not any(config.get(key) for key in keys):
                wanted = " or ".join(f"`{key}`" for key in keys)
                raise EngineError("bad_config", f"{name} needs {wanted} in its config: add it.")
        if self.settings is not None:
            check(config, name, self.settings)


_OPENAI = "sessions_app.engine.hosted_openai"
_MODEL = ("default_model",)
_PLACE = ("base_url",)
_COMMON = SAMPLING | THINKING

MODULES = {
    "provider-local": Module(
        "sessions_app.engine.local:open_model",
        # A request may wait long for one of its slots.
        {"timeout": 600},
        settings=SAMPLING,
    ),
    "provider-mock": Module("sessions_app.engine.mock:open_model"),
    "provider-openai": Module(
        f"{_OPENAI}:open_openai",
        {"api_key": "${OPENAI_API_KEY}"},
        needs=(_MODEL,),
        settings=_COMMON | {"api"},
    ),
    "provider-openai-compatible": Module(
        f"{_OPENAI}:open_compatible", needs=(_PLACE, _MODEL), settings=_COMMON
    ),
    "provider-vllm": Module(f"{_OPENAI}:open_vllm", needs=(_PLACE, _MODEL), settings=_COMMON),
    "provider-ollama": Module(
        f"{_OPENAI}:open_ollama",
        {"base_url": "http://127.0.0.1:11434/v1"},
        needs=(_MODEL,),
        settings=_COMMON,
    ),
    "provider-azure-openai": Module(
        f"{_OPENAI}:open_azure",
        {"api_key": "${AZURE_OPENAI_API_KEY}"},
        needs=(("azure_endpoint", "base_url"), ("deployment", "default_model")),
        settings=_COMMON | {"api"},
    ),
    "provider-anthropic": Module(
        "sessions_app.engine.hosted_anthropic:open_model",
        {"api_key": "${ANTHROPIC_API_KEY}"},
        needs=(_MODEL,),
        settings=(_COMMON - {"seed"}) | {"thinking_budget"},
    ),
    "provider-google": Module(
        "sessions_app.engine.hosted_google:open_model",
        {"api_key": "${GEMINI_API_KEY}"},
        needs=(_MODEL,),
        settings=_COMMON | {"thinking_budget"},
    ),
}
