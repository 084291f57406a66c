"""Where the daemon may connect: the one resolver for addresses that somebody else has named.

A name is resolved once, all its addresses are checked, and the connection goes to one of these
addresses (`outbound_http` does that for HTTP). A name that resolves to another address a moment
later has no effect. Each redirect is a new address.

Refused is whatever is not on the public internet, except what `AMPLIFIERD_OUTBOUND_HOSTS` lists. On
a daemon without keys the caller is the operator: the addresses in a profile may be private.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

VARIABLE = "AMPLIFIERD_OUTBOUND_HOSTS"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PORTS = {"http": 80, "https": 443}

# IPv4 addresses inside IPv6 ones, used by some networks (NAT64).
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
# All public IPv6 addresses so far; those outside are reserved, or contain an IPv4 address.
_UNICAST = ipaddress.ip_network("2000::/3")
# Public for Python, or for its older releases, but not in fact: a metadata service (Azure), and
# networks for examples, relays and tunnels, which may contain an IPv4 address.
_CLOSED = [
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "2001::/32",
        "2001:db8::/32",
        "3fff::/20",
    )
]
# Services that give the credentials of a machine in a cloud to every program that asks.
_METADATA = [
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",  # AWS, Google, Azure and others; also those of containers
        "168.63.129.16/32",  # Azure
        "100.100.100.200/32",  # Alibaba
        "192.0.0.192/32",  # Oracle
        "fd00:ec2::/32",  # AWS
        "fd20:ce::254/128",  # Google
    )
]
_METADATA_NAMES = frozenset(
    "metadata metadata.google.internal metadata.goog metadata.azure.internal instance-data"
    " instance-data.ec2.internal metadata.tencentyun.com metadata.oraclecloud.com"
    " metadata.packet.net metadata.platformequinix.com".split()
)
_PORT = re.compile(r"(.*):([0-9]{1,5})")
_NAME = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?")

# Own threads, so that slow name servers delay nothing else; and others for names that anybody may
# choose, so that these do not delay the operator's providers.
_LOOK_UPS = ThreadPoolExecutor(16, thread_name_prefix="resolver")
_CALLERS_LOOK_UPS = ThreadPoolExecutor(16, thread_name_prefix="resolver-callers")


class AddressRefused(Exception):
    """The daemon must not connect to an address. The message says why, and what can be done."""


class HostNotFound(OSError):
    """No name server knows a host."""


@dataclass(frozen=True)
class Exceptions:
    """Hosts that are reached although they are not public; a port of None stands for all ports."""

    # Names; `*.suffix` stands for every name below the suffix.
    names: frozenset[tuple[str, int | None]] = frozenset()
    networks: frozenset[tuple[Network, int | None]] = frozenset()

    def __or__(self, other: "Exceptions") -> "Exceptions":
        return Exceptions(self.names | other.names, self.networks | other.networks)

    def has_name(self, host: str, port: int, *, exactly: bool = False) -> bool:
        return any(
            own in (None, port)
            and (host == name or (not exactly and name[:2] == "*." and host.endswith(name[1:])))
            for name, own in self.names
        )

    def has_address(self, address: Address, port: int, *, exactly: bool = False) -> bool:
        return any(
            own in (None, port)
            and address in network
            and (not exactly or network.num_addresses == 1)
            for network, own in self.networks
        )


@lru_cache(maxsize=64)
def parse_exceptions(entries: tuple[str, ...]) -> Exceptions:
    """Return the hosts of a list such as `host`, `host:port`, `*.suffix`, `[::1]:80`, `10.0.0.0/8`.

    Raises ValueError, with a sentence, for an entry that is none of these.
    """
    names, networks = set(), set()
    for entry in entries:
        text, port = entry.strip(), None
        if text.startswith("[") and text.endswith("]"):
            text = text[1:-1]
        elif (match := _PORT.fullmatch(text)) and (":" not in match[1] or match[1][0] == "["):
            text, port = match[1].strip("[]"), int(match[2])
        is_port = port is None or 0 < port < 65536
        try:
            if not is_port:
                raise ValueError
            networks.add((ipaddress.ip_network(text.partition("%")[0]), port))
            continue
        except ValueError:
            name = normalize_host(text)
        is_number = parse_address(name) is not None
        if "/" in text or is_number or not _NAME.fullmatch(name) or not is_port:
            raise ValueError(
                f"{entry!r} is no host: give names, `host:port`, `*.suffix`, addresses or networks "
                "such as 10.20.0.0/16."
            )
        names.add((name, port))
    return Exceptions(frozenset(names), frozenset(networks))


@dataclass(frozen=True)
class OutboundRules:
    """The rules for the addresses of one source: what may be connected to."""

    exceptions: Exceptions = field(default_factory=Exceptions)
    # Whether private and local addresses are allowed, except for metadata services.
    allows_private: bool = False
    threads: Executor = field(default=_LOOK_UPS, compare=False)

    def check(self, host: str, port: int, addresses: Iterable[Address] = ()) -> None:
        """Raise AddressRefused if the name, or one of its addresses, is forbidden."""
        known = self.exceptions
        if host in _METADATA_NAMES and not known.has_name(host, port, exactly=True):
            raise _refuse_metadata(host)
        is_named = known.has_name(host, port)
        for address in map(_unwrap, addresses):
            if any(address in network for network in _METADATA):
                # A wildcard or a network is no decision about these, nor is a name: whoever
                # answers for the name decides where it leads.
                is_listed = known.has_address(address, port, exactly=True)
                if not is_listed and host not in _METADATA_NAMES:
                    raise _refuse_metadata(host)
                continue
            if not (
                self.allows_private
                or is_named
                or is_public(address)
                or known.has_address(address, port)
            ):
                raise AddressRefused(
                    f"The host {host!r} is not on the public internet. Name it in {VARIABLE} in "
                    "the daemon's environment to reach it, and restart."
                )

    def resolve(self, host: str, port: int) -> list[Address]:
        """Return the addresses of a host, all of them allowed, without duplicates.

        Raises AddressRefused, and HostNotFound.
        """
        host = normalize_host(host)
        self.check(host, port)
        addresses = look_up(host, port)
        self.check(host, port, addresses)
        return addresses

    async def resolve_async(self, host: str, port: int) -> list[Address]:
        """Return the addresses of a host, like `resolve`, without blocking the event loop."""
        name = normalize_host(host)
        if (address := parse_literal(name)) is not None:
            self.check(name, port, [address])
            return [address]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, self.resolve, name, port)

    def check_url(self, url: str) -> None:
        """Raise AddressRefused for a URL that is forbidden, as far as no look-up is needed."""
        try:
            parts = urlsplit(url)
            host, port = normalize_host(parts.hostname or ""), parts.port
        except ValueError:
            return  # The request itself will fail and explain it.
        address = parse_address(host)
        if host == "localhost" or host.endswith(".localhost"):
            address = ipaddress.IPv4Address("127.0.0.1")
        port = port or PORTS.get(parts.scheme, 0)
        self.check(host, port, [address] if address else [])


def _refuse_metadata(host: str) -> AddressRefused:
    return AddressRefused(
        f"The host {host!r} is the metadata service of a cloud, which has credentials. Only an "
        f"entry of {VARIABLE} with exactly this address opens it."
    )


def rules_for_profiles() -> OutboundRules:
    """Return the rules for addresses that a profile or its overrides name: providers and MCP."""
    return OutboundRules(_parse_setting(), allows_private=not settings.REQUIRE_KEYS)


def rules_for_callers(further: Sequence[str] = ()) -> OutboundRules:
    """Return the rules for addresses that anybody may choose: a model, or a caller.

    `further` are entries that hold beside the list of the daemon.
    """
    exceptions = _parse_setting() | parse_exceptions(tuple(further))
    return OutboundRules(exceptions, threads=_CALLERS_LOOK_UPS)


def _parse_setting() -> Exceptions:
    return parse_exceptions(tuple(settings.OUTBOUND_HOSTS))


def is_public(address: Address) -> bool:
    """Return whether an address is public; for an IPv4 address inside an IPv6 one, that counts."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address not in _UNICAST:
            return False
    closed = address.is_multicast or any(address in network for network in _CLOSED)
    return address.is_global and not closed


def _unwrap(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one contains, if any system would connect to that."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _TRANSLATED:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address


def look_up(host: str, port: int) -> list[Address]:
    """Return the addresses of a host without duplicates; raise HostNotFound."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        found = []
    addresses = [ipaddress.ip_address(_with_zone(item[4])) for item in found]
    if not addresses:
        raise HostNotFound(f"The host {host!r} is not found; check the URL.")
    return list(dict.fromkeys(addresses))


def _with_zone(place: tuple[Any, ...]) -> str:
    """Return the address of a socket, with its zone if it is link-local."""
    text, zone = str(place[0]), place[3] if len(place) == 4 else 0
    return f"{text}%{zone}" if zone and "%" not in text else text


def normalize_host(host: str) -> str:
    """Return a host in the form in which it is resolved and compared."""
    name = host.strip("[]").rstrip(".").lower()
    if not name.isascii():
        try:
            name = name.encode("idna").decode().lower().rstrip(".")
        except UnicodeError:
            return name  # No name server has it.
    return name


def parse_literal(host: str) -> Address | None:
    """Return the address that a host is in the usual spelling; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def parse_address(host: str) -> Address | None:
    """Return the address that a host is in any spelling, such as 127.1 or 0x7f000001."""
    if (address := parse_literal(host)) is not None:
        return address
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host)) if host[:1].isdigit() else None
    except (OSError, ValueError):
        return None
