"""Runs as workers see them: claimed with a lease, written for while it is held, parked or settled.

The attempt's number is the fencing token: each write for a run matches the attempt, and that the
run is running. A worker that was paused for longer than its lease changes nothing.
"""

import json
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from amplifierd.common.statements import STAMP, fetch_prepared
from sessions_app import failpoints
from sessions_app.events import EventType
from sessions_app.exceptions import LeaseLost, OwnerBusy, SessionNotFound
from sessions_app.models import Attempt, Checkpoint, Run, Session
from sessions_app.services import hints, journal, owner_limits, runs
from sessions_app.services.journal import ROW_BYTES, Addition, Entry, Position
from sessions_app.services.pending_actions import ActionRequest
from sessions_app.services.statements import IS_FOLLOWED, has_places, is_below_limit
from sessions_app.states import ActionKind, FinishReason, RunStatus


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed: a code for programs, a sentence for people."""

    code: str
    message: str
    # What the run has used in all attempts; None where nobody knows better than before.
    usage: dict[str, Any] | None = None


# Seconds for which clients are not told that an attempt has begun: they are with its first output,
# if that comes within this time. Each notification wakes all processes that have streams.
UNTIL_OUTPUT = 0.05
# Messages of the history that a claim reads, and that are read at a time if more are needed.
FIRST_PAGE, PAGE = 20, 100

# What was said before, the newest first, a page of it. Messages that still wait for their own run
# were not said.
_HISTORY = """
SELECT json_build_array(m.seq, m.role, m.content, m.run_id, m.source_run_id, EXISTS (
    SELECT FROM sessions_app_checkpoint c
    WHERE c.run_id = coalesce(nullif(m.run_id, ''), m.source_run_id)
))
FROM sessions_app_message m LEFT JOIN sessions_app_run o ON o.id = m.run_id
WHERE m.session_id = {session} AND m.seq > {after} AND m.seq < {before}
    AND o.status IS DISTINCT FROM 'queued' AND m.run_id IS DISTINCT FROM {run}
ORDER BY m.seq DESC LIMIT {page}
"""
# Above every seq of a message.
_END = 2**31
# What a run is about, what was said before it, and whether it has checkpoints.
_OPENING = """
SELECT json_build_object(
    'prompt', m.content, 'seq', m.seq, 'usage', r.usage, 'directory', s.amplified_dir,
    'owner', s.owner,
    'summary', s.summary, 'summarised_seq', s.summarised_seq,
    'has_checkpoints', EXISTS (SELECT FROM sessions_app_checkpoint c WHERE c.run_id = r.id),
    'always', ARRAY(
        SELECT ARRAY[a.tool_name::text, a.fingerprint::text] FROM sessions_app_pending_action a
        WHERE a.session_id = s.id AND a.kind = 'approval' AND a.always AND a.status = 'approved'
            AND a.fingerprint <> ''
    ),
    'history', ARRAY({history})
)::text
FROM sessions_app_run r
JOIN sessions_app_message m ON m.id = r.message_id
JOIN sessions_app_session s ON s.id = r.session_id
WHERE r.id = {run}{condition}
"""
# The history of an opening: a short page, and what no summary stands for.
_OPENING_PARTS = {
    "session": "s.id",
    "after": "s.summarised_seq",
    "before": _END,
    "run": "r.id",
    "page": FIRST_PAGE,
}
OPENING = _OPENING.format(
    run="%(run)s::text", history=_HISTORY.format(**_OPENING_PARTS), condition=""
)
# A further page of the history.
EARLIER = "SELECT array_to_json(ARRAY({history}))::text".format(
    history=_HISTORY.format(
        session="%(session)s::text",
        after="%(after)s::bigint",
        before="%(before)s::bigint",
        run="%(run)s::text",
        page=PAGE,
    )
)

# Takes the session's parked run if nothing that it asked is pending, else its next queued one,
# unless another one is under way. The session is locked first, so that its row is the newest; the
# run may be an older version that another worker has taken meanwhile: its status then differs, and
# nothing is taken. Only the first run in the order of the messages is ever taken.
_CLAIM = """
WITH session AS MATERIALIZED (
    SELECT id, last_event_seq, owner FROM sessions_app_session
    WHERE id = %(session)s::text AND status = 'active' FOR NO KEY UPDATE
), next AS MATERIALIZED (
    SELECT r.id, r.status = 'parked' AS continues, session.last_event_seq
    FROM session JOIN sessions_app_run r ON r.session_id = session.id
    JOIN sessions_app_message m ON m.id = r.message_id
    WHERE r.status IN ('queued', 'parked')
        AND NOT EXISTS (
            SELECT FROM sessions_app_run o WHERE o.session_id = session.id AND o.id <> r.id
                AND o.status IN ('running', 'parked')
        )
        AND (r.status = 'queued' OR NOT EXISTS (
            SELECT FROM sessions_app_pending_action a WHERE a.run_id = r.id AND a.status = 'pending'
        ))
        AND {has_places}
    ORDER BY m.seq LIMIT 1
), taken AS (
    UPDATE sessions_app_run r
    SET status = 'running', attempt = r.attempt + 1, worker = %(worker)s::text,
        lease_expires_at = statement_timestamp() + %(lease)s::interval,
        started_at = coalesce(r.started_at, statement_timestamp()),
        attempt_seq = CASE WHEN next.continues THEN r.attempt_seq ELSE next.last_event_seq + 1 END,
        first_token_at = CASE WHEN next.continues THEN r.first_token_at END
    FROM next
    WHERE r.id = next.id AND r.status = CASE WHEN next.continues THEN 'parked' ELSE 'queued' END
    RETURNING r.session_id, r.id, r.attempt, next.continues
), grown AS (
    UPDATE sessions_app_session s
    SET last_event_seq = s.last_event_seq + 1, updated_at = statement_timestamp(),
        stored_bytes = s.stored_bytes + {row_bytes}
    FROM taken WHERE s.id = taken.session_id
    RETURNING s.id, s.message_count, s.last_event_seq, s.owner, s.mount_plan, s.parent_id
), event AS (
    INSERT INTO sessions_app_event (session_id, seq, type, data, run_id)
    SELECT grown.id, grown.last_event_seq,
        CASE WHEN continues THEN %(resumed)s::text ELSE %(started)s::text END,
        jsonb_build_object('timestamp', {stamp}, 'runId', taken.id, 'attempt', attempt),
        taken.id
    FROM grown JOIN taken ON taken.session_id = grown.id
)
SELECT taken.id, attempt, continues, mount_plan::text, parent_id IS NOT NULL, ({opening}),
    message_count, last_event_seq, owner, {is_followed}
FROM grown JOIN taken ON taken.session_id = grown.id
"""
CLAIM = _CLAIM.format(
    opening=_OPENING.format(
        run="taken.id",
        history=_HISTORY.format(**_OPENING_PARTS),
        # Only if nothing was added between the statement's snapshot and its lock of the session.
        condition=" AND s.last_event_seq = grown.last_event_seq - 1",
    ),
    is_followed=IS_FOLLOWED.format(session="grown.id"),
    has_places=has_places("session.owner"),
    row_bytes=ROW_BYTES,
    stamp=STAMP,
)
# The owner of an active session, if that owner may have no further run under way.
_BUSY = """
SELECT s.owner FROM sessions_app_session s
WHERE s.id = %(session)s::text AND s.status = 'active' AND NOT ({has_places})
"""
BUSY = _BUSY.format(has_places=has_places("s.owner"))


def claim(session_id: str, worker: str) -> Attempt | None:
    """Take the session's parked run if all that it waited for is there, else its next queued one.

    With a lease. None if nothing is to do, another run is under way, or the session is not active
    (or gone). Raises OwnerBusy if its owner has as many runs under way as it may; at the same
    moment as many more may be claimed as there are threads that claim.
    """
    parameters = {
        "session": session_id,
        "worker": worker,
        "lease": timedelta(seconds=settings.LEASE_SECONDS),
        "resumed": EventType.RUN_RESUMED,
        "started": EventType.ASSISTANT_MESSAGE_START,
        **owner_limits.parameters(),
    }
    rows = fetch_prepared(CLAIM, parameters)
    if not rows:
        if settings.REQUIRE_KEYS and (busy := fetch_prepared(BUSY, parameters)):
            raise OwnerBusy(busy[0][0])
        return None
    [(run_id, number, continues, mount_plan, is_sub_session, opening, *position)] = rows
    kind = EventType.RUN_RESUMED if continues else EventType.ASSISTANT_MESSAGE_START
    entry = Entry(kind, {"runId": run_id, "attempt": number}, run_id)
    here = Position(*position)
    journal.announce([Addition(session_id, [entry])], {session_id: here}, within=UNTIL_OUTPUT)
    failpoints.reach(failpoints.CLAIMED)
    return Attempt(
        session_id,
        run_id,
        number,
        here.last_event_seq,
        continues,
        runs.read_output(Run.objects.get(pk=run_id)) if continues else "",
        json.loads(mount_plan),
        is_sub_session,
        opening or "",
    )


def read_opening(attempt: Attempt) -> dict[str, Any]:
    """Return what the attempt's run is about, and a page of what was said before it.

    `history` has the newest messages first, each with its seq, role, content, run id, source run id
    and whether its exchange with a model has checkpoints. Raises LeaseLost for a session that was
    deleted.
    """
    opening = attempt.opening
    if not opening:
        rows = fetch_prepared(OPENING, {"run": attempt.run_id})
        if not rows:
            raise LeaseLost(f"Session {attempt.session_id} was deleted.")
        [(opening,)] = rows
    found: dict[str, Any] = json.loads(opening)
    return found


def read_earlier(attempt: Attempt, after: int, before: int) -> list[list[Any]]:
    """Return a further page of the history between two seqs, as `read_opening` has it."""
    bounds = {"after": after, "before": before}
    parameters = {"session": attempt.session_id, "run": attempt.run_id, **bounds}
    [(page,)] = fetch_prepared(EARLIER, parameters)
    lines: list[list[Any]] = json.loads(page)
    return lines


# The attempts that are held: not cancelled, not rescued.
_HELD = """
FROM sessions_app_run r
JOIN unnest(%(runs)s::text[], %(attempts)s::bigint[]) AS h(id, attempt)
    ON h.id = r.id AND h.attempt = r.attempt
WHERE r.status = 'running'
"""
HELD = f"SELECT r.id {_HELD}"
_RENEW = """
WITH held AS MATERIALIZED (
    SELECT r.id {held}
    -- in the order in which a flush locks them
    ORDER BY r.session_id FOR NO KEY UPDATE OF r
)
UPDATE sessions_app_run r SET lease_expires_at = statement_timestamp() + %(lease)s::interval
FROM held WHERE r.id = held.id RETURNING r.id
"""
RENEW = _RENEW.format(held=_HELD)


def renew(attempts: list[Attempt]) -> set[str]:
    """Renew the leases; return the ids of the runs that are still held."""
    return _find_held(RENEW, attempts, lease=timedelta(seconds=settings.LEASE_SECONDS))


def still_held(attempts: list[Attempt]) -> set[str]:
    """Return the ids of those runs whose attempt is still running: not cancelled, not rescued."""
    return _find_held(HELD, attempts)


def _find_held(statement: str, attempts: list[Attempt], **more: Any) -> set[str]:
    runs, numbers = [each.run_id for each in attempts], [each.number for each in attempts]
    rows = fetch_prepared(statement, {"runs": runs, "attempts": numbers, **more})
    return {run_id for (run_id,) in rows}


def succeed(
    attempt: Attempt,
    content: str,
    usage: dict[str, Any],
    checkpoints: Sequence[dict[str, Any]] = (),
    first: int = 1,
    finish_reason: str = FinishReason.STOP,
    output: Sequence[Entry] = (),
) -> bool:
    """Settle a run with its answer, keeping its last checkpoints, numbered from `first`.

    `output` is what of the answer is not in the journal yet. `finish_reason` is one of FINISHED.
    Return whether the session has another run in its queue. Raises LeaseLost if the attempt no
    longer holds.
    """
    run = Run(
        id=attempt.run_id,
        session_id=attempt.session_id,
        usage=usage,
        finish_reason=finish_reason,
    )
    entries = [*output, *runs.build_end_events(run, None, content)]
    # The one statement is a transaction; a failpoint holds one that has not been committed yet.
    is_more = attempt.is_sub_session or settings.BARRIERS
    with transaction.atomic() if is_more else nullcontext():
        position = journal.succeed(attempt, entries, checkpoints, first, usage, finish_reason)
        if position is None:
            raise LeaseLost
        if attempt.is_sub_session:
            runs.answer_parent_call(attempt.session_id)
        failpoints.reach(failpoints.BEFORE_SETTLING)
    failpoints.reach(failpoints.SETTLED)
    return position.has_queued


def fail(attempt: Attempt, failure: Failure) -> None:
    """Settle a run with an error; what was said is kept, the session stays active.

    Raises LeaseLost if the attempt no longer holds.
    """
    with transaction.atomic():
        run = _settle_failed(attempt, failure)
        journal.append(attempt.session_id, _error(run, failure, runs.read_output(run)))


def park(attempt: Attempt, requests: Sequence[ActionRequest], usage: dict[str, Any]) -> None:
    """Take a run from its worker until its calls are answered: the questions commit with it.

    Raises LeaseLost if the attempt no longer holds.
    """
    with transaction.atomic():
        update_held(attempt, status=RunStatus.PARKED, lease_expires_at=None, usage=usage)
        run = Run.objects.get(pk=attempt.run_id)
        checkpoint = Checkpoint.objects.filter(run=run).count()
        waits: list[dict[str, Any]] = []
        entries: list[Entry] = []
        # Approvals first; a sub-session is created, and locked, after its parent.
        for request in sorted(requests, key=lambda each: each.kind != ActionKind.APPROVAL):
            data, more = request.ask(run, checkpoint)
            waits.append(data)
            entries += more
        data = {"runId": run.id, "attempt": run.attempt}
        entries.append(Entry(EventType.RUN_PARKED, {**data, "waits": waits}, run.id))
        journal.append(run.session_id, entries)
    failpoints.reach(failpoints.PARKED)


def release(attempt: Attempt) -> None:
    """Give a run back unfinished: what was said is void, the next attempt follows.

    That a daemon is stopped in order counts for no worker that has died. Raises LeaseLost.
    """
    with transaction.atomic():
        lock_session(attempt)
        run = Run.objects.claimed_by(attempt.run_id, attempt.number).first()
        if run is None:
            raise LeaseLost
        _interrupt(run, run.interruptions)


# Runs whose worker has not renewed its lease, by the clock of the database.
EXPIRED = """
SELECT session_id, id, attempt FROM sessions_app_run
WHERE status = 'running' AND lease_expires_at < statement_timestamp() LIMIT %(limit)s::bigint
"""


def rescue(limit: int = 100) -> int:
    """Give back the runs whose lease has expired, and have sub-sessions ended whose work is done.

    Safe to call from many workers at once. Return how many runs were rescued.
    """
    rescued = 0
    for values in fetch_prepared(EXPIRED, {"limit": limit}):
        attempt = Attempt(*values)
        # Else its worker, another rescuer or a deletion was faster.
        with suppress(LeaseLost), transaction.atomic():
            lock_session(attempt)
            held = Run.objects.claimed_by(attempt.run_id, attempt.number)
            if run := held.with_expired_lease().first():
                _interrupt(run, run.interruptions + 1)
                rescued += 1
    for session_id, owner in fetch_prepared(UNENDED, {"limit": limit}):
        hints.call_worker(session_id, owner)
    return rescued


def expire_leases() -> None:
    """End the leases of all runs: after a restore no worker holds one, whatever the rows say."""
    Run.objects.filter(status=RunStatus.RUNNING).update(lease_expires_at=Now())


def _interrupt(run: Run, broken_off: int) -> None:
    """Void the current attempt of a run, under the lock of its session.

    It has then been broken off so many times.
    """
    data = {"runId": run.id, "attempt": run.attempt}
    interrupted = Entry(EventType.RUN_INTERRUPTED, data, run.id)
    Run.objects.filter(pk=run.pk).update(interruptions=broken_off)
    if broken_off < settings.MAX_ATTEMPTS:
        Run.objects.filter(pk=run.pk).update(status=RunStatus.QUEUED, lease_expires_at=None)
        journal.append(run.session_id, [interrupted])
        hints.call_worker(run.session_id, run.owner)
        return
    failure = Failure(
        "too_many_attempts",
        f"The worker went away in each of {broken_off} attempts; send the message again.",
    )
    given_up = _settle_failed(Attempt(run.session_id, run.id, run.attempt), failure)
    # What was said is void, so there is nothing to keep of it.
    journal.append(run.session_id, [interrupted, *_error(given_up, failure, "")])


# The queue: sessions with a run that can be claimed, with their owners. First each owner's oldest,
# that of the owner with the fewest running runs before the others; then each owner's second, and so
# on, as far as the owner may have runs.
_QUEUED = """
WITH running AS MATERIALIZED (
    SELECT owner, count(*) AS runs FROM sessions_app_run WHERE status = 'running' GROUP BY owner
), queued AS (
    SELECT r.session_id, r.owner, min(r.created_at) AS since FROM sessions_app_run r
    WHERE r.status IN ('queued', 'parked')
        AND CASE r.status WHEN 'queued' THEN NOT EXISTS (
        SELECT FROM sessions_app_run o
        WHERE o.session_id = r.session_id AND o.status IN ('running', 'parked')
    ) ELSE NOT EXISTS (
        SELECT FROM sessions_app_pending_action a WHERE a.run_id = r.id AND a.status = 'pending'
    ) END
    GROUP BY r.session_id, r.owner
), placed AS (
    SELECT session_id, owner, since, coalesce(runs, 0)
        + row_number() OVER (PARTITION BY owner ORDER BY since, session_id) AS place
    FROM queued LEFT JOIN running USING (owner)
)
SELECT session_id, owner FROM placed WHERE {may_run}
ORDER BY place, since, session_id LIMIT %(limit)s::bigint
"""
QUEUED = _QUEUED.format(may_run=is_below_limit("runs", "placed.owner", "place - 1"))
# Sub-sessions whose work is done, and that are still to be ended.
UNENDED = """
SELECT s.id, s.owner FROM sessions_app_session s
JOIN sessions_app_pending_action a ON a.sub_session_id = s.id
WHERE s.status = 'active' AND NOT EXISTS (
    SELECT FROM sessions_app_run o
    WHERE o.session_id = s.id AND o.status IN ('queued', 'running', 'parked'))
LIMIT %(limit)s::bigint
"""


def find_work(limit: int) -> list[tuple[str, str]]:
    """Return sessions with a run that can be claimed, each with its owner, owners in turns."""
    parameters = {"limit": limit, **owner_limits.parameters()}
    return [(session_id, owner) for session_id, owner in fetch_prepared(QUEUED, parameters)]


def _settle_failed(attempt: Attempt, failure: Failure) -> Run:
    """Take a held run to its end by an error, under the lock of its session; raise LeaseLost."""
    used = {} if failure.usage is None else {"usage": failure.usage}
    session = update_held(
        attempt,
        status=RunStatus.FAILED,
        ended_at=Now(),
        lease_expires_at=None,
        finish_reason=FinishReason.ERROR,
        error_code=failure.code,
        error=failure.message,
        **used,
    )
    run = Run.objects.get(pk=attempt.run_id)
    runs.record_end(session, run)
    return run


def update_held(attempt: Attempt, **changes: Any) -> Session:
    """Lock the attempt's session, change its run, and return the session.

    In the caller's transaction. Raises LeaseLost, with nothing changed, if the attempt no longer
    holds the run.
    """
    session = lock_session(attempt)
    if not Run.objects.claimed_by(attempt.run_id, attempt.number).update(**changes):
        raise LeaseLost
    return session


def lock_session(attempt: Attempt) -> Session:
    """Lock the attempt's session and return it.

    A session that was deleted has taken the lease with it: LeaseLost is raised.
    """
    try:
        return Session.objects.lock(attempt.session_id)
    except SessionNotFound:
        raise LeaseLost from None


def _error(run: Run, failure: Failure, said: str) -> list[Entry]:
    return runs.build_end_events(
        run, EventType.EXECUTION_ERROR, said, error=failure.message, code=failure.code
    )
