"""provider-ollama: a model served by Ollama."""

from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.providers.openai_compatible import OpenAICompatible


class Ollama(OpenAICompatible):
    """The Ollama on this machine, or at `base_url`."""

    module = "provider-ollama"
    capabilities = ProviderCapabilities(needs_key=False, lenient_schemas=True)
    defaults = {"base_url": "http://127.0.0.1:11434/v1"}
    needs = (("default_model",),)
