"""What providers and tools can do and accept: each module's class says it, configs may override.

A property here replaces a list of names elsewhere. Unknown means no.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

from profiles_app.modules import Capabilities
from sessions_app.engine.base import EngineError


@dataclass(frozen=True)
class ToolCapabilities(Capabilities):
    """What a tool module does."""

    needs_key: bool = False
    has_address: bool = False
    is_scripted: bool = False


@dataclass(frozen=True)
class ProviderCapabilities(Capabilities):
    """What a provider's service accepts. The defaults are what every service takes."""

    executes_code: bool = False
    touches_files: bool = False
    is_scripted: bool = False

    # Whether its model can call tools, and summarise: one that is too small can do neither, and
    # leaves out what is oldest.
    accepts_tools: bool = True
    summarizes: bool = True
    # Tokens of its context; None: what is known of the model, else a guess.
    context_window: int | None = None
    # Kinds of content that its model takes.
    input: tuple[str, ...] = ("text",)

    # History. Whether user and assistant must take turns, the user first.
    strict_roles: bool = True
    # Whether a system message may stand only at the beginning.
    leading_system: bool = True
    # Whether calls and results of earlier turns may stand in a request that offers no tools.
    tool_history_without_tools: bool = False
    # Regular expressions that ids of calls and names of tools must match.
    call_id_pattern: str = r"[A-Za-z0-9_-]{1,64}"
    tool_name_pattern: str = r"[A-Za-z0-9_-]{1,64}"
    # Whether a tool's schema may have oneOf, anyOf or allOf at its top, and $ref.
    lenient_schemas: bool = False

    # Wire. The field that bounds the answer's tokens.
    max_tokens_field: str = "max_tokens"
    # Whether `stream_options: {include_usage: true}` is understood.
    stream_options: bool = True
    # The role of the leading system message.
    system_role: str = "system"
    # Optional fields of the request that are never sent.
    without: tuple[str, ...] = ()


def override_capabilities(
    declared: ProviderCapabilities, config: dict[str, Any], module: str
) -> ProviderCapabilities:
    """Return what a class declares, with what `capabilities` in its config says instead.

    What decides about security cannot be overridden. Raises EngineError `bad_config`.
    """
    given = config.get("capabilities") or {}
    if not isinstance(given, dict):
        raise EngineError("bad_config", f"`capabilities` of {module} must be a mapping: correct it.")
    fixed = {field.name for field in fields(Capabilities)}
    known = {field.name for field in fields(ProviderCapabilities)} - fixed
    for name, value in given.items():
        if name not in known:
            raise EngineError(
                "bad_config",
                f"`capabilities` of {module} has {', '.join(sorted(known))}, not {name!r}.",
            )
        _check_kind(name, value, getattr(declared, name), module)
    tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    return replace(declared, **tuples)


def _check_kind(name: str, value: Any, declared: Any, module: str) -> None:
    wanted = {"context_window": int, "input": list, "without": list}.get(name, type(declared))
    is_right = isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
    if is_right and wanted is list:
        is_right = all(isinstance(item, str) for item in value)
    if not is_right:
        nouns = {int: "a whole number", bool: "true or false", list: "a list of texts", str: "a text"}
        raise EngineError(
            "bad_config", f"`capabilities.{name}` of {module} must be {nouns[wanted]}: correct it."
        )
