"""One effect per idempotency key (draft-ietf-httpapi-idempotency-key-header)."""

import hashlib

from django.conf import settings
from django.db import connection

from sessions_app.exceptions import (
    IdempotencyInProgress,
    IdempotencyMismatch,
    InvalidIdempotencyKey,
)
from sessions_app.models import IdempotencyKey
from sessions_app.services.owner_limits import require_room

KEY_LENGTH = 255
# Bytes of an answer that is kept in any case.
SMALL = 4096
# What was committed can be seen, although the synchronous standby may not have it yet: then the
# client of the first request had no answer, and its retry must not have one before. A transaction
# that writes, if only a message to nobody, waits for all that was committed earlier.
WAIT_FOR_STANDBY = "SELECT pg_logical_emit_message(true, 'amplifierd', '')"


def fingerprint_of(method: str, path: str, body: bytes) -> bytes:
    """Return what tells one request from another; a trailing slash makes no difference."""
    head = f"{method} {path.rstrip('/')}\n".encode()
    return hashlib.sha256(head + body).digest()


def begin(key: str, fingerprint: bytes, owner: str = "") -> IdempotencyKey | None:
    """Enter a request with a key: the first answer if there was one, else None.

    The same key of another owner is another key. Must be called in the transaction in which the
    request is carried out; until that ends, others with the same key are refused. Raises
    InvalidIdempotencyKey, IdempotencyInProgress or IdempotencyMismatch.
    """
    if not (0 < len(key) <= KEY_LENGTH and key.isascii() and key.isprintable()):
        raise InvalidIdempotencyKey
    with connection.cursor() as cursor:
        # Until the transaction ends. No key has a line break.
        lock = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"
        cursor.execute(lock, [f"{key}\n{owner}"])
        if not cursor.fetchone()[0]:
            raise IdempotencyInProgress
    found = IdempotencyKey.objects.filter(owner=owner, key=key).first()
    if found and bytes(found.fingerprint) != fingerprint:
        raise IdempotencyMismatch
    if found:
        with connection.cursor() as cursor:
            cursor.execute(WAIT_FOR_STANDBY)
    return found


def keep(
    key: str, fingerprint: bytes, status: int, content_type: str, body: bytes, owner: str = ""
) -> None:
    """Store the answer to a request, to be given to its retries.

    Raises OwnerLimitReached for a large one of an owner that may store nothing more; small ones
    must stay possible, because with these sessions are ended and cleaned up.
    """
    if settings.REQUIRE_KEYS and len(body) > SMALL:
        require_room(owner)
    IdempotencyKey.objects.create(
        owner=owner,
        key=key,
        fingerprint=fingerprint,
        status=status,
        content_type=content_type,
        body=body,
    )
