"""Where a daemon may listen: on loopback as it is, anywhere else only when it is prepared."""

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from amplifierd.auth.addresses import is_loopback
from amplifierd.common.errors import DATABASE_UNAVAILABLE
from amplifierd.models import ApiKey
from amplifierd.server import tls

NO_KEYS = (
    "Nobody could call: there is no API key yet. Make one first, it is shown once:\n"
    "  manage.py apikeys create NAME --owner OWNER"
)


def check(address: str) -> None:
    """Raise CommandError, with all that is to be done, unless a daemon may listen there."""
    if found := faults(address):
        lines = "\n".join(f"  - {fault}" for fault in found)
        raise CommandError(f"amplifierd does not listen on {address} like this:\n{lines}")


def faults(address: str) -> list[str]:
    """Return all that is to be done before a daemon may listen there."""
    return _tls_faults() or _faults(address)


def check_keys(address: str) -> None:
    """Raise CommandError where keys are demanded of others and there is none to show.

    A database that is away is no reason not to start: without it nobody is let in.
    """
    if not _is_public(address):
        return
    try:
        if not ApiKey.objects.kept().exists():
            raise CommandError(NO_KEYS)
    except DATABASE_UNAVAILABLE:
        pass


def _is_public(address: str) -> bool:
    """Tell whether others than this machine's programs can send requests."""
    return settings.BEHIND_PROXY or not is_loopback(address)


def _faults(address: str) -> list[str]:
    """Return what is to be done before this address may be listened on."""
    # By any name: a page that is rebound to this machine would be let in.
    wide = "*" in settings.NAMED_HOSTS
    faults = {
        "AMPLIFIERD_ALLOWED_HOSTS is *: name the hosts by which it is called.": wide,
    }
    if _is_public(address):
        faults |= {
            "Name the hosts by which it is called: AMPLIFIERD_ALLOWED_HOSTS=amplifierd.example.com"
            "": not settings.NAMED_HOSTS,
            "API keys must be demanded where others can call: leave AMPLIFIERD_REQUIRE_KEYS unset,"
            " or set it to 1.": not settings.REQUIRE_KEYS,
            "Keys must not travel in the open: set AMPLIFIERD_TLS_CERT and AMPLIFIERD_TLS_KEY, or"
            " put a proxy before it that ends TLS, and say --behind-proxy"
            " (AMPLIFIERD_BEHIND_PROXY=1).": not (settings.BEHIND_PROXY or settings.TLS_CERT),
            "Debug pages tell too much: unset AMPLIFIERD_DEBUG.": settings.DEBUG,
        }
    return [fault for fault, is_there in faults.items() if is_there]


def _tls_faults() -> list[str]:
    try:
        tls.context()
    except ImproperlyConfigured as error:
        return [str(error)]
    return []
