"""How it is reached: the port, who has it, and what a public address asks for."""

import errno
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from cryptography import x509
from django.conf import settings

from amplifierd.auth import exposure
from amplifierd.common.program import command
from amplifierd.doctor import machine
from amplifierd.doctor.findings import Finding, error, ok, warning
from amplifierd.models import ApiKey
from amplifierd.supervisor import instance
from sessions_app.engine.wire.proxies import find_bad_variables, find_variables

# Seconds for an answer of the daemon.
PATIENCE = 5.0
# Days before the end of a certificate in which it is to be renewed.
RENEWAL = 21


def port() -> Iterator[Finding]:
    """Look who listens: this data folder's daemon, nobody, or another program."""
    if served := machine.find_daemon():
        yield _answering(served)
        return
    where = f"{settings.HOST}, port {settings.PORT}"
    try:
        instance.listen(settings.HOST, settings.PORT).close()
    except instance.PortTaken as refusal:
        yield _bind_error(where, refusal.__cause__)
    else:
        yield ok("port", f"{where} is free; no daemon runs on this data folder")


def address() -> Iterator[Finding]:
    """Look whether it may listen where the settings say."""
    faults = exposure.find_errors(settings.HOST)
    for fault in faults:
        says, _, todo = fault.partition(": ")
        yield error("address", f"{settings.HOST}: {says}", todo or says)
    if settings.DEBUG and not faults:
        yield warning("address", "debug pages are on", "Unset AMPLIFIERD_DEBUG.")
    if settings.TLS_CERT and not faults:
        yield _certificate(Path(settings.TLS_CERT))
    if not faults:
        keys = "API keys are demanded" if settings.REQUIRE_KEYS else "no keys are demanded"
        who = "others can reach it" if settings.PUBLIC else "only this machine reaches it"
        yield ok("address", f"{settings.HOST}: {who}, {keys}")


def proxies() -> Iterator[Finding]:
    """Look whether the proxies that the environment names can be used."""
    bad = list(find_bad_variables())
    for variable, says in bad:
        todo = f"Set {variable} to http://host:port or socks5://host:port, or unset it; restart."
        yield error("proxies", says.partition(":")[0], todo)
    if not bad:
        used = find_variables()
        yield ok("proxies", f"{', '.join(used)} can be used" if used else "none are named")


def api_keys() -> Iterator[Finding]:
    """Look whether anybody could call where keys are demanded."""
    if not settings.REQUIRE_KEYS:
        return
    count = ApiKey.objects.not_revoked().count()
    if count:
        yield ok("API keys", f"{count} that let in")
    else:
        todo = f"Make one: `{command('apikeys create NAME --owner OWNER')}`."
        yield error("API keys", "there is none, so nobody can call", todo)


def _answering(served: dict[str, Any]) -> Finding:
    """Ask the daemon whether it is ready."""
    url, who = served["url"], f"the daemon (pid {served['pid']})"
    try:
        status, detail = _ask_readiness(url)
    except (OSError, ValueError) as reason:
        todo = "Wait if it has just started; else stop it, kill what is left, start it again."
        return error("port", f"{url}: {who} does not answer: {reason}", todo)
    if status == 200:
        return ok("port", f"{url}: {who} answers and is ready")
    return error("port", f"{url}: {who} answers {status}: {detail}", "Mend what it says.")


def _ask_readiness(url: str) -> tuple[int, str]:
    """Return the status of /readyz and what is said; raise OSError or ValueError."""
    parts = urlsplit(url)
    # An address that stands for all of them is none to call; and who answers is known.
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(parts.hostname or "")  # noqa: S104
    base = f"{parts.scheme}://{host}:{parts.port}" if host else url
    trusting = ssl._create_unverified_context()  # noqa: S323
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting)
    )
    try:
        with direct.open(f"{base}/readyz", timeout=PATIENCE) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as refusal:
        with refusal:
            try:
                return refusal.code, str(json.loads(refusal.read())["detail"])
            except (ValueError, KeyError, TypeError):
                return refusal.code, "nothing that can be read"


def _bind_error(where: str, reason: BaseException | None) -> Finding:
    if isinstance(reason, OSError) and reason.errno == errno.EADDRINUSE:
        todo = "Stop it, or set AMPLIFIERD_PORT to another port."
        return error("port", f"{where} is taken by {_listener(settings.PORT)}", todo)
    todo = "Set AMPLIFIERD_HOST and AMPLIFIERD_PORT to what this user may listen on."
    return error("port", f"{where} cannot be had: {reason}", todo)


def _listener(number: int) -> str:
    """Return which program listens, as far as we may know."""
    try:
        found = [
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
            and connection.laddr
            and connection.laddr.port == number
            and connection.pid
        ]
        process = psutil.Process(found[0])
        return f"{' '.join(process.cmdline()[:3]) or process.name()} (pid {process.pid})"
    except (psutil.Error, IndexError, OSError):
        return "another program, which this user may not look at"


def _certificate(path: Path) -> Finding:
    """Look for how long the certificate is good."""
    end = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    left = end - datetime.now(UTC)
    says, todo = f"{path} ends on {end:%Y-%m-%d}", "Renew it, and start the daemon again."
    if left < timedelta(0):
        return error("certificate", says, todo)
    if left < timedelta(days=RENEWAL):
        return warning("certificate", says, todo)
    return ok("certificate", says)
