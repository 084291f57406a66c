"""Where a daemon may listen: on loopback always, elsewhere only if it is set up safely."""

from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from OpenSSL import SSL

from amplifierd.common.errors import DATABASE_UNAVAILABLE
from amplifierd.common.program import command
from amplifierd.env import is_loopback
from amplifierd.models import ApiKey

NO_KEYS = (
    "Nobody could call: there is no API key yet. Create one first; it is shown only once:\n"
    f"  {command('apikeys create NAME --owner OWNER')}"
)


def add_proxy_option(parser: CommandParser) -> None:
    """Add `--behind-proxy`; the command line itself reads it, before the settings."""
    parser.add_argument(
        "--behind-proxy",
        action="store_true",
        help="a proxy that ends TLS is in front of it (AMPLIFIERD_BEHIND_PROXY=1)",
    )


def check(address: str) -> None:
    """Raise CommandError, with everything to do first, if the daemon must not listen there."""
    if found := find_errors(address):
        lines = "\n".join(f"  - {error}" for error in found)
        raise CommandError(f"amplifierd does not listen on {address} like this:\n{lines}")


def find_errors(address: str) -> list[str]:
    """Return everything to do before the daemon may listen there."""
    try:
        tls_context()
    except ImproperlyConfigured as error:
        return [str(error)]
    # If any name is allowed, a web page can bind its own name to this machine (DNS rebinding).
    any_name = "*" in settings.NAMED_HOSTS
    errors = {"AMPLIFIERD_ALLOWED_HOSTS is *: name the hosts by which it is called.": any_name}
    if _is_public(address):
        errors |= {
            "Name the hosts by which it is called: AMPLIFIERD_ALLOWED_HOSTS=amplifierd.example.com"
            "": not settings.NAMED_HOSTS,
            "API keys must be required if others can call: leave AMPLIFIERD_REQUIRE_KEYS unset,"
            " or set it to 1.": not settings.REQUIRE_KEYS,
            "Keys must not travel in the open: set AMPLIFIERD_TLS_CERT and AMPLIFIERD_TLS_KEY, or"
            " put a proxy in front of it that ends TLS, and add --behind-proxy"
            " (AMPLIFIERD_BEHIND_PROXY=1).": not (settings.BEHIND_PROXY or settings.TLS_CERT),
            "Debug pages show secrets: unset AMPLIFIERD_DEBUG.": settings.DEBUG,
        }
    return [error for error, applies in errors.items() if applies]


def tls_context() -> SSL.Context | None:
    """Return the context of AMPLIFIERD_TLS_CERT and AMPLIFIERD_TLS_KEY; None if they are not set.

    The certificate's file includes its chain. Raises ImproperlyConfigured with a reason.
    """
    if not (settings.TLS_CERT or settings.TLS_KEY):
        return None
    if not (settings.TLS_CERT and settings.TLS_KEY):
        raise ImproperlyConfigured(
            "TLS needs both AMPLIFIERD_TLS_CERT and AMPLIFIERD_TLS_KEY, the paths of PEM files."
        )
    for path in (settings.TLS_CERT, settings.TLS_KEY):
        # OpenSSL's own reason would be hard to understand.
        try:
            Path(path).open("rb").close()
        except OSError as error:
            raise ImproperlyConfigured(f"TLS needs {path}, and cannot read it: {error}.") from None
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    try:
        context.use_certificate_chain_file(settings.TLS_CERT)
        context.use_privatekey_file(settings.TLS_KEY)
        context.check_privatekey()
    except SSL.Error as error:
        # Each entry has the library, the function and the reason.
        reasons = [entry[-1] for entry in (error.args[0] if error.args else []) if entry[-1]]
        reason = ", ".join(reasons) or "the files cannot be read, or do not belong together"
        raise ImproperlyConfigured(
            f"TLS cannot be served with AMPLIFIERD_TLS_CERT={settings.TLS_CERT} and"
            f" AMPLIFIERD_TLS_KEY={settings.TLS_KEY}: {reason}."
        ) from None
    return context


def check_keys(address: str) -> None:
    """Raise CommandError if others can call, keys are required and none exists.

    If the database is unavailable the daemon starts: without it every request is refused.
    """
    if not _is_public(address):
        return
    try:
        if not ApiKey.objects.not_revoked().exists():
            raise CommandError(NO_KEYS)
    except DATABASE_UNAVAILABLE:
        pass


def _is_public(address: str) -> bool:
    """Tell whether programs of other machines can send requests."""
    return settings.BEHIND_PROXY or not is_loopback(address)
