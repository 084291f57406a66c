"""Rows that services, triggers and constraints keep out, written by hand, for each invariant."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Corruption:
    """A statement that breaks one invariant, for one session or run of the world."""

    check: str
    # The name, in the world, of what is corrupted; or an id that is not there.
    subject: str
    title: str
    # The names of the world stand for their ids.
    statement: str
    # The constraint or index that would refuse the statement.
    without: str = ""

    def __str__(self) -> str:
        return f"{self.check}: {self.title}"


# What the outcome of a run tells that said nothing.
SILENT = '{"messageId": null, "content": ""}'


def append(session: str, kind: str, run: str = "NULL", data: str = "{}") -> str:
    """Return the statement that puts an event at the end of a journal, correctly numbered."""
    return f"""
        WITH s AS (
            UPDATE sessions_app_session SET last_event_seq = last_event_seq + 1
            WHERE id = {session} RETURNING id, last_event_seq)
        INSERT INTO sessions_app_event (session_id, seq, type, data, run_id)
        SELECT id, last_event_seq, '{kind}', '{data}', {run} FROM s
    """


def retype(kind: str, condition: str) -> str:
    """Return the statement that makes an event of this kind into one that says nothing."""
    return f"UPDATE sessions_app_event SET type = 'noted' WHERE type = '{kind}' AND {condition}"


SESSIONS = [
    Corruption(
        "session-end",
        "completed",
        "its end is missing",
        "UPDATE sessions_app_session SET ended_at = NULL WHERE id = %(completed)s",
        "session_ended_iff_terminal",
    ),
    Corruption(
        "session-end",
        "busy",
        "it has an end before it ended",
        "UPDATE sessions_app_session SET ended_at = now() WHERE id = %(busy)s",
        "session_ended_iff_terminal",
    ),
    Corruption(
        "session-start",
        "busy",
        "its start is missing",
        "UPDATE sessions_app_session SET started_at = NULL WHERE id = %(busy)s",
        "session_started_iff_not_created",
    ),
    Corruption(
        "session-start",
        "created",
        "it has a start before it was started",
        "UPDATE sessions_app_session SET started_at = now() WHERE id = %(created)s",
        "session_started_iff_not_created",
    ),
    Corruption(
        "session-error",
        "completed",
        "it keeps an error though it did not fail",
        "UPDATE sessions_app_session SET error_message = 'it broke' WHERE id = %(completed)s",
        "session_error_only_where_failed",
    ),
    Corruption(
        "session-parent",
        "completed",
        "its parent is gone",
        "UPDATE sessions_app_session SET parent_id = 'session_gone' WHERE id = %(completed)s",
    ),
    Corruption(
        "session-started-told",
        "completed",
        "its start is not told",
        retype("session_started", "session_id = %(completed)s"),
    ),
    Corruption(
        "session-started-told",
        "created",
        "its start is told before it was started",
        append("%(created)s", "session_started"),
    ),
    Corruption(
        "session-ended-told",
        "completed",
        "its end is not told",
        retype("session_ended", "session_id = %(completed)s"),
    ),
    Corruption(
        "session-ended-told",
        "completed",
        "its end is told twice",
        append("%(completed)s", "session_ended"),
    ),
    Corruption(
        "session-ended-last",
        "completed",
        "its journal goes on",
        append("%(completed)s", "noted"),
    ),
    Corruption(
        "orphans",
        "session_gone",
        "an event is left",
        "INSERT INTO sessions_app_event (session_id, seq, type, data)"
        " VALUES ('session_gone', 1, 'noted', '{}')",
    ),
    Corruption(
        "orphans",
        "session_gone",
        "a message is left",
        "INSERT INTO sessions_app_message"
        " (id, session_id, seq, role, content, created_at, metadata)"
        " VALUES ('message_left', 'session_gone', 1, 'user', '', now(), '{}')",
    ),
]

NUMBERS = [
    Corruption(
        "message-seq",
        "busy",
        "a message is misplaced",
        "UPDATE sessions_app_message m SET seq = m.seq + 5 FROM sessions_app_session s"
        " WHERE s.id = %(busy)s AND m.session_id = s.id AND m.seq = s.message_count",
    ),
    Corruption(
        "message-count",
        "busy",
        "one more is counted",
        "UPDATE sessions_app_session SET message_count = message_count + 1 WHERE id = %(busy)s",
    ),
    Corruption(
        "event-seq",
        "completed",
        "an event is misplaced",
        "WITH s AS (UPDATE sessions_app_session SET last_event_seq = 7 WHERE id = %(completed)s)"
        " UPDATE sessions_app_event SET seq = 7 WHERE session_id = %(completed)s AND seq = 2",
    ),
    Corruption(
        "event-joined",
        "busy",
        "pieces of a session that goes on are joined",
        "WITH piece AS (SELECT seq, data ->> 'content' AS text FROM sessions_app_event"
        " WHERE session_id = %(busy)s AND data ->> 'content' = 'one '),"
        " gone AS (DELETE FROM sessions_app_event e USING piece"
        " WHERE e.session_id = %(busy)s AND e.seq = piece.seq)"
        " UPDATE sessions_app_event e SET span = 2, began_at = now(),"
        " data = jsonb_set(e.data, '{content}', to_jsonb(piece.text || (e.data ->> 'content')))"
        " FROM piece WHERE e.session_id = %(busy)s AND e.seq = piece.seq + 1",
    ),
    Corruption(
        "event-newest",
        "busy",
        "the counter is ahead",
        "UPDATE sessions_app_session SET last_event_seq = last_event_seq + 1 WHERE id = %(busy)s",
    ),
]
