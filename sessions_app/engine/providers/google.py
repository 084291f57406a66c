"""provider-google: Gemini, behind the Gemini API."""

import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from sessions_app.engine.config import Config, require_value
from sessions_app.engine.messages import Request
from sessions_app.engine.providers.hosted import HOSTED, HostedProvider, Lessons, join_url
from sessions_app.engine.settings import SAMPLING, THINKING, model_settings, thinking_of
from sessions_app.engine.wire import gemini

URL = "https://generativelanguage.googleapis.com"

_VERSION = re.compile(r"/v\d+[a-z0-9]*$")


class Google(HostedProvider):
    """Google, or a transparent proxy of it at `base_url`."""

    module = "provider-google"
    vendor = "google"
    capabilities = replace(
        HOSTED,
        input=("text", "image"),
        tool_name_pattern=r"[A-Za-z_][A-Za-z0-9_-]{0,62}",
        max_tokens_field="maxOutputTokens",
    )
    defaults = {"api_key": "${GEMINI_API_KEY}"}
    needs = (("default_model",),)
    settings = SAMPLING | THINKING | {"thinking_budget"}
    optional = {
        "systemInstruction": re.compile(r"(developer|system)[ _]?instruction", re.I),
        "thinking_level": re.compile(r"thinking[ _]?level", re.I),
        "thinkingConfig": re.compile(r"thinking|include_thoughts|\bbudget\b", re.I),
        "seed": re.compile(r"\bseed\b", re.I),
        "stopSequences": re.compile(r"stop_?sequences", re.I),
        "temperature": re.compile(r"\btemperature\b", re.I),
        "topP": re.compile(r"\btop_?p\b", re.I),
    }

    @classmethod
    def check(cls, config: Config) -> None:
        """Raise EngineError `bad_config` if a resolved config lacks something, or is wrong."""
        super().check(config)
        require_value(config, cls.module, "api_key")

    def endpoint(self) -> tuple[str, dict[str, str]]:
        """Return the URL to post a request to, and the header with the key."""
        base = str(self.config.get("base_url") or URL)
        has_version = _VERSION.search(urlsplit(base).path.rstrip("/"))
        path = gemini.build_path(self.model)
        url = join_url(base, path if has_version else f"v1beta/{path}", "alt=sse")
        # The API also takes the key in the URL, but proxies would log it.
        return url, {"x-goog-api-key": str(self.config["api_key"])}

    def build_body(self, request: Request, lessons: Lessons) -> dict[str, Any]:
        """Return the body of a request, without what the service has refused before."""
        return gemini.build_body(
            request,
            model=self.model,
            service=self.service,
            settings=model_settings(self.config, self.module),
            thinking=thinking_of(self.config, self.module),
            can=replace(self.can, without=(*self.can.without, *lessons.refused)),
        )

    def reader(self) -> gemini.GeminiReader:
        """Return a new reader of Gemini's chunks."""
        return gemini.GeminiReader()
