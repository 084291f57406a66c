"""Settings from the environment, and from a `.env` file.

The file is beside `manage.py` in a checkout, and in the data folder of an installed package.
"""

import ipaddress
import os
import re
import secrets
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from dotenv import load_dotenv

from amplifierd.common.program import BASE_DIR, IS_CHECKOUT

DEFAULT_HOME = Path("~/.amplifierd")

# If the server's machine or the network to it is gone, this is noticed within some ten seconds;
# TCP by itself would wait for a quarter of an hour, and a thread with it.
VIGILANCE = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
# And the server notices a client that is gone so: its transaction may hold the lock of a session.
SERVER_VIGILANCE = "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"

# What is already in the environment wins over the file.
ENV_FILE = (
    BASE_DIR
    if IS_CHECKOUT
    else Path(os.environ.get("AMPLIFIERD_HOME") or DEFAULT_HOME).expanduser()
) / ".env"
load_dotenv(ENV_FILE)


def text(name: str, default: str = "") -> str:
    """Return the variable; an empty one counts as not set."""
    return os.environ.get(name) or default


def number(name: str, default: int) -> int:
    """Return the variable as an integer; raise ImproperlyConfigured if it is none."""
    value = text(name, str(default))
    try:
        return int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value!r}.") from None


def flag(name: str, default: bool = False) -> bool:
    """Return the variable as a truth value: 1, true, yes and on are true."""
    return text(name, str(default)).lower() in {"1", "true", "yes", "on"}


def words(name: str) -> list[str]:
    """Return the variable split at commas, without blanks."""
    return [word.strip() for word in text(name).split(",") if word.strip()]


def url_prefix(name: str, taken: Collection[str]) -> str:
    """Return the variable as a path without a slash at its end, empty if it is not set or `/`.

    `taken` are first parts of our own paths, which nobody could tell from the prefix.
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
        raise ImproperlyConfigured(f"{name} must not begin with /{value}, which is a path of ours.")
    return f"/{value}"


def folder(name: str, default: Path) -> Path:
    """Return the variable as an absolute path, `~` expanded; the folder need not exist."""
    return Path(text(name, str(default))).expanduser().absolute()


def secret_key(home: Path) -> str:
    """Return AMPLIFIERD_SECRET_KEY, or the key kept in the data folder, made on first use."""
    if key := text("AMPLIFIERD_SECRET_KEY"):
        return key
    path = home / "secret_key"
    if not path.exists():
        _create_secret(path)
    return path.read_text()


def _create_secret(path: Path) -> None:
    """Write a new key for the owner alone; of two processes that race, the first one's stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(secrets.token_urlsafe(50))
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def database(
    url: str, pool_size: int, absent: Callable[[Any], None] | None = None
) -> dict[str, Any]:
    """Return Django's settings for a PostgreSQL URL, with a pool of at most `pool_size`.

    The URL is libpq's (`postgresql://user@host/name?sslmode=…`); what Django has no key for
    goes to the connection as it is, and wins over `VIGILANCE`. `absent` is called when the pool has
    failed to connect.
    """
    # Only the settings need it; the terminal's commands, which read this file too, start without.
    import psycopg.conninfo

    try:
        parts = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise ImproperlyConfigured(f"DATABASE_URL cannot be read: {error}") from None
    names = {"NAME": "dbname", **{key.upper(): key for key in ("user", "password", "host", "port")}}
    known = {key: str(parts.pop(name, "") or "") for key, name in names.items()}
    options = f"{SERVER_VIGILANCE} {parts.pop('options', '')}".strip()
    # A larger CONN_MAX_AGE would keep a connection per thread outside the pool.
    # There are more connections than threads, so nobody waits for one but while the server is away.
    # The pool's own pauses between attempts would grow with the length of an absence, and with them
    # the time until we notice its end; the next request tries anew instead.
    pool: dict[str, Any] = {
        "min_size": 1,
        "max_size": pool_size,
        "timeout": 2,
        "reconnect_timeout": 1,
    }
    if absent:
        pool["reconnect_failed"] = absent
    return {
        "ENGINE": "amplifierd.postgres.backend",
        **known,
        "CONN_MAX_AGE": 0,
        # The backend itself looks whether a connection of the pool still works.
        "CONN_HEALTH_CHECKS": False,
        "OPTIONS": {**VIGILANCE, **parts, "options": options, "pool": pool},
    }


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches the address; a path is that of a Unix socket."""
    if host.startswith(("/", "unix:")) or host.rstrip(".").lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
