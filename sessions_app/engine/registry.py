"""Modules of providers and tools, and what finds those of each kind, also in installed packages.

A package has them as entry points in three groups, `amplifierd.providers`, `amplifierd.tools` and
`amplifierd.engines`. The name of an entry point is what profiles call it; its value is a class,
which says as `capabilities` what it can do. See docs/extending.md.

An entry point that cannot be used does not stop anything: it is logged, `doctor` lists it, and a
profile that names it gets the reason. Importing this module loads no provider's client.
"""

import importlib
import inspect
import logging
import math
import os
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from itertools import groupby
from types import ModuleType
from typing import Any, Generic, TypeVar

from amplifierd.common.outbound import AddressRefused, rules_for_profiles
from amplifierd.common.text import suggest
from profiles_app.modules import Capabilities, ConfigError, Module
from sessions_app.engine import config as configs
from sessions_app.engine import providers, tools
from sessions_app.engine.base import Engine, EngineError, bad_config
from sessions_app.engine.capabilities import ProviderCapabilities, ToolCapabilities
from sessions_app.engine.config import Config, Resolver, missing_key, number
from sessions_app.engine.providers.base import Provider
from sessions_app.engine.providers.hosted import HostedProvider
from sessions_app.engine.tools.base import ToolModule
from sessions_app.engine.tools.mcp import McpModule, parse_servers

logger = logging.getLogger(__name__)

# What to do about a model that calls no tools.
CALLS_TOOLS = (
    "Give the profile a provider whose model calls tools, such as provider-openai with "
    "OPENAI_API_KEY in the environment (see docs/first-agent.md)."
)

Extension = TypeVar("Extension", bound=Provider | ToolModule | Engine)


class Registry(Generic[Extension]):
    """All modules of one kind; they are found once, when they are first needed."""

    def __init__(
        self,
        kind: str,
        base: type[Extension],
        capabilities: type[Capabilities],
        find_builtin: Callable[[], dict[str, type[Extension]]],
    ) -> None:
        self.kind = kind
        self.group = f"amplifierd.{kind}s"
        self._base = base
        self._capabilities = capabilities
        self._find_builtin = find_builtin
        self.noun = kind if kind == "engine" else f"{kind} module"

    @property
    def classes(self) -> dict[str, type[Extension]]:
        """The classes of all modules, by their names, in order."""
        return self._contents[0]

    @property
    def packages(self) -> dict[str, str]:
        """Name → the installed package, of each module that is not part of the daemon."""
        return self._contents[1]

    @property
    def errors(self) -> dict[str, str]:
        """Name → why the entry point of this name cannot be used."""
        return self._contents[2]

    @cached_property
    def _contents(self) -> tuple[dict[str, type[Extension]], dict[str, str], dict[str, str]]:
        builtin = self._find_builtin()
        found = dict(builtin)
        packages: dict[str, str] = {}
        errors: dict[str, str] = {}
        entries = sorted(entry_points(group=self.group), key=lambda entry: entry.name)
        for name, same in groupby(entries, key=lambda entry: entry.name):
            entry, *others = same
            try:
                if name in builtin or others:
                    raise ValueError("there is another one of this name")
                loaded = entry.load()
                if not (isinstance(loaded, type) and issubclass(loaded, self._base)):
                    base = f"{self._base.__module__}.{self._base.__name__}"
                    raise TypeError(f"it is no class of {base}")
                if missing := getattr(loaded, "__abstractmethods__", None):
                    raise TypeError(f"the class lacks {', '.join(sorted(missing))}")
                if getattr(loaded, "module", None) != name:
                    raise ValueError(f"`module` of the class must be {name!r}")
                if not isinstance(getattr(loaded, "capabilities", None), self._capabilities):
                    wanted = self._capabilities.__name__
                    raise TypeError(f"`capabilities` of the class must be {wanted}")
                found[name] = loaded
                packages[name] = _name_package(entry)
            # Other people's code may raise anything while it is imported.
            except (Exception, SystemExit) as error:
                reason = f"{type(error).__name__}: {error}"
                errors[name] = f"{_name_package(entry)}, {entry.value}: {reason}"
                logger.error("The %s %r cannot be used. %s", self.noun, name, errors[name])
        return dict(sorted(found.items())), packages, errors

    def find(self, name: str) -> type[Extension]:
        """Return the class of a module; raise EngineError `unknown_module` without one."""
        if name in self.classes:
            return self.classes[name]
        if name in self.errors:
            raise EngineError(
                "unknown_module",
                f"The {self.noun} {name!r} cannot be used. Correct or remove its package, "
                f"and restart: {self.errors[name]}",
            )
        raise EngineError(
            "unknown_module",
            f"There is no {self.noun} {name[:80]!r}. Known are: {', '.join(self.classes)}."
            f"{suggest(name[:80], self.classes)}",
        )

    def list_modules(self) -> dict[str, Module]:
        """Return all modules as profiles know them, also those that cannot be used."""
        modules: dict[str, Module] = {}
        for name, each in self.classes.items():
            capabilities: Capabilities = each.capabilities
            if issubclass(each, Provider):
                own = each.settings or frozenset()
                capabilities = replace(capabilities, settings=own | {"timeout"})
            modules[name] = Module(capabilities, self.packages.get(name, ""))
        for name, error in self.errors.items():
            modules.setdefault(name, Module(Capabilities(), "", error))
        return modules


def _name_package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "a package"


def find_classes(package: ModuleType, base: type[Extension]) -> dict[str, type[Extension]]:
    """Return the concrete subclasses of `base` in a package, by their `module`.

    Imports every file directly in the package, and its sub-packages: they must be cheap to import.
    """
    found: dict[str, type[Extension]] = {}
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for each in vars(importlib.import_module(info.name)).values():
            # `isinstance` would make a lazy object, such as Django's settings, load its content.
            is_class = issubclass(type(each), type)
            if is_class and issubclass(each, base) and not inspect.isabstract(each):
                found[each.module] = each
    return found


# mypy forbids abstract classes as values, because they might be called; here they are not.
PROVIDERS = Registry(
    "provider",
    Provider,  # type: ignore[type-abstract]
    ProviderCapabilities,
    lambda: find_classes(providers, Provider),  # type: ignore[type-abstract]
)
TOOLS = Registry(
    "tool",
    ToolModule,  # type: ignore[type-abstract]
    ToolCapabilities,
    lambda: find_classes(tools, ToolModule),  # type: ignore[type-abstract]
)


def provider_chain(mount_plan: dict[str, Any]) -> list[Provider | EngineError]:
    """Return the mount plan's providers, the highest `priority` first, equals in its order.

    A provider that cannot be used is replaced by the EngineError that says why: `bad_config`,
    `unknown_module`, or `missing_key` for a variable that is not set. One whose priority is not a
    number comes first. Raises EngineError `bad_config` if the plan has no provider.
    """
    mounts = mount_plan.get("providers") or []
    if not mounts:
        raise bad_config("The profile has no provider. Add one to `providers`.")

    def rank(mount: dict[str, Any]) -> int | float:
        try:
            return _read_priority(mount)
        except EngineError:
            return math.inf

    return [_try_to_build(mount) for mount in sorted(mounts, key=rank, reverse=True)]


def find_config_errors(mounts: list[dict[str, Any]]) -> list[ConfigError]:
    """Return why providers of a profile cannot be used in this process.

    Variables that are not set count only if no provider has all of its own. Modules that do not
    exist are reported elsewhere.
    """
    by_mount: list[list[ConfigError]] = []
    for index, mount in enumerate(mounts):
        name = str(mount.get("module"))
        missing = sorted(each for each in find_variables([mount]) if not os.environ.get(each))
        if name in PROVIDERS.classes and missing:
            errors = [missing_key(name, each) for each in missing]
        else:
            built = _try_to_build(mount)
            errors = [built] if isinstance(built, EngineError) else []
        by_mount.append([ConfigError(index, error.code, str(error)) for error in errors])
    ignored = {"unknown_module", "missing_key" if [] in by_mount else ""}
    return [error for errors in by_mount for error in errors if error.code not in ignored]


def find_tool_errors(mounts: list[dict[str, Any]]) -> list[ConfigError]:
    """Return which MCP servers of a profile may not be connected to, without a look-up."""
    errors = []
    for index, mount in enumerate(mounts):
        for module, url in list_addresses({"tools": [mount]}):
            try:
                rules_for_profiles().check_url(url)
            except AddressRefused as error:
                detail = f"`url` of {module} cannot be used. {error}"
                errors.append(ConfigError(index, "bad_tool", detail))
    return errors


def find_warnings(definition: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield where, code and detail if the tools of a profile would be left out."""
    tools = definition.get("tools") or []
    chain = provider_chain(definition) if tools and definition.get("providers") else []
    if detail := explain_left_out_tools(tools, chain):
        yield "tools", "tools_left_out", detail


def explain_left_out_tools(
    tools: list[dict[str, Any]], chain: Sequence[Provider | EngineError]
) -> str:
    """Return that the first usable provider's model calls no tools, and what to do; else nothing.

    If another provider only lacks its key, that is what to do.
    """
    first = next((each for each in chain if isinstance(each, Provider)), None)
    if not tools or first is None or first.can.accepts_tools:
        return ""
    errors = [each for each in chain if isinstance(each, EngineError)]
    keys = " ".join(str(error) for error in errors if error.code == "missing_key")
    names = ", ".join(str(mount.get("module")) for mount in tools)
    return (
        f"The model of {first.module} cannot call tools, so those of this profile are left out: "
        f"{names}. {keys or CALLS_TOOLS}"
    )


def list_addresses(definition: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield module and URL of each service and MCP server that a profile names.

    A module that cannot be used in this process is left out.
    """
    for mount in definition.get("providers") or []:
        with suppress(EngineError):
            name = str(mount.get("module"))
            config = Resolver(name).resolve(_fill_defaults(mount))
            if issubclass(each := PROVIDERS.find(name), HostedProvider):
                yield name, str(config.get(each.place_of(config)) or "")
    for mount in definition.get("tools") or []:
        with suppress(EngineError):
            if mount.get("module") == McpModule.module:
                config = Resolver(McpModule.module).resolve(mount.get("config") or {})
                own = {k: v for k, v in config.items() if k != "approval_timeout"}
                yield from ((McpModule.module, server.url) for server in parse_servers(own))


def find_variables(mounts: list[dict[str, Any]]) -> set[str]:
    return set().union(*(configs.find_variables(_fill_defaults(mount)) for mount in mounts))


def _fill_defaults(mount: dict[str, Any]) -> Config:
    given = {k: v for k, v in (mount.get("config") or {}).items() if v is not None}
    provider = PROVIDERS.classes.get(str(mount.get("module")))
    return {**provider.defaults, **given} if provider else given


def _read_priority(mount: dict[str, Any]) -> int | float:
    config = {"priority": 0, **(mount.get("config") or {})}
    return number(config, str(mount.get("module")), "priority", float)


def _try_to_build(mount: dict[str, Any]) -> Provider | EngineError:
    name = str(mount.get("module"))
    try:
        _read_priority(mount)
        provider = PROVIDERS.find(name)
        resolver = Resolver(name)
        config = resolver.resolve(_fill_defaults(mount))
        if key := config.get("api_key"):
            resolver.keep(str(key), secret=True)
        provider.check(config)
        built = provider(config, resolver.secrets, resolver.keys)
        built.is_foreign = bool(mount.get("is_foreign"))
        return built
    except EngineError as error:
        return error
    except Exception as error:
        # A package's provider may raise anything, and the text of its error may hold a secret.
        logger.exception("The provider module %s failed", name)
        kind = type(error).__name__
        return bad_config(f"{name} failed while its config was read: {kind}.")
