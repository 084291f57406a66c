"""The base class of providers: each declares what it can do, and streams answers."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, fields, replace
from functools import lru_cache
from typing import Any, ClassVar

from profiles_app.modules import Capabilities
from sessions_app.engine.base import bad_config
from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.config import Config, number
from sessions_app.engine.limits import read_limits
from sessions_app.engine.messages import Request
from sessions_app.engine.settings import check
from sessions_app.engine.wire.events import Event, Usage


class Provider(ABC):
    """A provider of a mount plan, with its config resolved and checked, for one attempt.

    Building it is cheap and does nothing on the network. `secrets` are all values that were filled
    in from the environment, which errors must not repeat; `keys` are those that nobody may see.
    """

    module: ClassVar[str]
    capabilities: ClassVar[ProviderCapabilities]
    # The vendor's name in the list of prices; empty if the list does not have it.
    vendor: ClassVar[str] = ""
    # Config that a profile need not write.
    defaults: ClassVar[Config] = {}
    # The keys that its config needs: at least one of each tuple.
    needs: ClassVar[tuple[tuple[str, ...], ...]] = ()
    # The settings that it has (see `engine.settings`). None: it checks them itself.
    settings: ClassVar[frozenset[str] | None] = None

    def __init__(self, config: Config, secrets: set[str], keys: set[str]) -> None:
        self.config = config
        self.secrets = secrets
        self.keys = keys
        self.limits = read_limits(config, self.module)
        # Whether the caller has chosen its address: then errors do not repeat what it sends.
        self.is_foreign = False
        # Sentences for people about its requests, such as that a field was left out. The caller
        # of `stream` takes them from here.
        self.notices: list[str] = []
        # What it can do: as declared, unless the config overrides it.
        self.can = override_capabilities(self.declare(config), config, self.module)

    def __repr__(self) -> str:
        return f"<{self.module}>"

    @classmethod
    def declare(cls, config: Config) -> ProviderCapabilities:
        """Return what the service can do that a config names, without the config's overrides."""
        return cls.capabilities

    @classmethod
    def check(cls, config: Config) -> None:
        """Raise EngineError `bad_config` if a resolved config lacks something, or is wrong."""
        for keys in cls.needs:
            if not any(config.get(key) for key in keys):
                wanted = " or ".join(f"`{key}`" for key in keys)
                raise bad_config(f"{cls.module} needs {wanted} in its config: add it.")
        if cls.settings is not None:
            check(config, cls.module, cls.settings)

    @property
    def model(self) -> str:
        return str(self.config.get("default_model") or "")

    @property
    def service(self) -> str:
        """A name that no other service has: opaque content goes back to the same one only."""
        return f"{self.module} {self.config.get('base_url') or ''}".strip()

    @abstractmethod
    def stream(self, request: Request) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Give the events of an answer: the last one is `Finish`.

        Raises ProviderError for every failure, also in the middle of the answer. Leaving the
        context early closes the connection. The provider keeps `limits` of times and sizes for one
        request; the caller repeats requests, and keeps budgets and the time of the whole attempt.
        """

    def context_window(self) -> int | None:
        """Return the tokens that the model can read; None if that is not known.

        Its config may set it as `context_window`. Raises EngineError `bad_config` for no number.
        """
        if self.config.get("context_window") is not None:
            return int(number(self.config, self.module, "context_window", int))
        url = str(self.config.get("base_url") or "")
        return self.can.context_window or _known_window(self.model, url, self.vendor)

    def price_of(self, usage: Usage, model: str) -> float | None:
        """Return the price of an answer in US dollars; None if that of its model is not known."""
        # Late: the list of prices takes a moment to load.
        import genai_prices

        counted = genai_prices.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cached_tokens,
        )
        url = str(self.config.get("base_url") or "")
        places: list[dict[str, Any]] = [{"provider_api_url": url}, {"provider_id": self.vendor}]
        for place in (place for place in places if any(place.values())):
            try:
                return float(genai_prices.calc_price(counted, model, **place).total_price)
            except LookupError:
                continue
        return None

    def count_usage(self, usage: Usage, model: str) -> dict[str, Any]:
        """Return the usage of one request as runs and journals have it (see `Outcome`)."""
        always = ("input_tokens", "output_tokens")
        tokens = {name: n for name, n in asdict(usage).items() if n or name in always}
        counted: dict[str, Any] = {"requests": 1, **tokens}
        cost = self.price_of(usage, model or self.model) if usage.output_tokens else None
        if cost is not None:
            counted["cost"] = cost
        return counted


@lru_cache(maxsize=256)
def _known_window(model: str, base_url: str, vendor: str) -> int | None:
    from genai_prices.data_snapshot import get_snapshot

    for url, name in ((base_url, None), (None, vendor)):
        try:
            if url or name:
                return get_snapshot().find_provider_model(model, None, name, url)[1].context_window
        except LookupError:
            continue
    return None


# The types of capabilities whose default does not show them, and what errors call each type.
_TYPES: dict[str, type] = {"context_window": int, "input": list, "without": list}
_NOUNS: dict[type, str] = {
    int: "a whole number",
    bool: "true or false",
    list: "a list of texts",
    str: "a text",
}


def override_capabilities(
    declared: ProviderCapabilities, config: dict[str, Any], module: str
) -> ProviderCapabilities:
    """Return the declared capabilities, overridden by `capabilities` in the config.

    Those that decide about security cannot be overridden. Raises EngineError `bad_config`.
    """
    given = config.get("capabilities") or {}
    if not isinstance(given, dict):
        raise bad_config(f"`capabilities` of {module} must be a mapping: correct it.")
    fixed = {field.name for field in fields(Capabilities)}
    known = {field.name for field in fields(ProviderCapabilities)} - fixed
    for name, value in given.items():
        if name not in known:
            raise bad_config(
                f"`capabilities` of {module} has {', '.join(sorted(known))}, not {name!r}."
            )
        wanted = _TYPES.get(name, type(getattr(declared, name)))
        is_right = isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
        if wanted is list:
            is_right = is_right and all(isinstance(item, str) for item in value)
        if not is_right:
            raise bad_config(
                f"`capabilities.{name}` of {module} must be {_NOUNS[wanted]}: correct it."
            )
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    return replace(declared, **values)
