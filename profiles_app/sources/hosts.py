"""The hosts from which collections may be fetched: public ones, and those in the settings.

Without this a client could have the daemon fetch from hosts that only the daemon can reach. Git
connects only to the addresses that were checked, so a name that changes meanwhile has no effect.
"""

import ipaddress
import os
import socket
from urllib.parse import urlsplit

from django.conf import settings

from profiles_app.exceptions import SourceUnreadable

PORTS = {"https": 443, "ssh": 22}
# IPv4 addresses inside IPv6 ones, used by some networks (NAT64).
TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
# All public IPv6 addresses so far; those outside are reserved, or contain an IPv4 address.
UNICAST = ipaddress.ip_network("2000::/3")
# Public for Python, or for its older releases, but not in fact: metadata services of clouds (Azure,
# Oracle), and networks for examples and relays.
CLOSED = [
    ipaddress.ip_network(network)
    for network in ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "3fff::/20")
]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def pin_addresses(url: str) -> tuple[list[str], dict[str, str]]:
    """Return options and environment with which git connects only to checked addresses.

    Raises SourceUnreadable for a host that is not found or not public.
    """
    parts = urlsplit(url)
    host, port = parts.hostname, parts.port or PORTS.get(parts.scheme)
    if host is None or port is None:
        return [], {}
    ssh = {"GIT_SSH_COMMAND": "ssh -F none -o BatchMode=yes"}
    if host in map(str.lower, settings.COLLECTION_HOSTS):
        return [], ssh
    addresses = resolve_host(host, port)
    if not all(map(is_public, addresses)):
        raise SourceUnreadable(
            f"The host {host!r} is on a private network; name it in AMPLIFIERD_COLLECTION_HOSTS "
            "to fetch from it."
        )
    if not addresses:
        # A proxy may know the host, and connects itself.
        has_proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
        if parts.scheme == "https" and has_proxy:
            return [], ssh
        raise SourceUnreadable(f"The host {host!r} is not found; check the URL.")
    ssh["GIT_SSH_COMMAND"] += f" -o HostName={addresses[0]} -o HostKeyAlias={host}"
    return ["-c", f"http.curloptResolve={host}:{port}:{','.join(map(str, addresses))}"], ssh


def is_public(address: Address) -> bool:
    """Tell whether an address is public, also if it is an IPv4 address inside an IPv6 one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in TRANSLATED:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address not in UNICAST:
            return False
    closed = address.is_multicast or any(address in network for network in CLOSED)
    return address.is_global and not closed


def resolve_host(host: str, port: int) -> list[Address]:
    """Return the addresses of a host without duplicates; none if it is not found."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    addresses = [ipaddress.ip_address(str(item[4][0]).partition("%")[0]) for item in found]
    return list(dict.fromkeys(addresses))
