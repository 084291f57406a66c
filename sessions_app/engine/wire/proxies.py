"""The proxy for a request: the same rule for every HTTP client of the daemon.

`HTTPS_PROXY`, `HTTP_PROXY` and `ALL_PROXY` name proxies, in upper or lower case; `NO_PROXY` names
hosts that are reached without one. Loopback and private hosts never need to be named there.
"""

import ipaddress
import os
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from sessions_app.engine.base import EngineError, bad_config
from sessions_app.engine.config import is_url

SCHEMES = ("http", "https", "socks5", "socks5h")
_VARIABLES = {"http": ("http_proxy", "all_proxy"), "https": ("https_proxy", "all_proxy")}
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_NAME_WITH_PORT = re.compile(r"([^:]*):(\d+)")
# Names that are never on the internet.
_LOCAL_NAMES = ("localhost", ".localhost", ".local", ".internal", ".lan", ".home.arpa")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def find_proxy(url: str) -> str | None:
    """Return the URL of the proxy for a URL; None if it is reached without one.

    Raises EngineError `bad_config`, naming the variable, for a proxy that cannot be used.
    """
    variable, value = find_proxy_variable(url)
    return parse_proxy(variable, value) if value else None


def find_proxy_variable(url: str) -> tuple[str, str]:
    """Return the variable that names the proxy for a URL, and its value; both empty for none."""
    try:
        place = urlsplit(url)
        host, port = (place.hostname or "").rstrip("."), place.port
    except ValueError:
        return "", ""  # The request itself will fail and explain it.
    for name in _VARIABLES.get(place.scheme, ()):
        variable, value = _read_variable(name)
        if value and not is_direct(host, port or (443 if place.scheme == "https" else 80)):
            return variable, value
    return "", ""


def parse_proxy(variable: str, value: str) -> str:
    """Return a variable's value as the URL of a proxy; raise EngineError `bad_config`.

    Without a scheme it is http://, as in curl.
    """
    text = value if "://" in value else f"http://{value}"
    if not (text.isascii() and is_url(text, (*SCHEMES, "socks"))):
        raise bad_config(
            f"The environment variable {variable} is no proxy that can be used: it must be like "
            "http://host:port or socks5://host:port. Correct it, or unset it, and restart."
        )
    return f"socks5{text[5:]}" if text.lower().startswith("socks:") else text


def find_variables() -> list[str]:
    """Return the names of the variables that are set and name a proxy."""
    return [variable for variable, value in map(_read_variable, _PROXIES) if value]


def find_bad_variables() -> Iterator[tuple[str, str]]:
    """Yield each proxy variable that cannot be used, and the sentence that says why."""
    for name in _PROXIES:
        variable, value = _read_variable(name)
        try:
            if value:
                parse_proxy(variable, value)
        except EngineError as error:
            yield variable, str(error)


def _read_variable(name: str) -> tuple[str, str]:
    """Return a variable's name, in the case that the environment has, and its value."""
    # In a CGI script, HTTP_PROXY could be a client's header; the daemon is none.
    for spelling in (name, name.upper()):
        if value := os.environ.get(spelling, "").strip().strip("'\""):
            return spelling, value
    return name.upper(), ""


def is_direct(host: str, port: int) -> bool:
    """Return whether a host is reached without a proxy."""
    try:
        address: Address | None = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        address = None
    if address is not None:
        if not address.is_global:
            return True
    elif "." not in host or host.endswith(_LOCAL_NAMES):
        return True
    entries = re.split(r"[\s,;]+", _read_variable("no_proxy")[1])
    return any(matches_entry(entry.strip("'\""), host, address, port) for entry in entries)


def matches_entry(entry: str, host: str, address: Address | None, port: int) -> bool:
    """Return whether an entry of NO_PROXY covers a host; an invalid entry covers none."""
    name = entry.rpartition("://")[2].lower()
    if name in ("", "*"):
        return name == "*"
    wanted: str | None = None
    if name.startswith("["):
        name, _, rest = name[1:].partition("]")
        wanted = rest.removeprefix(":")
    elif match := _NAME_WITH_PORT.fullmatch(name):
        name, wanted = match.groups()
    if wanted and wanted.isdigit() and int(wanted) != port:
        return False
    if address is not None:
        try:
            return address in ipaddress.ip_network(name, strict=False)
        except (ValueError, TypeError):
            return False
    suffix = name.removeprefix("*").strip(".")
    return bool(suffix) and (host == suffix or host.endswith(f".{suffix}"))
