"""Capabilities of engines, tools and providers, which the class of each module declares.

A property here replaces a list of names elsewhere. If a class does not declare a property about
security, the worst case counts.
"""

from dataclasses import dataclass

from profiles_app.access import Reach
from profiles_app.modules import Capabilities


@dataclass(frozen=True)
class EngineCapabilities(Capabilities):
    """The capabilities of an engine; see also `runs_known_modules`."""

    # Whether its tools use only the files that `Turn.reach` allows.
    keeps_reach: bool = False
    # Whether it stops a run that has used its `session.budget`.
    keeps_budget: bool = False


@dataclass(frozen=True)
class ToolCapabilities(Capabilities):
    """The capabilities of a tool module."""

    needs_key: bool = False
    has_address: bool = False
    is_scripted: bool = False
    # Whether it uses only the files that `Workplace.reach` allows.
    keeps_reach: bool = False

    def may_open(self, reach: Reach) -> bool:
        """Return whether a module can be trusted with a directory and its rules."""
        if reach.is_whole or not (self.executes_code or self.touches_files):
            return True
        # Rules for folders below the directory cannot be told to programs.
        return self.keeps_reach and not (self.executes_code and reach.below)


@dataclass(frozen=True)
class ProviderCapabilities(Capabilities):
    """What a provider's service accepts. The defaults are what every service accepts.

    A config may override these properties, but not the inherited ones, which are about security.
    """

    # Whether its model can call tools, and summarise. A very small model can do neither, and gets
    # only the newest turns.
    accepts_tools: bool = True
    summarizes: bool = True
    # Tokens of its context window; None: that of the known model, or a default.
    context_window: int | None = None
    # Kinds of content that its model takes.
    input: tuple[str, ...] = ("text",)

    # History. Whether user and assistant must take turns, the user first.
    strict_roles: bool = True
    # Whether a system message may stand only at the beginning.
    leading_system: bool = True
    # Whether a request without tools may have calls and results of earlier turns.
    tool_history_without_tools: bool = False
    # Whether an answer may end in thinking, as Gemini's signature after a text does.
    trailing_thinking: bool = False
    # Regular expressions that ids of calls and names of tools must match.
    call_id_pattern: str = r"[A-Za-z0-9_-]{1,64}"
    tool_name_pattern: str = r"[A-Za-z0-9_-]{1,64}"
    # Whether a tool's schema may have oneOf, anyOf or allOf at its top, and $ref.
    lenient_schemas: bool = False

    # Wire. The field for the maximum of the answer's tokens.
    max_tokens_field: str = "max_tokens"
    # Whether `stream_options: {include_usage: true}` is accepted.
    stream_options: bool = True
    # The role of the leading system message.
    system_role: str = "system"
    # Optional fields of the request that are never sent.
    without: tuple[str, ...] = ()
