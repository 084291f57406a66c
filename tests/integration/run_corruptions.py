"""Corrupted runs, outcomes and output."""

from tests.integration.corruptions import SILENT, Corruption, append, retype

RUNS = [
    Corruption(
        "run-alone",
        "busy",
        "two runs are running",
        "UPDATE sessions_app_run SET status = 'running', lease_expires_at = now()"
        " WHERE id = %(queued)s",
        "run_one_under_way_per_session",
    ),
    Corruption(
        "run-lease",
        "running",
        "it has no lease",
        "UPDATE sessions_app_run SET lease_expires_at = NULL WHERE id = %(running)s",
        "run_lease_iff_running",
    ),
    Corruption(
        "run-lease",
        "failed",
        "it has a lease and is settled",
        "UPDATE sessions_app_run SET lease_expires_at = now() WHERE id = %(failed)s",
        "run_lease_iff_running",
    ),
    Corruption(
        "run-end",
        "succeeded",
        "its end is missing",
        "UPDATE sessions_app_run SET ended_at = NULL WHERE id = %(succeeded)s",
        "run_ended_iff_terminal",
    ),
    Corruption(
        "run-session",
        "alone",
        "its session has ended",
        "WITH s AS (UPDATE sessions_app_session SET status = 'completed', ended_at = now(),"
        "  last_event_seq = last_event_seq + 1 WHERE id = %(other)s RETURNING id, last_event_seq)"
        " INSERT INTO sessions_app_event (session_id, seq, type, data)"
        " SELECT id, last_event_seq, 'session_ended', '{}' FROM s",
    ),
    Corruption(
        "run-prompt",
        "failed",
        "its prompt is of another role",
        "UPDATE sessions_app_message m SET role = 'system' FROM sessions_app_run r"
        " WHERE r.id = %(failed)s AND m.id = r.message_id",
    ),
    Corruption(
        "run-prompt",
        "failed",
        "its prompt is gone",
        "UPDATE sessions_app_run SET message_id = 'message_gone' WHERE id = %(failed)s",
    ),
    Corruption(
        "run-named",
        "run_gone",
        "an event names a run that is not there",
        append("%(busy)s", "noted", "'run_gone'"),
    ),
    Corruption(
        "run-named",
        "run_gone",
        "a message names a run that is not there",
        "UPDATE sessions_app_message SET run_id = 'run_gone'"
        " WHERE session_id = %(other)s AND role = 'system'",
    ),
]

OUTCOMES = [
    Corruption(
        "run-saved-told",
        "succeeded",
        "its message is not told",
        retype("user_message_saved", "run_id = %(succeeded)s"),
    ),
    Corruption(
        "run-saved-told",
        "running",
        "its message is told twice",
        append("%(busy)s", "user_message_saved", "%(running)s"),
    ),
    Corruption(
        "run-outcome",
        "failed",
        "its outcome is not told",
        retype("assistant_message_complete", "run_id = %(failed)s"),
    ),
    Corruption(
        "run-outcome",
        "cancelled",
        "its outcome is told twice",
        append(
            "%(busy)s",
            "assistant_message_complete",
            "%(cancelled)s",
            '{"messageId": null, "content": "", "finishReason": "cancelled"}',
        ),
        "event_one_outcome_per_run",
    ),
    Corruption(
        "run-outcome",
        "running",
        "its outcome is told while it runs",
        append("%(busy)s", "assistant_message_complete", "%(running)s", SILENT),
    ),
    Corruption(
        "run-error-told",
        "failed",
        "its error is not told",
        retype("execution_error", "run_id = %(failed)s"),
    ),
    Corruption(
        "run-error-told",
        "running",
        "an error is told of it",
        append("%(busy)s", "execution_error", "%(running)s"),
    ),
    Corruption(
        "run-cancel-told",
        "cancelled",
        "its cancellation is not told",
        retype("execution_cancelled", "run_id = %(cancelled)s"),
    ),
    Corruption(
        "run-cancel-told",
        "running",
        "a cancellation is told of it",
        append("%(busy)s", "execution_cancelled", "%(running)s"),
    ),
    Corruption(
        "run-answer",
        "succeeded",
        "it has no answer",
        """
        WITH m AS (
            UPDATE sessions_app_message SET role = 'system'
            WHERE run_id = %(succeeded)s AND role = 'assistant')
        UPDATE sessions_app_event SET
            data = '{"messageId": null, "content": "", "finishReason": "stop"}'
        WHERE run_id = %(succeeded)s AND type = 'assistant_message_complete'
        """,
    ),
    Corruption(
        "run-answer",
        "alone",
        "it has an answer while it runs",
        "UPDATE sessions_app_message SET role = 'assistant', content = 'so far',"
        " run_id = %(alone)s WHERE session_id = %(other)s AND role = 'system'",
    ),
    Corruption(
        "run-answer-told",
        "succeeded",
        "another text is told",
        """
        UPDATE sessions_app_event SET data = data || '{"content": "another"}'
        WHERE run_id = %(succeeded)s AND type = 'assistant_message_complete'
        """,
    ),
    Corruption(
        "run-answer-told",
        "succeeded",
        "another message is told",
        """
        UPDATE sessions_app_event SET data = data || '{"messageId": "message_gone"}'
        WHERE run_id = %(succeeded)s AND type = 'assistant_message_complete'
        """,
    ),
    Corruption(
        "run-ending",
        "succeeded",
        "a cut answer is told as whole",
        "UPDATE sessions_app_run SET finish_reason = 'length' WHERE id = %(succeeded)s",
    ),
    Corruption(
        "run-ending",
        "succeeded",
        "a cut answer is kept as whole",
        """
        UPDATE sessions_app_message SET finish_reason = 'length'
        WHERE run_id = %(succeeded)s AND role = 'assistant'
        """,
    ),
    Corruption(
        "run-silence",
        "succeeded",
        "an event follows its outcome",
        append("%(busy)s", "noted", "%(succeeded)s"),
    ),
]

OUTPUT = [
    Corruption(
        "run-attempts",
        "succeeded",
        "its attempt has another number",
        """
        UPDATE sessions_app_event SET data = data || '{"attempt": 2}'
        WHERE run_id = %(succeeded)s AND type = 'assistant_message_start'
        """,
    ),
    Corruption(
        "run-attempts",
        "succeeded",
        "it counts an attempt that is not told",
        "UPDATE sessions_app_run SET attempt = 2 WHERE id = %(succeeded)s",
    ),
    Corruption(
        "run-attempts",
        "succeeded",
        "its attempt begins elsewhere",
        "UPDATE sessions_app_run SET attempt_seq = attempt_seq - 1 WHERE id = %(succeeded)s",
    ),
    Corruption(
        "run-attempts",
        "retried",
        "an interruption is not told",
        retype("run_interrupted", "run_id = %(retried)s"),
    ),
    Corruption(
        "run-held",
        "running",
        "it goes on after its interruption",
        append("%(busy)s", "run_interrupted", "%(running)s", '{"attempt": 1}'),
    ),
    Corruption(
        "run-held",
        "alone",
        "it is queued and was not interrupted",
        "UPDATE sessions_app_run SET status = 'queued', lease_expires_at = NULL"
        " WHERE id = %(alone)s",
    ),
    Corruption(
        "run-speech",
        "queued",
        "it speaks before its first attempt",
        append("%(busy)s", "content", "%(queued)s", '{"content": "early"}'),
    ),
    Corruption(
        "run-speech",
        "released",
        "it speaks after its interruption",
        append("%(waiting)s", "content", "%(released)s", '{"content": "late"}'),
    ),
    Corruption(
        "run-content",
        "succeeded",
        "what it said is another text",
        """
        UPDATE sessions_app_event SET data = data || '{"content": "two "}'
        WHERE run_id = %(succeeded)s AND type = 'content' AND data ->> 'content' = 'one '
        """,
    ),
    Corruption(
        "run-content",
        "retried",
        "its answer has what a void attempt said",
        """
        WITH m AS (
            UPDATE sessions_app_message SET content = 'voidanswer'
            WHERE run_id = %(retried)s AND role = 'assistant')
        UPDATE sessions_app_event SET data = data || '{"content": "voidanswer"}'
        WHERE run_id = %(retried)s AND type = 'assistant_message_complete'
        """,
    ),
]
