"""Which providers a mount plan means. Importing this loads no provider's client."""

import math
import os
import pkgutil
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from profiles_app.modules import Fault
from sessions_app.engine import config as configs
from sessions_app.engine.base import Engine, EngineError
from sessions_app.engine.choice import Engines
from sessions_app.engine.config import Config, Resolver, missing_key, number
from sessions_app.engine.limits import Limits, limits_of
from sessions_app.engine.provider_modules import MODULES

if TYPE_CHECKING:
    from pydantic_ai.models import Model


@dataclass(frozen=True)
class Provider:
    """A provider of a mount plan, its config resolved and checked, and what it is granted."""

    module: str
    config: Config = field(repr=False)
    # What was filled in, which no error repeats; and the keys in it, which nothing repeats.
    secrets: set[str] = field(repr=False)
    keys: set[str] = field(repr=False)
    limits: Limits

    def open(self) -> "AbstractAsyncContextManager[Model]":
        """Load the provider's client and build the model. Blocks, the first time for seconds."""
        return pkgutil.resolve_name(MODULES[self.module].builder)(self.config)


def known_providers() -> list[str]:
    """Return the names of all provider modules."""
    return sorted(MODULES)


def get_engine() -> Engine:
    """Return what this process runs turns with: the engine that each turn chooses."""
    return Engines()


def choose_provider(mount_plan: dict[str, Any]) -> Provider:
    """Return the mount plan's provider of the highest `priority`; of equals, the first.

    Raises EngineError `bad_config` where there is none or its config cannot be used,
    `unknown_module`, or `missing_key` where its config names a variable that is not set.
    """
    first = provider_chain(mount_plan)[0]
    if isinstance(first, EngineError):
        raise first
    return first


def provider_chain(mount_plan: dict[str, Any]) -> list[Provider | EngineError]:
    """Return the mount plan's providers, the highest `priority` first, equals in its order.

    In the place of one that cannot be used is the EngineError that says why; the place of one
    whose priority is no number is the first. Raises EngineError `bad_config` where there is none.
    """
    providers = mount_plan.get("providers") or []
    if not providers:
        raise EngineError("bad_config", "The profile has no provider. Add one to `providers`.")
    return list(map(_attempted, sorted(providers, key=_rank, reverse=True)))


def faults(providers: list[dict[str, Any]]) -> list[Fault]:
    """Return what keeps the providers of a profile from being used in this process.

    Variables that are not set are faults only where no provider has all of its own. That a
    module does not exist is none.
    """
    found = [_faults(index, provider) for index, provider in enumerate(providers)]
    beside = {"unknown_module", "missing_key" if [] in found else ""}
    return [fault for each in found for fault in each if fault.code not in beside]


def variables(providers: list[dict[str, Any]]) -> set[str]:
    """Return the names of the variables that the providers of a profile cannot do without."""
    return set().union(*(configs.variables(_config(provider)) for provider in providers))


def _faults(index: int, provider: dict[str, Any]) -> list[Fault]:
    name = str(provider.get("module"))
    missing = sorted(each for each in variables([provider]) if not os.environ.get(each))
    if name in MODULES and missing:
        errors = [missing_key(name, each) for each in missing]
    else:
        attempted = _attempted(provider)
        errors = [attempted] if isinstance(attempted, EngineError) else []
    return [Fault(index, error.code, str(error)) for error in errors]


def _config(provider: dict[str, Any]) -> Config:
    """Return the provider's config, with what goes without saying."""
    given = {k: v for k, v in (provider.get("config") or {}).items() if v is not None}
    module = MODULES.get(str(provider.get("module")))
    return {**module.defaults, **given} if module else given


def _priority(provider: dict[str, Any]) -> int | float:
    config = {"priority": 0, **(provider.get("config") or {})}
    return number(config, str(provider.get("module")), "priority", float)


def _rank(provider: dict[str, Any]) -> int | float:
    try:
        return _priority(provider)
    except EngineError:
        return math.inf


def _attempted(provider: dict[str, Any]) -> Provider | EngineError:
    try:
        _priority(provider)
        return _resolved(provider)
    except EngineError as error:
        return error


def _resolved(provider: dict[str, Any]) -> Provider:
    name = str(provider.get("module"))
    if name not in MODULES:
        raise EngineError(
            "unknown_module",
            f"There is no provider module {name!r}. Known are: {', '.join(known_providers())}.",
        )
    resolver = Resolver(name)
    config = resolver.resolve(_config(provider))
    if key := config.get("api_key"):
        resolver.keep(str(key), secret=True)
    MODULES[name].check(config, name)
    return Provider(name, config, resolver.secrets, resolver.keys, limits_of(config, name))
