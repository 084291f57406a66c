"""provider-openai and provider-azure-openai: the models of OpenAI, served by OpenAI or in Azure."""

from dataclasses import replace
from urllib.parse import quote, urlsplit

from sessions_app.engine.base import EngineError
from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.config import Config, require_value
from sessions_app.engine.providers.chat_completions import ChatProvider
from sessions_app.engine.providers.hosted import HOSTED, join_url
from sessions_app.engine.settings import SAMPLING, THINKING

URL = "https://api.openai.com/v1"
# What the models accept if OpenAI or Azure serve them.
MODELS = replace(
    HOSTED,
    input=("text", "image"),
    strict_roles=False,
    leading_system=False,
    tool_history_without_tools=True,
    call_id_pattern=r"[\x21-\x7e]{1,40}",
    max_tokens_field="max_completion_tokens",
)
# What any other service at `base_url` accepts: a proxy may have any model behind it.
ELSEWHERE = replace(HOSTED, input=MODELS.input, max_tokens_field=MODELS.max_tokens_field)


class OpenAI(ChatProvider):
    """OpenAI, or a proxy at `base_url`: chat completions, or Responses with `api: responses`."""

    module = "provider-openai"
    vendor = "openai"
    capabilities = MODELS
    defaults = {"api_key": "${OPENAI_API_KEY}"}
    needs = (("default_model",),)
    settings = SAMPLING | THINKING | {"api"}

    @classmethod
    def declare(cls, config: Config) -> ProviderCapabilities:
        """Return what OpenAI can do; for another address, only what every service can."""
        host = urlsplit(str(config.get("base_url") or URL)).hostname or ""
        return MODELS if f".{host}".endswith(".openai.com") else ELSEWHERE

    @classmethod
    def check(cls, config: Config) -> None:
        """Raise EngineError `bad_config` if a resolved config lacks something, or is wrong."""
        super().check(config)
        require_value(config, cls.module, "api_key")

    def url(self, path: str) -> str:
        return join_url(str(self.config.get("base_url") or URL), path)


class AzureOpenAI(ChatProvider):
    """The deployment `deployment` of a model at `azure_endpoint` (or `base_url`).

    If the address ends with /v1, it has Azure's newest API, which takes no `api_version`.
    """

    module = "provider-azure-openai"
    vendor = "azure"
    capabilities = MODELS
    defaults = {"api_key": "${AZURE_OPENAI_API_KEY}"}
    needs = (("azure_endpoint", "base_url"), ("deployment", "default_model"))
    settings = SAMPLING | THINKING | {"api"}

    @classmethod
    def check(cls, config: Config) -> None:
        """Raise EngineError `bad_config` if a resolved config lacks something, or is wrong."""
        super().check(config)
        require_value(config, cls.module, "api_key")
        if not _is_newest(config):
            require_value(config, cls.module, "api_version")
        elif config.get("api_version"):
            raise EngineError(
                "bad_config",
                f"{cls.module} takes no `api_version` where its `{_place_of(config)}` ends with "
                "/v1: remove it.",
            )

    @classmethod
    def place_of(cls, config: Config) -> str:
        """Return the key of the config whose value is the service's URL."""
        return _place_of(config)

    @property
    def model(self) -> str:
        """The name of the model; that of the deployment if the config names no model."""
        return super().model or self.deployment

    @property
    def deployment(self) -> str:
        """The name under which Azure serves the model."""
        return str(self.config.get("deployment") or self.config.get("default_model") or "")

    @property
    def service(self) -> str:
        """The module and the address: opaque content goes back to the same one only."""
        return f"{self.module} {self._endpoint}"

    @property
    def _endpoint(self) -> str:
        return str(self.config[_place_of(self.config)])

    def url(self, path: str) -> str:
        if _is_newest(self.config):
            return join_url(self._endpoint, path)
        deployment = (
            f"deployments/{quote(self.deployment, safe='')}/" if path != "responses" else ""
        )
        version = f"api-version={quote(str(self.config['api_version']), safe='')}"
        return join_url(self._endpoint, f"openai/{deployment}{path}", version)

    def headers(self) -> dict[str, str]:
        """Return the header with the key, whose name depends on the API."""
        if _is_newest(self.config):
            return super().headers()
        return {"api-key": str(self.config["api_key"])}


def _place_of(config: Config) -> str:
    return "azure_endpoint" if config.get("azure_endpoint") else "base_url"


def _is_newest(config: Config) -> bool:
    return str(config[_place_of(config)]).rstrip("/").endswith("/v1")
