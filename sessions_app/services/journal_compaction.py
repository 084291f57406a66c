"""Compacting the journal of a session that has ended: pieces of one output become one event.

A model's answer is journalled a few tokens at a time. Once nobody follows it any more, its text in
one event is worth as much, for a fraction of the space. The event has the seq of its last piece,
and says how many seqs it stands for (`Event.span`), so the journal has no gap, and a cursor between
two events is as good as before. One within a joined event is refused (`JournalWasCompacted`).
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from sessions_app.exceptions import SessionNotEnded, SessionNotFound
from sessions_app.models import Session
from sessions_app.models.event import JOINABLE
from sessions_app.models.querysets import SessionQuerySet
from sessions_app.models.triggers import COMPACT_SETTING

# Seqs that one transaction looks at, and bytes of text of one event: what a stream reads at once.
WINDOW = 5_000
EVENT_BYTES = 64 * 1024
# Journals that are compacted at a time; the others follow.
SESSIONS = 20

# Pieces of one kind, one after the other, that differ in their text only: then the first and the
# last of their seqs, and the whole text.
JOIN = """
WITH piece AS (
    SELECT seq, span, type, run_id, coalesce(began_at, created_at) AS began_at,
        type = ANY(%(types)s) AS is_joinable,
        coalesce(data ->> 'content', data -> 'hook_data' ->> 'delta', '') AS text,
        data - 'content' #- '{hook_data,delta}' AS rest
    FROM sessions_app_event
    WHERE session_id = %(session)s AND seq > %(after)s AND seq <= %(after)s + %(window)s
), marked AS (
    SELECT *, is_joinable AND ROW(type, run_id, rest) IS NOT DISTINCT FROM
        ROW(lag(type) OVER (ORDER BY seq), lag(run_id) OVER (ORDER BY seq),
            lag(rest) OVER (ORDER BY seq)) AS goes_on
    FROM piece
), numbered AS (
    SELECT *, count(*) FILTER (WHERE NOT goes_on) OVER (ORDER BY seq) AS output FROM marked
), portioned AS (
    SELECT *, (sum(octet_length(text)) OVER (PARTITION BY output ORDER BY seq)
        - octet_length(text)) / %(bytes)s AS portion
    FROM numbered WHERE is_joinable
), whole AS (
    SELECT min(seq - span + 1) AS first, max(seq) AS last, sum(span) AS span,
        min(began_at) AS began_at, to_jsonb(string_agg(text, '' ORDER BY seq)) AS text
    FROM portioned GROUP BY output, portion HAVING count(*) > 1
), removed AS (
    DELETE FROM sessions_app_event e USING whole
    WHERE e.session_id = %(session)s AND e.seq >= whole.first AND e.seq < whole.last
    RETURNING e.seq
), joined AS (
    UPDATE sessions_app_event e
    SET span = whole.span, began_at = whole.began_at, data = CASE
        WHEN e.data ? 'content' THEN jsonb_set(e.data, '{content}', whole.text)
        ELSE jsonb_set(e.data, '{hook_data,delta}', whole.text) END
    FROM whole WHERE e.session_id = %(session)s AND e.seq = whole.last
    RETURNING e.seq
)
SELECT (SELECT count(*) FROM removed), (SELECT count(*) FROM joined)
"""


@dataclass(frozen=True)
class Compacted:
    """How many events were joined to how many, in how many journals."""

    pieces: int = 0
    events: int = 0
    sessions: int = 0

    def __add__(self, other: "Compacted") -> "Compacted":
        return Compacted(
            self.pieces + other.pieces,
            self.events + other.events,
            self.sessions + other.sessions,
        )


def compact(session_id: str) -> Compacted:
    """Compact the journal of a session that has ended, some thousand events in each transaction.

    Raises SessionNotFound, or SessionNotEnded. It changes neither what the API shows of the session
    nor when it was updated. What is done is done, whatever comes in between;
    the rest is compacted by the next call.
    """
    done, after, last = Compacted(), 0, 1
    while after < last:
        with transaction.atomic():
            session = Session.objects.lock(session_id)
            if session.ended_at is None:
                raise SessionNotEnded
            last = session.last_event_seq
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config(%s, %s, true)", [COMPACT_SETTING, session_id])
                cursor.execute(
                    JOIN,
                    {
                        "session": session_id,
                        "after": after,
                        "window": WINDOW,
                        "bytes": EVENT_BYTES,
                        "types": [str(each) for each in JOINABLE],
                    },
                )
                removed, joined = cursor.fetchone()
            after += WINDOW
            done += Compacted(removed + joined, joined)
            if after >= last:
                Session.objects.filter(pk=session_id).update(compacted_at=Now())
    return done + Compacted(sessions=1)


def find_uncompacted(days: int) -> SessionQuerySet:
    """Return the sessions that ended so many days ago, and whose journals are not compacted."""
    return Session.objects.filter(
        ended_at__isnull=False, compacted_at__isnull=True, ended_at__lt=Now() - timedelta(days=days)
    )


def compact_old(days: int, limit: int = SESSIONS) -> Compacted:
    """Compact the journals of sessions that ended so many days ago, those that ended first first.

    Safe to call from many processes at once: each takes other sessions, or waits for a moment.
    """
    ended = find_uncompacted(days)
    done = Compacted()
    for session_id in list(ended.order_by("ended_at").values_list("id", flat=True)[:limit]):
        # Else another process has compacted it, or somebody has deleted it.
        with suppress(SessionNotFound):
            if ended.filter(pk=session_id).exists():
                done += compact(session_id)
    return done


def compact_by_policy() -> Compacted:
    """Compact what `AMPLIFIERD_COMPACT_AFTER_DAYS` says, if it says anything."""
    return compact_old(settings.COMPACT_AFTER_DAYS) if settings.COMPACT_AFTER_DAYS else Compacted()
