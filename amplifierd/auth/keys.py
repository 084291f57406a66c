"""Creates, checks and revokes API keys; the only writer of their table."""

import contextlib
import hashlib
import hmac
import re
import secrets
import string
from datetime import datetime, timedelta
from typing import ClassVar

from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now

from amplifierd.common.callers import Everyone, Owner, Visibility
from amplifierd.common.errors import DATABASE_UNAVAILABLE
from amplifierd.common.program import command
from amplifierd.models import ApiKey, Scope

ALPHABET = string.ascii_lowercase + string.digits
KEY = re.compile(r"amp_([a-z0-9]{8})_([A-Za-z0-9_-]{43})", re.ASCII)
# The last use of a key is recorded at most once in this time.
USED = timedelta(minutes=1)


class InvalidKey(Exception):
    """The key is not valid; the message says what to do."""

    status: ClassVar[int] = 401

    def __init__(self, message: str | None = None) -> None:
        super().__init__(
            message or f"This API key is not known; create one with `{command('apikeys create')}`."
        )


def create(
    *, name: str, owner: str, scope: str = Scope.WRITE, expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """Create a key; return its row, and the key itself, which cannot be read again.

    It begins with the cell, if there are several: a proxy finds the cell of a request by it.
    """
    prefix = settings.CELL + "".join(
        secrets.choice(ALPHABET) for _ in range(8 - len(settings.CELL))
    )
    key = f"amp_{prefix}_{secrets.token_urlsafe(32)}"
    made = ApiKey.objects.create(
        prefix=prefix,
        digest=digest_of(key),
        name=name,
        owner=owner,
        scope=scope,
        expires_at=expires_at,
    )
    return made, key


def check(key: str) -> ApiKey:
    """Return the row of a key, and record that it is used; raise InvalidKey if it is not valid."""
    match = KEY.fullmatch(key)
    found = ApiKey.objects.with_clock().filter(prefix=match[1]).first() if match else None
    # A prefix that does not exist takes as long: the time must not show which ones do.
    expected = found.digest if found else "0" * 64
    if not hmac.compare_digest(expected, digest_of(key)) or found is None:
        raise InvalidKey
    if found.revoked_at is not None:
        raise InvalidKey("This API key has been revoked; ask for another one.")
    if found.state == "expired":
        raise InvalidKey("This API key has expired; ask for another one.")
    # A caller that only reads must not fail because the database takes no writes.
    if found.last_used_at is None or found.last_used_at < found.now - USED:
        stale = Q(last_used_at=None) | Q(last_used_at__lt=Now() - USED)
        with contextlib.suppress(*DATABASE_UNAVAILABLE):
            ApiKey.objects.filter(stale, pk=found.pk).update(last_used_at=Now())
    return found


def revoke(prefix: str) -> ApiKey | None:
    """Revoke a key and return its row; None if there is none. A second time changes nothing."""
    ApiKey.objects.not_revoked().filter(prefix=prefix).update(revoked_at=Now())
    return ApiKey.objects.filter(prefix=prefix).first()


def find_rights(owner: str) -> Visibility:
    """Return with whose rights the sessions of an owner work: see `common.callers.find_rights`.

    Those of an owner with a valid admin key work with an admin's, and so do sessions that were made
    without a key: by the operator, on this machine or in the console.
    """
    if not owner:
        return Everyone()
    valid = Q(expires_at=None) | Q(expires_at__gt=Now())
    admins = ApiKey.objects.not_revoked().filter(valid, owner=owner, scope=Scope.ADMIN)
    return Everyone() if admins.exists() else Owner(owner)


def digest_of(key: str) -> str:
    """Return the hash of a key. It has 256 random bits: no salt or stretching is needed."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
