"""Checks of how the daemon is reached: port, address, certificate, proxies, API keys."""

import errno
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from cryptography import x509
from django.conf import settings

from amplifierd.auth import exposure
from amplifierd.common.outbound import (
    PORTS,
    VARIABLE,
    AddressRefused,
    HostNotFound,
    rules_for_profiles,
)
from amplifierd.common.program import command
from amplifierd.doctor import CheckResult, error, machine, ok, warning
from amplifierd.models import ApiKey
from amplifierd.supervisor import instance
from profiles_app.models import Profile
from sessions_app.engine.registry import list_addresses
from sessions_app.engine.wire.proxies import find_bad_variables, find_variables

# Seconds for an answer of the daemon.
PATIENCE = 5.0
# Days before the end of a certificate from which on it should be renewed.
RENEWAL = 21


def port() -> Iterator[CheckResult]:
    """Check which program listens: this data folder's daemon, none, or another one."""
    if served := machine.find_daemon():
        url, who = served["url"], f"the daemon (pid {served['pid']})"
        try:
            status, detail = _ask_readiness(url)
        except (OSError, ValueError) as reason:
            todo = (
                "Wait if it has just started; otherwise stop it, kill what is left, start it again."
            )
            yield error("port", f"{url}: {who} does not answer: {reason}", todo)
            return
        if status == 200:
            yield ok("port", f"{url}: {who} answers and is ready")
        else:
            says = f"{url}: {who} answers {status}: {detail}"
            yield error("port", says, "Correct what it names.")
        return
    where = f"{settings.HOST}, port {settings.PORT}"
    try:
        instance.listen(settings.HOST, settings.PORT).close()
    except instance.PortTaken as taken:
        cause = taken.__cause__
        if isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE:
            todo = "Stop it, or set AMPLIFIERD_PORT to another port."
            yield error("port", f"{where} is taken by {_find_listener(settings.PORT)}", todo)
        else:
            todo = "Set AMPLIFIERD_HOST and AMPLIFIERD_PORT to what this user may listen on."
            yield error("port", f"{where} cannot be had: {cause}", todo)
    else:
        yield ok("port", f"{where} is free; no daemon runs on this data folder")


def address() -> Iterator[CheckResult]:
    """Check that the daemon may listen on the address of the settings, and its certificate."""
    faults = exposure.find_errors(settings.HOST)
    for fault in faults:
        says, _, todo = fault.partition(": ")
        yield error("address", f"{settings.HOST}: {says}", todo or says)
    if faults:
        return
    if settings.DEBUG:
        yield warning("address", "debug pages are on", "Unset AMPLIFIERD_DEBUG.")
    if settings.TLS_CERT:
        path = Path(settings.TLS_CERT)
        end = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
        left = end - datetime.now(UTC)
        says, todo = f"{path} ends on {end:%Y-%m-%d}", "Renew it, and start the daemon again."
        if left >= timedelta(days=RENEWAL):
            yield ok("certificate", says)
        else:
            yield (error if left < timedelta(0) else warning)("certificate", says, todo)
    keys = "API keys are required" if settings.REQUIRE_KEYS else "no keys are required"
    who = "others can reach it" if settings.PUBLIC else "only this machine reaches it"
    yield ok("address", f"{settings.HOST}: {who}, {keys}")


def proxies() -> Iterator[CheckResult]:
    """Check that the proxies that the environment names can be used."""
    bad = list(find_bad_variables())
    for variable, says in bad:
        todo = f"Set {variable} to http://host:port or socks5://host:port, or unset it; restart."
        yield error("proxies", says.partition(":")[0], todo)
    if not bad:
        used = find_variables()
        yield ok("proxies", f"{', '.join(used)} can be used" if used else "none are named")


def outbound() -> Iterator[CheckResult]:
    """Check that the services and the MCP servers that profiles name may be connected to."""
    rules, refused, known = rules_for_profiles(), [], set()
    for profile in Profile.objects.order_by("collection", "name"):
        for module, url in list_addresses(profile.definition):
            parts = urlsplit(url)
            place = (parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0))
            if place in known:
                continue
            known.add(place)
            try:
                rules.resolve(*place)
            except AddressRefused as refusal:
                refused.append((f"{profile}, {module}", str(refusal)))
            except (HostNotFound, ValueError):
                continue
    for where, says in refused:
        todo = f"List the host in {VARIABLE} for web processes and workers, or change the profile."
        yield warning("outbound", f"{where}: {says}", todo)
    if not refused:
        listed = ", ".join(settings.OUTBOUND_HOSTS) or "none"
        scope = "profiles may name them" if rules.allows_private else f"open are {listed}"
        yield ok("outbound", f"private addresses: {scope}")


def api_keys() -> Iterator[CheckResult]:
    """Check that there is a key if keys are required."""
    if not settings.REQUIRE_KEYS:
        return
    count = ApiKey.objects.not_revoked().count()
    if count:
        yield ok("API keys", f"{count} that let in")
    else:
        todo = f"Make one: `{command('apikeys create NAME --owner OWNER')}`."
        yield error("API keys", "there is none, so nobody can call", todo)


def _ask_readiness(url: str) -> tuple[int, str]:
    """Return the status of /readyz and the detail of a problem; raise OSError or ValueError."""
    parts = urlsplit(url)
    # The address for "all addresses" cannot be called. Any certificate will do: we call ourselves.
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(parts.hostname or "")  # noqa: S104
    base = f"{parts.scheme}://{host}:{parts.port}" if host else url
    trusting = ssl._create_unverified_context()  # noqa: S323
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting)
    )
    try:
        with direct.open(f"{base}/readyz", timeout=PATIENCE) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as problem:
        with problem:
            try:
                return problem.code, str(json.loads(problem.read())["detail"])
            except (ValueError, KeyError, TypeError):
                return problem.code, "no problem details"


def _find_listener(number: int) -> str:
    """Describe the program that listens on the port, if this user may see it."""
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
        return "another program, which this user may not see"
