"""provider-google: Gemini, behind the Gemini API."""

import re
from dataclasses import replace
from urllib.parse import urlsplit

from sessions_app.engine.providers.hosted import HOSTED, HostedProvider, join_url
from sessions_app.engine.settings import SAMPLING, THINKING
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
    needs = (("default_model",), ("api_key",))
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

    protocol = gemini.PROTOCOL

    def endpoint(self) -> tuple[str, dict[str, str]]:
        base = str(self.config.get("base_url") or URL)
        has_version = _VERSION.search(urlsplit(base).path.rstrip("/"))
        path = gemini.build_path(self.model)
        url = join_url(base, path if has_version else f"v1beta/{path}", "alt=sse")
        # The API also takes the key in the URL, but proxies would log it.
        return url, {"x-goog-api-key": str(self.config["api_key"])}
