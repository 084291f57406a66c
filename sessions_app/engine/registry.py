"""Which providers a mount plan means. Importing this loads no provider's client."""

import functools
import math
import os
from dataclasses import replace
from typing import Any

from profiles_app.modules import Capabilities, Fault
from sessions_app.engine import config as configs
from sessions_app.engine import providers
from sessions_app.engine.base import Engine, EngineError
from sessions_app.engine.choice import Engines
from sessions_app.engine.config import Config, Resolver, missing_key, number
from sessions_app.engine.discovery import find_classes
from sessions_app.engine.providers.base import Provider


@functools.cache
def provider_classes() -> dict[str, type[Provider]]:
    """Return the classes of all provider modules, by their names."""
    return find_classes(providers, Provider)


def known_providers() -> list[str]:
    """Return the names of all provider modules."""
    return sorted(provider_classes())


def provider_capabilities() -> dict[str, Capabilities]:
    """Return what each provider module can do."""
    return {
        name: replace(each.capabilities, settings=frozenset({"timeout"}).union(each.settings or ()))
        for name, each in provider_classes().items()
    }


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
    mounts = mount_plan.get("providers") or []
    if not mounts:
        raise EngineError("bad_config", "The profile has no provider. Add one to `providers`.")
    return list(map(_try_to_build, sorted(mounts, key=_rank, reverse=True)))


def faults(mounts: list[dict[str, Any]]) -> list[Fault]:
    """Return what keeps the providers of a profile from being used in this process.

    Variables that are not set are faults only where no provider has all of its own. That a
    module does not exist is none.
    """
    found = [_faults(index, mount) for index, mount in enumerate(mounts)]
    beside = {"unknown_module", "missing_key" if [] in found else ""}
    return [fault for each in found for fault in each if fault.code not in beside]


def variables(mounts: list[dict[str, Any]]) -> set[str]:
    """Return the names of the variables that the providers of a profile cannot do without."""
    return set().union(*(configs.variables(_config(mount)) for mount in mounts))


def _faults(index: int, mount: dict[str, Any]) -> list[Fault]:
    name = str(mount.get("module"))
    missing = sorted(each for each in variables([mount]) if not os.environ.get(each))
    if name in provider_classes() and missing:
        errors = [missing_key(name, each) for each in missing]
    else:
        built = _try_to_build(mount)
        errors = [built] if isinstance(built, EngineError) else []
    return [Fault(index, error.code, str(error)) for error in errors]


def _config(mount: dict[str, Any]) -> Config:
    """Return the provider's config, with what goes without saying."""
    given = {k: v for k, v in (mount.get("config") or {}).items() if v is not None}
    provider = provider_classes().get(str(mount.get("module")))
    return {**provider.defaults, **given} if provider else given


def _priority(mount: dict[str, Any]) -> int | float:
    config = {"priority": 0, **(mount.get("config") or {})}
    return number(config, str(mount.get("module")), "priority", float)


def _rank(mount: dict[str, Any]) -> int | float:
    try:
        return _priority(mount)
    except EngineError:
        return math.inf


def _try_to_build(mount: dict[str, Any]) -> Provider | EngineError:
    try:
        _priority(mount)
        return _build(mount)
    except EngineError as error:
        return error


def _build(mount: dict[str, Any]) -> Provider:
    name = str(mount.get("module"))
    provider = provider_classes().get(name)
    if provider is None:
        raise EngineError(
            "unknown_module",
            f"There is no provider module {name!r}. Known are: {', '.join(known_providers())}.",
        )
    resolver = Resolver(name)
    config = resolver.resolve(_config(mount))
    if key := config.get("api_key"):
        resolver.keep(str(key), secret=True)
    provider.check(config)
    return provider(config, resolver.secrets, resolver.keys)
