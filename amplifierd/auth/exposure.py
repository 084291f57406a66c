"""Where a daemon may listen: on loopback as it is, anywhere else only when it is prepared."""

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser

from amplifierd.common.errors import DATABASE_UNAVAILABLE
from amplifierd.common.program import command
from amplifierd.env import is_loopback
from amplifierd.models import ApiKey
from amplifierd.server import tls

NO_KEYS = (
    "Nobody could call: there is no API key yet. Make one first, it is shown once:\n"
    f"  {command('apikeys create NAME --owner OWNER')}"
)


def add_proxy_option(parser: CommandParser) -> None:
    """Add `--behind-proxy`; `manage.py` itself reads it, before the settings."""
    parser.add_argument(
        "--behind-proxy",
        action="store_true",
        help="a proxy that ends TLS is before it (AMPLIFIERD_BEHIND_PROXY=1)",
    )


def check(address: str) -> None:
    """Raise CommandError, with everything that is to be done first, if it must not listen there."""
    if found := find_errors(address):
        lines = "\n".join(f"  - {error}" for error in found)
        raise CommandError(f"amplifierd does not listen on {address} like this:\n{lines}")


def find_errors(address: str) -> list[str]:
    """Return everything that is to be done before a daemon may listen there."""
    try:
        tls.context()
    except ImproperlyConfigured as error:
        return [str(error)]
    # With any name allowed, a web page whose name is rebound to this machine could call.
    any_name = "*" in settings.NAMED_HOSTS
    errors = {
        "AMPLIFIERD_ALLOWED_HOSTS is *: name the hosts by which it is called.": any_name,
    }
    if _is_public(address):
        errors |= {
            "Name the hosts by which it is called: AMPLIFIERD_ALLOWED_HOSTS=amplifierd.example.com"
            "": not settings.NAMED_HOSTS,
            "API keys must be demanded where others can call: leave AMPLIFIERD_REQUIRE_KEYS unset,"
            " or set it to 1.": not settings.REQUIRE_KEYS,
            "Keys must not travel in the open: set AMPLIFIERD_TLS_CERT and AMPLIFIERD_TLS_KEY, or"
            " put a proxy before it that ends TLS, and say --behind-proxy"
            " (AMPLIFIERD_BEHIND_PROXY=1).": not (settings.BEHIND_PROXY or settings.TLS_CERT),
            "Debug pages tell too much: unset AMPLIFIERD_DEBUG.": settings.DEBUG,
        }
    return [error for error, applies in errors.items() if applies]


def check_keys(address: str) -> None:
    """Raise CommandError if others can call, keys are required and none exists.

    A database that is unavailable is no reason not to start: without it nobody is let in.
    """
    if not _is_public(address):
        return
    try:
        if not ApiKey.objects.not_revoked().exists():
            raise CommandError(NO_KEYS)
    except DATABASE_UNAVAILABLE:
        pass


def _is_public(address: str) -> bool:
    """Tell whether other programs than those of this machine can send requests."""
    return settings.BEHIND_PROXY or not is_loopback(address)
