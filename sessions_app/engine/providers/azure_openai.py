"""provider-azure-openai: a deployment of a model in Azure."""

from urllib.parse import quote

from sessions_app.engine.base import EngineError
from sessions_app.engine.config import Config, require_value
from sessions_app.engine.providers.chat_completions import ChatProvider
from sessions_app.engine.providers.hosted import join_url
from sessions_app.engine.providers.openai import MODELS
from sessions_app.engine.settings import SAMPLING, THINKING


class AzureOpenAI(ChatProvider):
    """A deployment at `azure_endpoint` (or `base_url`), named by `deployment`.

    An address that ends with /v1 has Azure's newest API, which has no `api_version`.
    """

    module = "provider-azure-openai"
    vendor = "azure"
    capabilities = MODELS
    defaults = {"api_key": "${AZURE_OPENAI_API_KEY}"}
    needs = (("azure_endpoint", "base_url"), ("deployment", "default_model"))
    settings = SAMPLING | THINKING | {"api"}

    @classmethod
    def check(cls, config: Config) -> None:
        """Raise EngineError `bad_config` where a resolved config lacks something, or is wrong."""
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
        """Return the key of a config that says where the service is."""
        return _place_of(config)

    @property
    def model(self) -> str:
        """Return the name of the model; that of its deployment where nobody says."""
        return super().model or self.deployment

    @property
    def deployment(self) -> str:
        """Return the name of the deployment."""
        return str(self.config.get("deployment") or self.config.get("default_model") or "")

    @property
    def service(self) -> str:
        """Return what tells this service from others."""
        return f"{self.module} {self._endpoint}"

    @property
    def _endpoint(self) -> str:
        return str(self.config[_place_of(self.config)])

    def url(self, path: str) -> str:
        """Return the URL of a path of its API."""
        if _is_newest(self.config):
            return join_url(self._endpoint, path)
        deployment = (
            f"deployments/{quote(self.deployment, safe='')}/" if path != "responses" else ""
        )
        version = f"api-version={quote(str(self.config['api_version']), safe='')}"
        return join_url(self._endpoint, f"openai/{deployment}{path}", version)

    def headers(self) -> dict[str, str]:
        """Return the headers that authenticate a request."""
        if _is_newest(self.config):
            return super().headers()
        return {"api-key": str(self.config["api_key"])}


def _place_of(config: Config) -> str:
    return "azure_endpoint" if config.get("azure_endpoint") else "base_url"


def _is_newest(config: Config) -> bool:
    return str(config[_place_of(config)]).rstrip("/").endswith("/v1")
