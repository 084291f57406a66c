"""Where tool-web may go: to the public internet, and to what the operator opens.

A name is looked up once, here; whoever connects takes the addresses that were checked, so a name
that changes meanwhile gains nothing.
"""

import asyncio
import ipaddress
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx2

from profiles_app.sources.hosts import Address, is_public, resolve_host
from sessions_app.engine.base import EngineError
from sessions_app.engine.config import Config
from sessions_app.engine.tools.base import ToolError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PORTS = {"http": 80, "https": 443}
# Characters of a URL.
URL_LIMIT = 4_000
# Threads of their own, so that names which are slow to look up hold up nothing else.
_LOOK_UPS = ThreadPoolExecutor(4, thread_name_prefix="tool-web")


@dataclass(frozen=True)
class Reach:
    """What one profile lets the tool reach."""

    # None for any host; `*.suffix` stands for every name below the suffix.
    hosts: tuple[str, ...] | None
    ports: frozenset[int]
    # What may be reached although it is not public.
    private_hosts: frozenset[str]
    private_networks: tuple[Network, ...]

    async def addresses(self, url: httpx2.URL) -> list[Address]:
        """Return the addresses to connect to for a URL; raise ToolError if it is out of reach."""
        host, port = host_of(url), url.port or PORTS[url.scheme]
        if port not in self.ports:
            raise ToolError(f"Port {port} is closed; open are {_listed(self.ports)}.")
        if self.hosts is not None and not any(_matches(host, known) for known in self.hosts):
            raise ToolError(f"The host {host!r} is not among those that may be fetched from.")
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(_LOOK_UPS, resolve_host, host, port)
        if not found:
            raise ToolError(f"The host {host!r} is not found; check the URL.")
        if not all(self._is_open(host, address) for address in found):
            raise ToolError(f"The host {host!r} is not on the public internet; it is closed.")
        return found

    def _is_open(self, host: str, address: Address) -> bool:
        if host in self.private_hosts or is_public(address):
            return True
        return any(address in network for network in self.private_networks)


def parsed(text: str, base: httpx2.URL | None = None) -> httpx2.URL:
    """Return a URL that may be asked for, relative to `base`; raise ToolError for any other."""
    try:
        url = base.join(text) if base else httpx2.URL(text.strip())
    except (httpx2.InvalidURL, ValueError) as error:
        raise ToolError("This is no URL; give one that begins with https://.") from error
    if url.scheme not in PORTS:
        raise ToolError("Only http:// and https:// can be fetched.")
    if url.userinfo:
        raise ToolError("A URL has no name and no password in it; leave them out.")
    if not host_of(url):
        raise ToolError("The URL names no host.")
    if len(str(url)) > URL_LIMIT:
        raise ToolError(f"A URL has at most {URL_LIMIT} characters.")
    return url


def host_of(url: httpx2.URL) -> str:
    """Return the host of a URL as it is looked up and compared."""
    return url.raw_host.decode().rstrip(".").lower()


def parse_reach(config: Config) -> Reach:
    """Return what a config opens; raise EngineError `bad_tool` for what cannot be understood."""
    private = _texts(config, "allow_private") or ()
    networks = {text: _network(text) for text in private}
    hosts = _texts(config, "allow_hosts")
    return Reach(
        hosts=None if hosts is None else tuple(map(_pattern, hosts)),
        ports=frozenset(_ports(config)),
        private_hosts=frozenset(_name(text) for text in private if networks[text] is None),
        private_networks=tuple(filter(None, networks.values())),
    )


def bad(sentence: str) -> EngineError:
    """Return the error for a config that cannot be used."""
    return EngineError("bad_tool", f"tool-web: {sentence}")


def _matches(host: str, known: str) -> bool:
    return host.endswith(known[1:]) if known.startswith("*.") else host == known


def _texts(config: Config, key: str) -> list[str] | None:
    given = config.get(key)
    if given is None:
        return None
    if isinstance(given, list) and all(isinstance(item, str) for item in given):
        return given
    raise bad(f"`{key}` must be a list of texts.")


def _ports(config: Config) -> Sequence[int]:
    given = config.get("allow_ports")
    if given is None:
        return list(PORTS.values())
    if isinstance(given, list) and all(type(port) is int and 0 < port < 65536 for port in given):
        return given
    raise bad("`allow_ports` must be a list of whole numbers from 1 to 65535.")


def _pattern(text: str) -> str:
    return f"*.{_name(text[2:])}" if text.startswith("*.") else _name(text)


def _name(text: str) -> str:
    try:
        url = httpx2.URL(scheme="http", host=text.strip())
    except (httpx2.InvalidURL, ValueError):
        url = httpx2.URL()
    name = host_of(url)
    if not name or set(name) & set("*/%: "):
        raise bad(f"{text!r} is no name of a host.")
    return name


def _network(text: str) -> Network | None:
    """Return the network, or the one address, that a text spells; None for a name."""
    try:
        return ipaddress.ip_network(text.strip())
    except ValueError as error:
        if "/" in text:
            raise bad(f"{text!r} is no network: {error}.") from None
        return None


def _listed(ports: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(ports))) or "none"
