"""Copies of sessions: a clone with all its sub-sessions, or a fork at a message.

The originals are read and not changed. They go on while they are copied: what a snapshot has
counted of their transcripts is there for good, so only their deletion has to wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from amplifierd.common.callers import Visibility
from amplifierd.common.formats import new_message_id, new_session_id
from amplifierd.common.statements import read_clock
from profiles_app.services.mount_plans import readdress
from sessions_app.events import EventType
from sessions_app.exceptions import ForkBeyondEnd, SessionNotFound, TooMuchToCopy
from sessions_app.models import Session
from sessions_app.models.triggers import COPY_SETTING
from sessions_app.services import hints, owner_limits

# What is copied at a time; more is refused.
MOST_SESSIONS = 1000
MOST_MESSAGES = 50_000
TOO_MUCH = (
    f"At most {MOST_SESSIONS} sessions with {MOST_MESSAGES} messages are copied at a time; clone a"
    " sub-session, or fork at an earlier message."
)
# Messages, and whole sessions, that one statement copies: a fraction of a second's work.
MESSAGES_AT_A_TIME = 1_000
SESSIONS_AT_A_TIME = 50

NAME_LENGTH = 200


@dataclass(frozen=True)
class Original:
    """A session that is copied, as one snapshot saw it, and how it is copied."""

    id: str
    parent_id: str | None
    # Messages from its beginning that are copied.
    length: int
    # What stands behind the name of the copy, in brackets.
    mark: str = ""
    # What the copy keeps in its metadata, beside those of the original.
    origin: dict[str, Any] = field(default_factory=dict)

    def copy_session(self, source: Session, ids: dict[str, str], born: datetime) -> Session:
        """Return the copy: what it was created with, and nothing that it has lived through.

        `ids` has the new id of each session that is copied.
        """
        id = ids[self.id]
        parent_id = self.parent_id and ids.get(self.parent_id, self.parent_id)
        name, ending = source.name, f" ({self.mark})"
        if self.mark:
            name = (name or "Session")[: NAME_LENGTH - len(ending)] + ending
        return Session(
            id=id,
            name=name,
            owner=source.owner,
            profile_name=source.profile_name,
            amplified_dir=source.amplified_dir,
            parent_id=parent_id,
            settings_overrides=source.settings_overrides,
            mount_plan=readdress(
                source.mount_plan, session_id=id, parent_session_id=parent_id, created_at=born
            ),
            metadata={**source.metadata, **self.origin},
            created_at=born,
            updated_at=born,
        )


def clone(session_id: str, sees: Visibility) -> Session:
    """Copy a session and the tree of its sub-sessions, with their transcripts, to new sessions.

    All copies are `created` and belong to the original's owner. Sub-sessions that the caller
    may not see are left out. Raises SessionNotFound, TooMuchToCopy, or OwnerLimitReached.
    """
    ids: list[str] = []
    level = [session_id]
    with transaction.atomic():
        # Parents before children.
        while level:
            ids += level
            if len(ids) > MOST_SESSIONS:
                raise TooMuchToCopy(TOO_MUCH)
            children = Session.objects.visible_to(sees).filter(parent__in=level)
            in_order = children.order_by("created_at", "id").values_list("id", flat=True)
            level = list(in_order[: MOST_SESSIONS + 1])
        root, *others = _lock_originals(ids)
        return _copy([replace(root, mark="copy"), *others])


def fork(session_id: str, after: int | None = None) -> Session:
    """Copy a session up to the message `after`, without it all of it; its sub-sessions are not.

    The copy's metadata says where it comes from: `forkedFrom: {sessionId, after}`. Raises
    SessionNotFound, ForkBeyondEnd, TooMuchToCopy, or OwnerLimitReached.
    """
    with transaction.atomic():
        [original] = _lock_originals([session_id])
        length = original.length if after is None else after
        if length > original.length:
            raise ForkBeyondEnd.of(original.length)
        origin = {"forkedFrom": {"sessionId": session_id, "after": length}}
        return _copy([replace(original, length=length, mark="fork", origin=origin)])


# In the order of all locks over several sessions. They go on meanwhile: this excludes nothing but
# deletion.
HOLD = "SELECT id FROM sessions_app_session WHERE id = ANY(%s) ORDER BY id FOR KEY SHARE"


def _lock_originals(ids: list[str]) -> list[Original]:
    """Return the sessions in one snapshot, held until the transaction ends; the first is the root.

    What was deleted meanwhile is missing, and so are its sub-sessions. Raises SessionNotFound if
    it is the root.
    """
    # The root's parent becomes the copy's, so it is held as well.
    parent = Session.objects.filter(pk=ids[0]).values_list("parent_id", flat=True).first()
    with connection.cursor() as cursor:
        cursor.execute(HOLD, [[*ids, parent]])
    rows = Session.objects.filter(pk__in=ids).values_list("id", "parent_id", "message_count")
    seen = {row[0]: Original(*row) for row in rows}
    kept: dict[str, Original] = {}
    for original in (seen[id] for id in ids if id in seen):
        if original.id == ids[0] or original.parent_id in kept:
            kept[original.id] = original
    if ids[0] not in kept:
        raise SessionNotFound.of(ids[0])
    return list(kept.values())


# Copies messages, each with an id of its own and an event, and without its run. The numbers of
# events and messages agree, because a copy has no other events yet. What a run did with tools
# stays known to models as long as the original session is there.
FILL = """
WITH line AS (
    SELECT i.id, m.seq, m.role, m.content, m.created_at, m.agent, m.token_count, m.metadata,
        m.finish_reason,
        -- A run whose answer is copied, too: others go on, or came after the fork.
        CASE WHEN m.run_id IS NULL THEN m.source_run_id
        WHEN m.run_id IN (
            SELECT a.run_id FROM sessions_app_message a
            WHERE a.session_id = %(original)s AND a.seq <= %(length)s
                AND a.role = 'assistant' AND a.run_id IS NOT NULL
        ) THEN m.run_id ELSE '' END AS source_run_id
    FROM unnest(%(ids)s::text[]) WITH ORDINALITY AS i(id, ord)
    JOIN sessions_app_message m ON m.seq = %(after)s + i.ord
    WHERE m.session_id = %(original)s
      AND m.seq > %(after)s AND m.seq <= %(after)s + cardinality(%(ids)s::text[])
), copy AS (
    UPDATE sessions_app_session
    SET message_count = message_count + cardinality(%(ids)s::text[]),
        last_event_seq = last_event_seq + cardinality(%(ids)s::text[]),
        -- as `journal.measure` does
        stored_bytes = stored_bytes + (SELECT sum(300 + 2 * octet_length(content)) FROM line)
    WHERE id = %(copy)s
), message AS (
    INSERT INTO sessions_app_message
        (id, session_id, seq, role, content, created_at, agent, token_count, metadata,
        finish_reason, source_run_id)
    SELECT id, %(copy)s, seq, role, content, created_at, agent, token_count, metadata,
        finish_reason, source_run_id
    FROM line
)
INSERT INTO sessions_app_event (session_id, seq, type, data)
SELECT %(copy)s, seq, %(type)s, jsonb_build_object(
    'role', role, 'content', content, 'messageId', id, 'seq', seq,
    'timestamp', to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
FROM line
"""


def _copy(originals: Sequence[Original]) -> Session:
    """Make a copy of each, its parent being the copy of its parent; return that of the first."""
    if sum(original.length for original in originals) > MOST_MESSAGES:
        raise TooMuchToCopy(TOO_MUCH)
    # All copies belong to the owner of the first.
    owner = Session.objects.filter(pk=originals[0].id).values_list("owner", flat=True).get()
    owner_limits.require_room(owner, sessions=len(originals))
    ids = {original.id: new_session_id() for original in originals}
    now = read_clock()
    for first in range(0, len(originals), SESSIONS_AT_A_TIME):
        portion = originals[first : first + SESSIONS_AT_A_TIME]
        found = Session.objects.in_bulk([original.id for original in portion])
        # One after the other, so that lists show them in the order of the originals.
        Session.objects.bulk_create(
            original.copy_session(
                found[original.id], ids, now - timedelta(microseconds=len(ids) - place)
            )
            for place, original in enumerate(portion, first)
        )
    with connection.cursor() as cursor:
        for original in originals:
            copy_id = ids[original.id]
            cursor.execute("SELECT set_config(%s, %s, true)", [COPY_SETTING, copy_id])
            for after in range(0, original.length, MESSAGES_AT_A_TIME):
                count = min(MESSAGES_AT_A_TIME, original.length - after)
                parameters: dict[str, Any] = {
                    "ids": [new_message_id() for _ in range(count)],
                    "original": original.id,
                    "length": original.length,
                    "after": after,
                    "copy": copy_id,
                    "type": EventType.MESSAGE_ADDED.value,
                }
                cursor.execute(FILL, parameters)
    shown = Session.objects.only("status", "owner", "name", "profile_name", "parent")
    for copy in shown.filter(pk__in=ids.values()):
        hints.send_created(copy)
    return Session.objects.get(pk=ids[originals[0].id])
