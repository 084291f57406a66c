"""provider-openai and provider-azure-openai: the models of OpenAI, served by OpenAI or in Azure."""

from dataclasses import replace
from urllib.parse import quote, urlsplit

from sessions_app.engine.base import bad_config
from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.config import Config
from sessions_app.engine.providers.chat_completions import ChatProvider
from sessions_app.engine.providers.hosted import HOSTED, Lessons, join_url
from sessions_app.engine.settings import SAMPLING, THINKING, RequestOptions

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
    needs = (("default_model",), ("api_key",))
    settings = SAMPLING | THINKING | {"api"}

    @classmethod
    def declare(cls, config: Config) -> ProviderCapabilities:
        """Return what OpenAI can do; for another address, only what every service can."""
        host = urlsplit(str(config.get("base_url") or URL)).hostname or ""
        return MODELS if f".{host}".endswith(".openai.com") else ELSEWHERE

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
    needs = (("azure_endpoint", "base_url"), ("deployment", "default_model"), ("api_key",))
    settings = SAMPLING | THINKING | {"api"}

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        place, version = cls.place_of(config), config.get("api_version")
        if not cls._is_newest(config) and not version:
            raise bad_config(f"{cls.module} needs `api_version` in its config: add it.")
        if cls._is_newest(config) and version:
            problem = f"takes no `api_version` where its `{place}` ends with /v1: remove it."
            raise bad_config(f"{cls.module} {problem}")

    @classmethod
    def place_of(cls, config: Config) -> str:
        return "azure_endpoint" if config.get("azure_endpoint") else "base_url"

    @classmethod
    def _is_newest(cls, config: Config) -> bool:
        return str(config[cls.place_of(config)]).rstrip("/").endswith("/v1")

    @property
    def model(self) -> str:
        return super().model or self.deployment

    @property
    def deployment(self) -> str:
        return str(self.config.get("deployment") or self.config.get("default_model") or "")

    def options(self, lessons: Lessons) -> RequestOptions:
        return replace(super().options(lessons), model=self.deployment)

    @property
    def service(self) -> str:
        return f"{self.module} {self._endpoint}"

    @property
    def _endpoint(self) -> str:
        return str(self.config[self.place_of(self.config)])

    def url(self, path: str) -> str:
        if self._is_newest(self.config):
            return join_url(self._endpoint, path)
        deployment = (
            f"deployments/{quote(self.deployment, safe='')}/" if path != "responses" else ""
        )
        version = f"api-version={quote(str(self.config['api_version']), safe='')}"
        return join_url(self._endpoint, f"openai/{deployment}{path}", version)

    def headers(self) -> dict[str, str]:
        if self._is_newest(self.config):
            return super().headers()
        return {"api-key": str(self.config["api_key"])}
