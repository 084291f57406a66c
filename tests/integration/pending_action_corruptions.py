"""Corrupted pending actions: approvals, parked runs, checkpoints, calls of tools."""

from tests.integration.corruptions import Corruption, append

PENDING_ACTIONS = [
    Corruption(
        "approval-pending",
        "resumed",
        "it goes on before it is answered",
        """
        WITH a AS (
            UPDATE sessions_app_pending_action SET status = 'pending', answered_at = NULL
            WHERE run_id = %(resumed)s RETURNING id)
        UPDATE sessions_app_event SET type = 'noted' FROM a
        WHERE type = 'approval_resolved' AND data ->> 'approval_id' = a.id
        """,
    ),
    Corruption(
        "sub-session-pending",
        "parked",
        "its sub-session is gone",
        """
        UPDATE sessions_app_pending_action
        SET kind = 'sub_session', fingerprint = '' WHERE run_id = %(parked)s
        """,
    ),
    Corruption(
        "run-parked",
        "parked",
        "what it has asked is gone",
        "DELETE FROM sessions_app_pending_action WHERE run_id = %(parked)s",
    ),
    Corruption(
        "approval-told",
        "parked",
        "the question is not told",
        "UPDATE sessions_app_event SET type = 'noted'"
        " WHERE run_id = %(parked)s AND type = 'hook:approval:required'",
    ),
    Corruption(
        "approval-told",
        "resumed",
        "the answer is not told",
        "UPDATE sessions_app_event SET type = 'noted'"
        " WHERE run_id = %(resumed)s AND type = 'approval_resolved'",
    ),
    Corruption(
        "run-steps",
        "resumed",
        "the first is missing",
        "UPDATE sessions_app_checkpoint SET number = 2 WHERE run_id = %(resumed)s",
    ),
    Corruption(
        "run-calls",
        "resumed",
        "a result is told of a call that was not",
        "UPDATE sessions_app_event SET type = 'noted'"
        " WHERE run_id = %(resumed)s AND type = 'hook:tool:pre'",
    ),
    Corruption(
        "run-attempts",
        "resumed",
        "it goes on without having been parked",
        "UPDATE sessions_app_event SET type = 'run_interrupted'"
        " WHERE run_id = %(resumed)s AND type = 'run_parked'",
    ),
    Corruption(
        "run-speech",
        "parked",
        "it speaks while it waits",
        append("%(asking)s", "content", "%(parked)s", '{"content": ""}'),
    ),
]
