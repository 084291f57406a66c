"""provider-openai-compatible: any service that speaks OpenAI's chat completions."""

from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.providers.chat_completions import ChatProvider
from sessions_app.engine.providers.hosted import join_url
from sessions_app.engine.settings import SAMPLING, THINKING


class OpenAICompatible(ChatProvider):
    """The service at `base_url`; it is sent a key only where the config has one."""

    module = "provider-openai-compatible"
    capabilities = ProviderCapabilities(needs_key=False)
    needs = (("base_url",), ("default_model",))
    settings = SAMPLING | THINKING

    def url(self, path: str) -> str:
        """Return the URL of a path of its API."""
        return join_url(str(self.config["base_url"]), path)
