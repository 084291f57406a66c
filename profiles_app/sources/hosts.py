"""The hosts from which collections may be fetched: public ones, and those in the settings.

Without this a client could have the daemon fetch from hosts that only the daemon can reach. Git
connects only to the addresses that were checked, so a name that changes meanwhile has no effect.
"""

import os
from urllib.parse import urlsplit

from django.conf import settings

from amplifierd.common.outbound import AddressRefused, HostNotFound, rules_for_callers
from profiles_app.exceptions import SourceUnreadable

PORTS = {"https": 443, "ssh": 22}


def pin_addresses(url: str) -> tuple[list[str], dict[str, str]]:
    """Return options and environment with which git connects only to checked addresses.

    Raises SourceUnreadable for a host that is not found or not public.
    """
    parts = urlsplit(url)
    host, port = parts.hostname, parts.port or PORTS.get(parts.scheme)
    if host is None or port is None:
        return [], {}
    ssh = {"GIT_SSH_COMMAND": "ssh -F none -o BatchMode=yes"}
    try:
        addresses = rules_for_callers(settings.COLLECTION_HOSTS).resolve(host, port)
    except AddressRefused as error:
        raise SourceUnreadable(str(error)) from None
    except HostNotFound as error:
        # A proxy may know the host, and connects itself.
        has_proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
        if parts.scheme == "https" and has_proxy:
            return [], ssh
        raise SourceUnreadable(str(error)) from None
    ssh["GIT_SSH_COMMAND"] += f" -o HostName={addresses[0]} -o HostKeyAlias={host}"
    return ["-c", f"http.curloptResolve={host}:{port}:{','.join(map(str, addresses))}"], ssh
