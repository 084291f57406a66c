"""A mount plan as amplifier-core's config. Importing this needs no amplifier-core."""

from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from sessions_app.engine.base import EngineError
from sessions_app.engine.config import Config, Resolver, number, redact_text
from sessions_app.engine.limits import Limits, read_limits

# Where packages tell of their modules.
GROUP = "amplifier.modules"
# What the kernel calls the modules of a section, and the code of a module that fails.
KINDS = {
    "orchestrator": "bad_config",
    "context": "bad_config",
    "provider": "bad_config",
    "tool": "bad_tool",
    "hook": "bad_tool",
}
# A module's own time-outs and retries are its own matter: these are the daemon's.
LIMITS = ("run_timeout", "max_characters", "max_pieces")


@dataclass(frozen=True)
class MainProvider:
    """The provider of the highest priority, and what no module may show."""

    module: str
    config: Config = field(repr=False)
    # Of all modules: what was filled in, and the secrets in it.
    secrets: set[str] = field(repr=False)
    keys: set[str] = field(repr=False)
    limits: Limits


@dataclass(frozen=True)
class Plan:
    """What a turn's mount plan becomes: the kernel's config, its variables filled."""

    config: Config = field(repr=False)
    # The kind and the name of each module, in the order in which the kernel mounts them.
    modules: tuple[tuple[str, str], ...]
    provider: MainProvider


def build_plan(mount_plan: dict[str, Any]) -> Plan:
    """Return the plan of a turn.

    Raises EngineError `bad_config` where orchestrator, context or provider are missing, or a
    limit cannot be read, and `missing_key` where a config names a variable that is
    not set.
    """
    session = mount_plan.get("session") or {}
    given = {
        "orchestrator": [_require(session.get("orchestrator"), "session.orchestrator")],
        "context": [_require(session.get("context"), "session.context")],
        "provider": _require(mount_plan.get("providers"), "providers"),
        "tool": mount_plan.get("tools") or [],
        "hook": mount_plan.get("hooks") or [],
    }
    resolvers: list[Resolver] = []
    filled = {kind: [_fill(each, resolvers) for each in given[kind]] for kind in given}
    return Plan(
        config=_config(filled),
        modules=tuple((kind, each["module"]) for kind in KINDS for each in filled[kind]),
        provider=_choose_provider(filled["provider"], resolvers),
    )


def load_modules(plan: Plan) -> dict[str, Any]:
    """Return what mounts the modules of a plan, by their names. Blocks while they are imported.

    Raises EngineError `unknown_module` for one that no installed package has, and the code of
    its kind for one that cannot be imported: the kernel would go on without it.
    """
    installed = {each.name: each for each in entry_points(group=GROUP)}
    for kind, name in plan.modules:
        if name not in installed:
            raise _describe_unknown(kind, name, sorted(installed))
    return {name: _load(installed[name], plan) for _, name in plan.modules}


def describe_failure(module: str, why: object, plan: Plan) -> EngineError:
    """Return the error for a module of the plan that could not be loaded or mounted."""
    kind = next(kind for kind, name in plan.modules if name == module)
    words = redact_text(" ".join(str(why).split()), plan.provider.secrets)[:300]
    return EngineError(
        KINDS[kind],
        f"The {kind} module {module!r} cannot be used. Check its config. The reason: {words}",
    )


def _require(value: Any, where: str) -> Any:
    if not value:
        raise EngineError(
            "bad_config", f"The engine 'amplifier' needs `{where}` in the profile: add it."
        )
    return value


def _fill(entry: dict[str, Any], resolvers: list[Resolver]) -> dict[str, Any]:
    """Return a module with its variables filled, and without a source: none is fetched."""
    resolver = Resolver(str(entry.get("module")))
    config = resolver.resolve(entry.get("config") or {})
    if key := config.get("api_key"):
        resolver.keep(str(key), secret=True)
    resolvers.append(resolver)
    return {"module": resolver.module, "config": config}


def _config(filled: dict[str, list[dict[str, Any]]]) -> Config:
    return {
        "session": {key: filled[key][0] for key in ("orchestrator", "context")},
        **{f"{kind}s": filled[kind] for kind in ("provider", "tool", "hook")},
    }


def _choose_provider(providers: list[dict[str, Any]], resolvers: list[Resolver]) -> MainProvider:
    chosen = max(providers, key=_read_priority)
    name, config = chosen["module"], chosen["config"]
    return MainProvider(
        module=name,
        config=config,
        secrets=set().union(*(each.secrets for each in resolvers)),
        keys=set().union(*(each.keys for each in resolvers)),
        limits=read_limits({key: config.get(key) for key in LIMITS}, name),
    )


def _read_priority(provider: dict[str, Any]) -> int | float:
    return number({"priority": 0, **provider["config"]}, provider["module"], "priority", float)


def _describe_unknown(kind: str, name: str, installed: list[str]) -> EngineError:
    known = ", ".join(installed) or "none"
    return EngineError(
        "unknown_module",
        f"There is no {kind} module {name!r} for the engine 'amplifier'. Install the package "
        f"that has it. Installed are: {known}.",
    )


def _load(module: EntryPoint, plan: Plan) -> Any:
    try:
        return module.load()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise describe_failure(module.name, why, plan) from None
