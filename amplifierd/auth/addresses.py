"""Addresses to listen on. Knows nothing of Django, because the settings import it."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches the address; a path is that of a Unix socket."""
    if host.startswith(("/", "unix:")) or host.rstrip(".").lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
