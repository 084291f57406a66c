"""Services that speak OpenAI's chat completions: any at all, Ollama and vLLM."""

from dataclasses import replace

from sessions_app.engine.providers.chat_completions import ChatProvider
from sessions_app.engine.providers.hosted import HOSTED, join_url
from sessions_app.engine.settings import SAMPLING, THINKING


class OpenAICompatible(ChatProvider):
    """The service at `base_url`; it is sent a key only if the config has one."""

    module = "provider-openai-compatible"
    capabilities = replace(HOSTED, needs_key=False)
    needs = (("base_url",), ("default_model",))
    settings = SAMPLING | THINKING

    def url(self, path: str) -> str:
        return join_url(str(self.config["base_url"]), path)


class Ollama(OpenAICompatible):
    """The Ollama on this machine, or at `base_url`."""

    module = "provider-ollama"
    capabilities = replace(HOSTED, needs_key=False, lenient_schemas=True)
    defaults = {"base_url": "http://127.0.0.1:11434/v1"}
    needs = (("default_model",),)


class VLLM(OpenAICompatible):
    """The vLLM at `base_url`. What it accepts is up to the chat template of its model."""

    module = "provider-vllm"
    capabilities = replace(HOSTED, needs_key=False, lenient_schemas=True)
