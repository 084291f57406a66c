"""Settings from the environment, and from a `.env` file."""

import contextlib
import ipaddress
import os
import re
import secrets
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from dotenv import load_dotenv

from amplifierd.common.outbound import parse_exceptions
from amplifierd.common.program import env_file

# With these a lost server or network is noticed within some ten seconds. TCP alone would wait for
# a quarter of an hour, and a thread with it.
VIGILANCE = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
# Of several hosts the next one is tried after so many seconds.
CONNECT_SECONDS_EACH = 3
# With these the server notices a lost client, whose transaction may hold the lock of a session, and
# ends a statement whose client waits no longer.
SERVER_VIGILANCE = (
    "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"
    " -c client_connection_check_interval=1s"
)
# The variable with the URL that no proxy is behind.
DIRECT_NAME = "AMPLIFIERD_LISTEN_URL"
# A prepared statement, and one of a trigger, is planned once for each connection. By itself
# PostgreSQL plans the first five executions anew, which takes longer than they do.
PLANNING = "-c plan_cache_mode=force_generic_plan"

# Variables of the environment win over the file.
ENV_FILE = env_file()
load_dotenv(ENV_FILE)


def text(name: str, default: str = "") -> str:
    """Return the variable, or the default if it is empty or not set."""
    return os.environ.get(name) or default


def number(name: str, default: int) -> int:
    """Return the variable as an integer; raise ImproperlyConfigured if it is not one."""
    value = text(name, str(default))
    try:
        return int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value!r}.") from None


def flag(name: str, default: bool = False) -> bool:
    """Return the variable as a truth value: 1, true, yes and on are true."""
    return text(name, str(default)).lower() in {"1", "true", "yes", "on"}


def choice(name: str, choices: Collection[str]) -> str:
    """Return the variable, which must be one of the choices; raise ImproperlyConfigured."""
    value = text(name).lower()
    if value not in choices:
        known = ", ".join(filter(None, choices))
        raise ImproperlyConfigured(f"{name} must be one of {known}, not {value!r}.")
    return value


def words(name: str) -> list[str]:
    """Return the variable split at commas, without blanks."""
    return [word.strip() for word in text(name).split(",") if word.strip()]


def hosts(name: str) -> list[str]:
    """Return the variable as a list of hosts; raise ImproperlyConfigured for another entry."""
    try:
        parse_exceptions(tuple(words(name)))
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}") from None
    return words(name)


def url_prefix(name: str, taken: Collection[str]) -> str:
    """Return the variable as a path without a slash at its end, empty if it is not set or `/`.

    It must not begin with one of `taken`, the first parts of our own paths.
    """
    value = text(name).strip("/")
    if not value:
        return ""
    if not re.fullmatch(r"[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*", value) or ".." in value:
        raise ImproperlyConfigured(
            f"{name} must be a path such as /amplifierd, of letters, digits, dots and dashes,"
            f" not {value!r}."
        )
    if value.partition("/")[0] in taken:
        raise ImproperlyConfigured(
            f"{name} must not begin with /{value}, which is one of our own paths."
        )
    return f"/{value}"


def cell(name: str) -> str:
    """Return the variable, two hex digits or nothing; raise ImproperlyConfigured for others."""
    value = text(name)
    if value and not re.fullmatch("[0-9a-f]{2}", value):
        raise ImproperlyConfigured(f"{name} must be two hex digits such as 0a, not {value!r}.")
    return value


def folder(name: str, default: Path) -> Path:
    """Return the variable as an absolute path, `~` expanded; the folder need not exist."""
    return Path(text(name, str(default))).expanduser().absolute()


def secret_key(home: Path) -> str:
    """Return AMPLIFIERD_SECRET_KEY, or the key in the data folder, created when first needed."""
    if key := text("AMPLIFIERD_SECRET_KEY"):
        return key
    path = home / "secret_key"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(50))
        # If two processes do this at once, the first one's key stays.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text()


def database(
    url: str,
    pool_size: int,
    absent: Callable[[Any], None] | None = None,
    *,
    name: str = "DATABASE_URL",
    direct: str = "",
) -> dict[str, Any]:
    """Return Django's settings for a PostgreSQL URL, with a pool of at most `pool_size`.

    The URL, that of the variable `name`, is libpq's (`postgresql://user@host/name?sslmode=…`). It
    may have several hosts; then connections go to the one that takes writes. Parameters for which
    Django has no setting go to the connection unchanged, and win over `VIGILANCE`. `absent` is
    called when the pool has failed to connect.

    If the URL leads to a proxy that pools transactions, `direct` is the URL without it; what
    differs for that is in the settings as `DIRECT`. Such a proxy takes no options of connections.
    """
    # Imported here, so that the terminal's commands, which use this module, start without it.
    import psycopg.conninfo

    from amplifierd.common.deadlines import Connection

    try:
        parts = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        # Some of its messages quote the URL, which may have a password.
        reason = str(error).strip().replace(url, "…")
        raise ImproperlyConfigured(f"{name} cannot be read: {reason}") from None
    names = {"NAME": "dbname", **{key.upper(): key for key in ("user", "password", "host", "port")}}
    known = {key: str(parts.pop(name, "") or "") for key, name in names.items()}
    vigilance: dict[str, Any] = dict(VIGILANCE)
    if "," in known["HOST"] or "," in str(parts.get("hostaddr", "")):
        vigilance |= {"target_session_attrs": "read-write", "connect_timeout": CONNECT_SECONDS_EACH}
    own_options = "" if direct else f"{SERVER_VIGILANCE} {PLANNING}"
    options = f"{own_options} {parts.pop('options', '')}".strip()
    if options:
        parts["options"] = options
    # A larger CONN_MAX_AGE would keep a connection per thread outside the pool.
    # There are more connections than threads, so a thread waits for one only during an outage.
    # The pool's own retries would become rarer the longer an outage lasts, and its end would be
    # noticed late; the next request tries again instead.
    pool: dict[str, Any] = {
        "connection_class": Connection,
        "min_size": 1,
        "max_size": pool_size,
        # One that has not been needed for so long is closed; each takes 3 to 8 MB of the server.
        "max_idle": 15,
        # The server keeps what a large statement has needed, up to tens of megabytes.
        "max_lifetime": 600,
        "timeout": 2,
        "reconnect_timeout": 1,
    }
    if absent:
        pool["reconnect_failed"] = absent
    return {
        "ENGINE": "amplifierd.postgres.backend",
        **known,
        "CONN_MAX_AGE": 0,
        # The project's backend checks itself whether a connection of the pool still works.
        "CONN_HEALTH_CHECKS": False,
        # A cursor of the server would outlive its transaction, on another client's connection.
        "DISABLE_SERVER_SIDE_CURSORS": bool(direct),
        "DIRECT": database(direct, pool_size, absent, name=DIRECT_NAME) if direct else {},
        "OPTIONS": {**vigilance, **parts, "pool": pool},
    }


def count_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address, or the path of a Unix socket."""
    if host.startswith(("/", "unix:")) or host.rstrip(".").lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
