"""What engines, tools and providers can do and accept: the class of each module says it.

A property here replaces a list of names elsewhere. Unknown means no: what a class does not say of
its security counts as the worst case.
"""

from dataclasses import dataclass

from profiles_app.modules import Capabilities


@dataclass(frozen=True)
class EngineCapabilities(Capabilities):
    """What an engine does; see also `runs_known_modules`."""

    # Whether it stops a run that has used what `session.budget` grants.
    keeps_budget: bool = False


@dataclass(frozen=True)
class ToolCapabilities(Capabilities):
    """What a tool module does."""

    needs_key: bool = False
    has_address: bool = False
    is_scripted: bool = False


@dataclass(frozen=True)
class ProviderCapabilities(Capabilities):
    """What a provider's service accepts. The defaults are what every service takes.

    A config may override those below; what decides about security stays as the class says it.
    """

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
    # Whether an answer may end in thinking: Gemini's signature of a text comes after it.
    trailing_thinking: bool = False
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
