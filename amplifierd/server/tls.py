"""TLS of our own, for a daemon that has no proxy before it."""

from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from OpenSSL import SSL


class ContextFactory:
    """Gives Twisted the one context that all connections share; the names are Twisted's."""

    def __init__(self, context: SSL.Context) -> None:
        self.context = context

    def getContext(self) -> SSL.Context:
        """Return the context."""
        return self.context


def context() -> SSL.Context | None:
    """Return what AMPLIFIERD_TLS_CERT and AMPLIFIERD_TLS_KEY make, None if they are not set.

    The certificate's file holds its chain as well. Raises ImproperlyConfigured with a reason.
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
    made = SSL.Context(SSL.TLS_SERVER_METHOD)
    made.set_min_proto_version(SSL.TLS1_2_VERSION)
    try:
        made.use_certificate_chain_file(settings.TLS_CERT)
        made.use_privatekey_file(settings.TLS_KEY)
        made.check_privatekey()
    except SSL.Error as error:
        raise ImproperlyConfigured(
            f"TLS cannot be served with AMPLIFIERD_TLS_CERT={settings.TLS_CERT} and"
            f" AMPLIFIERD_TLS_KEY={settings.TLS_KEY}: {_reason(error)}."
        ) from None
    return made


def _reason(error: SSL.Error) -> str:
    """Return what OpenSSL says, without its places in the code."""
    reasons = [entry[-1] for entry in (error.args[0] if error.args else []) if entry[-1]]
    return ", ".join(reasons) or "the files cannot be read, or do not belong together"
