"""provider-openai: OpenAI itself, or a transparent proxy of it at `base_url`."""

from dataclasses import replace
from urllib.parse import urlsplit

from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.config import Config, require_value
from sessions_app.engine.providers.chat_completions import ChatProvider
from sessions_app.engine.providers.hosted import HOSTED, join_url
from sessions_app.engine.settings import SAMPLING, THINKING

URL = "https://api.openai.com/v1"
# What the models of OpenAI take where OpenAI or Azure serve them.
MODELS = replace(
    HOSTED,
    input=("text", "image"),
    strict_roles=False,
    leading_system=False,
    tool_history_without_tools=True,
    call_id_pattern=r"[\x21-\x7e]{1,40}",
    max_tokens_field="max_completion_tokens",
)


# What any other service takes that speaks their protocols: a proxy may have any model behind it.
ELSEWHERE = replace(HOSTED, input=MODELS.input, max_tokens_field=MODELS.max_tokens_field)


class OpenAI(ChatProvider):
    """OpenAI: chat completions, or Responses with `api: responses`."""

    module = "provider-openai"
    vendor = "openai"
    capabilities = MODELS
    defaults = {"api_key": "${OPENAI_API_KEY}"}
    needs = (("default_model",),)
    settings = SAMPLING | THINKING | {"api"}

    @classmethod
    def declare(cls, config: Config) -> ProviderCapabilities:
        """Return what OpenAI can do; of another address, only what every service can."""
        host = urlsplit(str(config.get("base_url") or URL)).hostname or ""
        return MODELS if f".{host}".endswith(".openai.com") else ELSEWHERE

    @classmethod
    def check(cls, config: Config) -> None:
        """Raise EngineError `bad_config` where a resolved config lacks something, or is wrong."""
        super().check(config)
        require_value(config, cls.module, "api_key")

    def url(self, path: str) -> str:
        """Return the URL of a path of its API."""
        return join_url(str(self.config.get("base_url") or URL), path)
