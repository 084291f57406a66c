"""tool-mcp: tools of MCP servers: programs that are started for an attempt, or services over HTTP.

The config names the servers, how to reach them, and which of their tools are allowed.
"""

import asyncio
import importlib
import math
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from amplifierd.common.redaction import is_secret
from sessions_app.engine.base import EngineError, bad_tool
from sessions_app.engine.capabilities import ToolCapabilities
from sessions_app.engine.config import Config
from sessions_app.engine.tools.base import Toolbox, ToolModule, Workplace

# Seconds in which a server must list its tools, and in which it must answer a call.
TIMEOUT, CALL_TIMEOUT = 30.0, 120.0

_TIMES = ("timeout", "call_timeout")
_LOCAL, _REMOTE = ("command", "args", "env"), ("url", "headers")
_SERVER_KEYS = (*_LOCAL, *_REMOTE, *_TIMES, "allow", "deny")
_MODULE_KEYS = ("servers", "require_approval")
# It becomes part of the names of tools.
_NAME = re.compile(r"[A-Za-z0-9-]{1,32}")


class McpModule(ToolModule):
    """The tools of all servers in a config; if there are several, names begin with the server's."""

    module = "tool-mcp"
    capabilities = ToolCapabilities(
        executes_code=True, touches_files=True, reaches_network=True, has_address=True
    )

    @classmethod
    @asynccontextmanager
    async def open(cls, config: dict[str, Any], workplace: Workplace) -> AsyncIterator[Toolbox]:
        """Connect to the servers; leaving ends all of them.

        Raises EngineError `bad_tool` for a wrong config. A server that is down has no tools and a
        note, and is tried again if a call needs one of its tools.
        """
        servers = parse_servers(config)
        # The client's library takes a second or more to load.
        library = await asyncio.to_thread(
            importlib.import_module, "sessions_app.engine.tools.mcp.server"
        )
        async with library.open_servers(servers, workplace.directory) as toolbox:
            yield toolbox


@dataclass(frozen=True)
class McpServer:
    """One MCP server: a program to start, or a service to call. Times are in seconds."""

    # Empty if the module has only one.
    name: str
    # The program and its arguments.
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    url: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = TIMEOUT
    call_timeout: float = CALL_TIMEOUT
    # Names of its tools, as the server has them. Without `allow` all are allowed.
    allow: frozenset[str] | None = None
    deny: frozenset[str] = frozenset()

    def __str__(self) -> str:
        place = PurePath(self.command[0]).name if self.command else urlsplit(self.url).hostname
        return f"The MCP server {self.name or place or ''!r}"

    @property
    def secrets(self) -> set[str]:
        """The secrets that the server gets."""
        given = {value for key, value in self.env.items() if is_secret(key)}
        # A header may have a word before the secret, such as Bearer.
        return given | set(self.headers.values()) | {v.split()[-1] for v in self.headers.values()}


def parse_servers(config: Config) -> list[McpServer]:
    """Return the servers of a config, each with its own time-outs or those of the module.

    Raises EngineError `bad_tool`, with the key, for a config that cannot be used.
    """
    named = config.get("servers")
    if named is None:
        return [_parse_server("", _check_keys(config, (*_SERVER_KEYS, *_MODULE_KEYS), ""), "")]
    _check_keys(config, (*_TIMES, *_MODULE_KEYS), "")
    if not isinstance(named, dict) or not named:
        raise _error("servers", "must be a mapping of names to servers")
    times = {key: config[key] for key in _TIMES if key in config}
    servers = []
    for name, entry in named.items():
        where = f"servers.{name}"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise _error(where, "must be named by letters, digits and -, at most 32 of them")
        own = _check_keys(entry, _SERVER_KEYS, f"{where}.")
        shown = name if len(named) > 1 else ""
        servers.append(_parse_server(shown, {**times, **own}, f"{where}."))
    return servers


def _check_keys(entry: Any, known: tuple[str, ...], where: str) -> Config:
    """Return an entry without the keys that are null; raise EngineError for an unknown one."""
    if not isinstance(entry, dict):
        raise _error(where.rstrip("."), "must be a mapping")
    if unknown := sorted(set(map(str, entry)) - set(known)):
        raise _error(f"{where}{unknown[0]}", f"is not known here; known are {', '.join(known)}")
    return {key: item for key, item in entry.items() if item is not None}


def _parse_server(name: str, entry: Config, where: str) -> McpServer:
    if ("command" in entry) == ("url" in entry):
        raise _error(f"{where}command", "or `url` is needed, and not both")
    if wrong := [key for key in (_REMOTE if "command" in entry else _LOCAL) if key in entry]:
        raise _error(f"{where}{wrong[0]}", "does not belong here: a server has a command or a url")
    url = entry.get("url", "")
    if "url" in entry and not (_is_text(url) and re.match(r"https?://[^/\s]", url)):
        raise _error(f"{where}url", "must begin with http:// or https:// and a host")
    return McpServer(
        name,
        command=parse_command(entry, where) if "command" in entry else (),
        env=_parse_texts(entry, "env", where),
        url=url,
        headers=_parse_texts(entry, "headers", where),
        timeout=_parse_seconds(entry, "timeout", TIMEOUT, where),
        call_timeout=_parse_seconds(entry, "call_timeout", CALL_TIMEOUT, where),
        allow=_parse_names(entry, "allow", where) if "allow" in entry else None,
        deny=_parse_names(entry, "deny", where),
    )


def parse_command(entry: Config, where: str) -> tuple[str, ...]:
    """Return the program and its arguments.

    A relative path is refused: it would be in the session's directory, where a model may write.
    """
    program, args = entry["command"], entry.get("args", [])
    if not _is_text(program):
        raise _error(f"{where}command", "must be the name of a program")
    if "/" in program and not program.startswith("/"):
        raise _error(f"{where}command", "must be a name on the PATH, or a whole path from /")
    if not isinstance(args, list) or not all(map(_is_scalar, args)):
        raise _error(f"{where}args", "must be a list of texts")
    return (program, *map(str, args))


def _parse_texts(entry: Config, key: str, where: str) -> dict[str, str]:
    texts = entry.get(key, {})
    if not isinstance(texts, dict) or not all(map(_is_scalar, [*texts, *texts.values()])):
        raise _error(f"{where}{key}", "must be a mapping of names to texts")
    if any(not str(name) or "=" in str(name) for name in texts):
        raise _error(f"{where}{key}", "has a name that is none")
    return {str(name): str(text) for name, text in texts.items()}


def _parse_names(entry: Config, key: str, where: str) -> frozenset[str]:
    names = entry.get(key, [])
    if not isinstance(names, list) or not all(map(_is_text, names)):
        raise _error(f"{where}{key}", "must be a list of names of tools")
    return frozenset(names)


def _parse_seconds(entry: Config, key: str, default: float, where: str) -> float:
    try:
        seconds = float(entry.get(key, default))
    except (TypeError, ValueError):
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise _error(f"{where}{key}", "must be a number of seconds above zero")
    return seconds


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value


def _is_scalar(value: Any) -> bool:
    """Return whether a value is a text, or a number into which YAML turned a text."""
    is_scalar = isinstance(value, str | int | float) and not isinstance(value, bool)
    return is_scalar and "\0" not in str(value)


def _error(key: str, problem: str) -> EngineError:
    return bad_tool(f"`{key}` of tool-mcp {problem}.")
