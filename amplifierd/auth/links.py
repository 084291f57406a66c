"""Links that sign in to the console: each works once, for some minutes, on this machine only.

A link is stored as a file in the data folder, named by the hash of its token; the request that
removes the file is signed in. A user that may read that folder may do anything to the daemon
anyway. This module needs the settings and no apps, so that `console_link` answers at once.
"""

import hashlib
import re
import secrets
import sys
import time
from pathlib import Path
from urllib.parse import quote

from django.conf import settings

from amplifierd.common.program import command
from amplifierd.supervisor import instance

# Seconds for which a link is valid.
LIFETIME = 15 * 60
# Of all links that people ask for on the login page, one is made in so many seconds.
PAUSE = 10
TOKEN = re.compile(r"[\w-]{43}")


class InvalidLink(Exception):
    """Nobody is signed in; the message says what to do."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(
            message
            or f"It was used, or its time has run out: {command('console_link')} prints another."
        )


class AskedTooSoon(Exception):
    """A link was made for the login page a moment ago; `wait` is in seconds."""

    def __init__(self, wait: int) -> None:
        super().__init__(
            f"A link was printed a moment ago. Look at the daemon's terminal, or ask again in"
            f" {wait} s."
        )
        self.wait = wait


def make_link(url: str, page: str = "") -> str:
    """Return a new link below the daemon's URL, which leads to `page`, by default to the dashboard.

    Raises InvalidLink if other machines can reach the daemon.
    """
    if settings.PUBLIC:
        raise InvalidLink(
            "Links work only if no other machine can reach the daemon; "
            f"`{command('createsuperuser')}` creates a login with a password."
        )
    token = secrets.token_urlsafe(32)
    file_of(token).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in file_of(token).parent.iterdir():
        if age(old) > LIFETIME:
            old.unlink(missing_ok=True)
    file_of(token).touch(mode=0o600)
    query = f"?next={quote(page)}" if page else ""
    return f"{url.rstrip('/')}{settings.PREFIX}/admin/sign-in/{token}/{query}"


def print_link() -> None:
    """Print a link of the daemon on this data folder: the command `console_link`.

    Raises InvalidLink if there can be none.
    """
    print(make_link(daemon_url()))
    if not instance.noted_url(settings.HOME):
        print(
            f"No daemon that `serve` started runs on {settings.HOME}. If yours has another data"
            " folder, set AMPLIFIERD_HOME to it: the link works only there.",
            file=sys.stderr,
        )


def print_asked_link(page: str) -> None:
    """Print a link for somebody at the login page, on the terminal or in the log of the daemon.

    Raises AskedTooSoon, whichever process made the link before; InvalidLink if nothing can be
    printed.
    """
    now = time.time()
    slot = file_of("").with_name(f"asked-{int(now // PAUSE)}")
    slot.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        # Of several requests at once, only one creates the file.
        slot.touch(mode=0o600, exist_ok=False)
    except FileExistsError:
        raise AskedTooSoon(PAUSE - int(now % PAUSE)) from None
    link = make_link(daemon_url(), page)
    hint = f"once, within {LIFETIME // 60} minutes; asked for on the login page"
    try:
        sys.stdout.write(f"  Sign in    {link}\n             {hint}\n")
        sys.stdout.flush()
    except (OSError, ValueError):
        raise InvalidLink(
            f"The daemon's terminal is gone. Run {command('console_link')} in another one."
        ) from None


def daemon_url() -> str:
    """Return the URL that `serve` has noted, or that of the settings for other daemons."""
    if url := instance.noted_url(settings.HOME):
        return url
    scheme = "https" if settings.TLS_CERT else "http"
    host = f"[{settings.HOST}]" if ":" in settings.HOST else settings.HOST
    return f"{scheme}://{host}:{settings.PORT}"


def is_valid(token: str) -> bool:
    return bool(TOKEN.fullmatch(token)) and age(file_of(token)) <= LIFETIME


def age(file: Path) -> float:
    """Return the seconds since a file was created; infinity if it does not exist."""
    try:
        return max(0.0, time.time() - file.stat().st_mtime)
    except FileNotFoundError:
        return float("inf")


def file_of(token: str) -> Path:
    return settings.HOME / "signin" / hashlib.sha256(token.encode()).hexdigest()
