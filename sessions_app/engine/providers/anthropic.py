"""provider-anthropic: Claude, behind Anthropic's Messages API."""

import re
from dataclasses import replace
from typing import Any

from sessions_app.engine.base import EngineError, bad_config
from sessions_app.engine.config import Config
from sessions_app.engine.providers.hosted import HOSTED, HostedProvider, Lessons, join_url
from sessions_app.engine.settings import SAMPLING, THINKING, model_settings, thinking_of
from sessions_app.engine.wire import anthropic
from sessions_app.engine.wire.events import StreamError

URL = "https://api.anthropic.com"

_MAXIMUM = re.compile(r"max_tokens`?: \d+ > (\d+)")
_NO_ROOM = re.compile(r"`?max_tokens`? exceed context limit: (\d+) \+ \d+ > (\d+)")
# With less room for the answer, in tokens, the request is not sent again.
_SMALLEST_ANSWER = 1_024


class Anthropic(HostedProvider):
    """Anthropic, or a transparent proxy of it at `base_url`."""

    module = "provider-anthropic"
    vendor = "anthropic"
    capabilities = replace(
        HOSTED, input=("text", "image"), tool_name_pattern=r"[A-Za-z0-9_-]{1,128}"
    )
    defaults = {"api_key": "${ANTHROPIC_API_KEY}"}
    needs = (("default_model",), ("api_key",))
    settings = (SAMPLING - {"seed"}) | THINKING | {"thinking_budget"}
    optional = {
        "temperature": re.compile(r"\btemperature\b"),
        "top_p": re.compile(r"\btop_p\b"),
        "output_config": re.compile(r"\boutput_config\b|\beffort\b"),
        "thinking": re.compile(r"thinking", re.I),
        "stop_sequences": re.compile(r"\bstop_sequences\b"),
    }

    protocol = anthropic.PROTOCOL

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        model, thinking = str(config["default_model"]), thinking_of(config, cls.module)
        if not thinking.budget or thinking.wanted is False:
            return
        if anthropic.model_traits(model).adaptive_only:
            raise _bad_budget(f"{model} takes none; remove it, and set `reasoning_effort`.")
        most = model_settings(config, cls.module).get("max_tokens")
        if most is not None and thinking.budget >= most:
            raise _bad_budget("must be below `max_tokens`, which it counts towards.")

    def endpoint(self) -> tuple[str, dict[str, str]]:
        base = str(self.config.get("base_url") or URL)
        has_version = base.rstrip("/").endswith(("/v1", "/v1/messages"))
        key = str(self.config["api_key"])
        headers = {
            # Anthropic takes the key in either header; each of its proxies in one of the two.
            "x-api-key": key,
            "Authorization": f"Bearer {key}",
            "anthropic-version": anthropic.VERSION,
        }
        return join_url(base, "messages" if has_version else "v1/messages"), headers

    def learn(self, error: StreamError, body: dict[str, Any], lessons: Lessons) -> Lessons | None:
        if match := _MAXIMUM.search(error.message):
            # The model's maximum, which is known only after such a refusal.
            most = int(match[1])
            if not 0 < most < body["max_tokens"]:
                return None
            lessons.max_tokens = most
            return lessons
        if match := _NO_ROOM.search(error.message):
            # This prompt leaves less room for an answer than is asked for.
            room = int(match[2]) - int(match[1]) - 1
            if not _SMALLEST_ANSWER <= room < body["max_tokens"]:
                return None
            return replace(lessons, max_tokens=room)
        return super().learn(error, body, lessons)


def _bad_budget(what: str) -> EngineError:
    return bad_config(f"`thinking_budget` of {Anthropic.module}: {what}")
