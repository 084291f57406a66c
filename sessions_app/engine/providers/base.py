"""What a provider is: a class per module, which declares what it can do and streams answers."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import fields, replace
from typing import Any, ClassVar

from profiles_app.modules import Capabilities
from sessions_app.engine.base import EngineError
from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.config import Config
from sessions_app.engine.limits import read_limits
from sessions_app.engine.messages import Request
from sessions_app.engine.settings import check
from sessions_app.engine.wire.events import Event


class Provider(ABC):
    """A provider of a mount plan, its config resolved and checked: lives for one attempt.

    Building it is cheap and does nothing on the network. `secrets` is all that was filled in from
    the environment, which no error repeats; `keys` are the secrets in it, which nothing shows.
    """

    module: ClassVar[str]
    capabilities: ClassVar[ProviderCapabilities]
    # How the list of prices names its vendor; empty if it knows none.
    vendor: ClassVar[str] = ""
    # The config that goes without saying.
    defaults: ClassVar[Config] = {}
    # What its config cannot do without: of each line, one of the keys.
    needs: ClassVar[tuple[tuple[str, ...], ...]] = ()
    # The settings that it has (see `engine.settings`). None: it checks them itself.
    settings: ClassVar[frozenset[str] | None] = None

    def __init__(self, config: Config, secrets: set[str], keys: set[str]) -> None:
        self.config = config
        self.secrets = secrets
        self.keys = keys
        self.limits = read_limits(config, self.module)
        # What people should know of its requests, a sentence each: a field was left out. Whoever
        # asks takes them from here.
        self.notices: list[str] = []
        # What it can do, as far as the config does not say otherwise.
        self.can = override_capabilities(self.declare(config), config, self.module)

    def __repr__(self) -> str:
        return f"<{self.module}>"

    @classmethod
    def declare(cls, config: Config) -> ProviderCapabilities:
        """Return what the service of a config can do, as far as the class knows."""
        return cls.capabilities

    @classmethod
    def check(cls, config: Config) -> None:
        """Raise EngineError `bad_config` where a resolved config lacks something, or is wrong."""
        for keys in cls.needs:
            if not any(config.get(key) for key in keys):
                wanted = " or ".join(f"`{key}`" for key in keys)
                raise EngineError(
                    "bad_config", f"{cls.module} needs {wanted} in its config: add it."
                )
        if cls.settings is not None:
            check(config, cls.module, cls.settings)

    @property
    def model(self) -> str:
        """Return the name of the model that is asked."""
        return str(self.config.get("default_model") or "")

    @property
    def service(self) -> str:
        """Return what tells this service from others: opaque content goes back to it only."""
        return f"{self.module} {self.config.get('base_url') or ''}".strip()

    @abstractmethod
    def stream(self, request: Request) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Give the events of an answer: the last one is `Finish`.

        Raises ProviderError, also in the middle of the answer, for whatever goes wrong. Leaving it
        early closes the connection. Keeps to `limits` (times and sizes of one request); retries,
        budgets and the limit of the whole attempt are the caller's.
        """

    def count_tokens(self, request: Request) -> int | None:
        """Return how many tokens a request has; None where only an estimate is possible."""
        return None


def override_capabilities(
    declared: ProviderCapabilities, config: dict[str, Any], module: str
) -> ProviderCapabilities:
    """Return what a class declares, with what `capabilities` in its config says instead.

    What decides about security cannot be overridden. Raises EngineError `bad_config`.
    """
    given = config.get("capabilities") or {}
    if not isinstance(given, dict):
        raise EngineError(
            "bad_config", f"`capabilities` of {module} must be a mapping: correct it."
        )
    fixed = {field.name for field in fields(Capabilities)}
    known = {field.name for field in fields(ProviderCapabilities)} - fixed
    for name, value in given.items():
        if name not in known:
            raise EngineError(
                "bad_config",
                f"`capabilities` of {module} has {', '.join(sorted(known))}, not {name!r}.",
            )
        _check_kind(name, value, getattr(declared, name), module)
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    return replace(declared, **values)


def _check_kind(name: str, value: Any, declared: Any, module: str) -> None:
    wanted = {"context_window": int, "input": list, "without": list}.get(name, type(declared))
    is_right = isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
    if is_right and wanted is list:
        is_right = all(isinstance(item, str) for item in value)
    if not is_right:
        nouns = {
            int: "a whole number",
            bool: "true or false",
            list: "a list of texts",
            str: "a text",
        }
        raise EngineError(
            "bad_config", f"`capabilities.{name}` of {module} must be {nouns[wanted]}: correct it."
        )
