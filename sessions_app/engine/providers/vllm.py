"""provider-vllm: a model served by vLLM."""

from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.providers.openai_compatible import OpenAICompatible


class VLLM(OpenAICompatible):
    """The vLLM at `base_url`. What it accepts is up to the chat template of its model."""

    module = "provider-vllm"
    capabilities = ProviderCapabilities(needs_key=False, lenient_schemas=True)
