"""The config of `tool-mcp`: which servers there are, how they are reached, what they may do."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from amplifierd.common.redaction import is_secret
from sessions_app.engine.base import EngineError
from sessions_app.engine.config import redacted

Config = dict[str, Any]

MODULE = "tool-mcp"
# Seconds until a server must have told of its tools, and until a call must have been answered.
TIMEOUT, CALL_TIMEOUT = 30.0, 120.0

_TIMES = ("timeout", "call_timeout")
_LOCAL, _REMOTE = ("command", "args", "env"), ("url", "headers")
_SERVER_KEYS = (*_LOCAL, *_REMOTE, *_TIMES, "allow", "deny")
# It becomes part of the names of tools.
_NAME = re.compile(r"[A-Za-z0-9-]{1,32}")


@dataclass(frozen=True)
class Server:
    """One MCP server: a program to start, or a place to call. Times are in seconds."""

    # Empty where the module has but one.
    name: str
    # The program and its arguments.
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    url: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = TIMEOUT
    call_timeout: float = CALL_TIMEOUT
    # Names of its tools, as the server has them. Without `allow` all are.
    allow: frozenset[str] | None = None
    deny: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"The MCP server {self.name or self._where!r}"

    @property
    def _where(self) -> str:
        return PurePath(self.command[0]).name if self.command else urlsplit(self.url).hostname or ""

    def redact(self, text: str) -> str:
        """Return a sentence for people without what the server is given as a secret."""
        return redacted(text, self.secrets)

    @property
    def secrets(self) -> set[str]:
        """What the server is given as a secret."""
        given = {value for key, value in self.env.items() if is_secret(key)}
        # A header may have a word before the secret: Bearer.
        return given | set(self.headers.values()) | {v.split()[-1] for v in self.headers.values()}


def parse_servers(config: Config) -> list[Server]:
    """Return the servers of a module's config, each with the time-outs of the module or its own.

    Raises EngineError `bad_tool`, naming the key, for a config that cannot be used.
    """
    named = config.get("servers")
    if named is None:
        known = (*_SERVER_KEYS, "servers", "require_approval")
        return [_server("", _checked(config, known, ""), "")]
    _checked(config, (*_TIMES, "servers", "require_approval"), "")
    if not isinstance(named, dict) or not named:
        raise _bad("servers", "must be a mapping of names to servers")
    times = {key: config[key] for key in _TIMES if key in config}
    alone = len(named) == 1
    return [_named(name, entry, times, alone) for name, entry in named.items()]


def _named(name: Any, entry: Any, times: Config, alone: bool) -> Server:
    where = f"servers.{name}"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _bad(where, "must be named by letters, digits and -, at most 32 of them")
    checked = _checked(entry, _SERVER_KEYS, f"{where}.")
    return _server("" if alone else name, {**times, **checked}, f"{where}.")


def _checked(entry: Any, known: tuple[str, ...], where: str) -> Config:
    if not isinstance(entry, dict):
        raise _bad(where.rstrip("."), "must be a mapping")
    if unknown := sorted(set(map(str, entry)) - set(known)):
        raise _bad(f"{where}{unknown[0]}", f"is not known here; known are {', '.join(known)}")
    return {key: item for key, item in entry.items() if item is not None}


def _server(name: str, entry: Config, where: str) -> Server:
    if ("command" in entry) == ("url" in entry):
        raise _bad(f"{where}command", "or `url` is needed, and not both")
    if wrong := [key for key in (_REMOTE if "command" in entry else _LOCAL) if key in entry]:
        raise _bad(f"{where}{wrong[0]}", "does not belong here: a server has a command or a url")
    return Server(
        name,
        command=_command(entry, where),
        env=_texts(entry, "env", where),
        url=_url(entry, where),
        headers=_texts(entry, "headers", where),
        timeout=_seconds(entry, "timeout", TIMEOUT, where),
        call_timeout=_seconds(entry, "call_timeout", CALL_TIMEOUT, where),
        allow=_names(entry, "allow", where) if "allow" in entry else None,
        deny=_names(entry, "deny", where),
    )


def _command(entry: Config, where: str) -> tuple[str, ...]:
    """Return the program and its arguments.

    A relative path would be one below the session's directory, where a model may write.
    """
    if "command" not in entry:
        return ()
    program, args = entry["command"], entry.get("args", [])
    if not _is_text(program):
        raise _bad(f"{where}command", "must be the name of a program")
    if "/" in program and not program.startswith("/"):
        raise _bad(f"{where}command", "must be a name on the PATH, or a whole path from /")
    if not isinstance(args, list) or not all(_is_plain(each) for each in args):
        raise _bad(f"{where}args", "must be a list of texts")
    return (program, *map(str, args))


def _url(entry: Config, where: str) -> str:
    url = entry.get("url", "")
    if "url" in entry and not (_is_text(url) and re.match(r"https?://[^/\s]", url)):
        raise _bad(f"{where}url", "must begin with http:// or https:// and a host")
    return url


def _texts(entry: Config, key: str, where: str) -> dict[str, str]:
    texts = entry.get(key, {})
    if not isinstance(texts, dict) or not all(map(_is_plain, [*texts, *texts.values()])):
        raise _bad(f"{where}{key}", "must be a mapping of names to texts")
    if any(not str(name) or "=" in str(name) for name in texts):
        raise _bad(f"{where}{key}", "has a name that is none")
    return {str(name): str(text) for name, text in texts.items()}


def _names(entry: Config, key: str, where: str) -> frozenset[str]:
    names = entry.get(key, [])
    if not isinstance(names, list) or not all(map(_is_text, names)):
        raise _bad(f"{where}{key}", "must be a list of names of tools")
    return frozenset(names)


def _seconds(entry: Config, key: str, default: float, where: str) -> float:
    try:
        seconds = float(entry.get(key, default))
    except (TypeError, ValueError):
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise _bad(f"{where}{key}", "must be a number of seconds above zero")
    return seconds


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value


def _is_plain(value: Any) -> bool:
    """Tell whether a value is a text, or a number that YAML made of one."""
    plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    return plain and "\0" not in str(value)


def _bad(key: str, what: str) -> EngineError:
    return EngineError("bad_tool", f"`{key}` of {MODULE} {what}.")
