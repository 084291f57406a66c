"""A session's transcript for people: windows of bounded size, for transcripts of any length."""

import time
from dataclasses import dataclass
from typing import Any

from django.db.models.functions import Left, Length
from django.utils.html import escape

from sessions_app.admin.pending_actions import PendingActions, find_pending_actions, link_calls
from sessions_app.admin.rendering import render_markdown, visible
from sessions_app.admin.run_details import RunDetails, read_run_details, select_waited
from sessions_app.models import Message, Run, Session
from sessions_app.services.runs import OUTCOMES
from sessions_app.states import RUN_TERMINAL, RUN_UNDER_WAY, Role, RunStatus

# Messages of one window, and characters of each.
WINDOW = 50
MESSAGE_LIMIT = 20_000
# Characters from which a message is shown unformatted: formatting it would take too long.
PLAIN_FROM = 100_000
# Seconds for formatting one window; messages after that are shown unformatted.
PATIENCE = 2.0

COLUMNS = "seq role created_at agent token_count metadata run_id finish_reason".split()


# A message for its template: COLUMNS, and what `_complete` adds to them.
ShownMessage = dict[str, Any]


@dataclass(frozen=True)
class Transcript:
    """Neighbouring messages, oldest first, of `newest` in all."""

    rows: list[ShownMessage]
    first: int
    last: int
    newest: int

    @property
    def has_older(self) -> bool:
        return self.first > 1

    @property
    def has_newer(self) -> bool:
        return self.last < self.newest


@dataclass(frozen=True)
class LiveRun:
    """An open run, with its output so far and its pending actions."""

    run: Run
    details: RunDetails
    pending_actions: PendingActions

    @property
    def is_under_way(self) -> bool:
        return self.run.status in RUN_UNDER_WAY

    @property
    def waits_for(self) -> str:
        return self.pending_actions.describe(self.run)


def read_transcript(
    session: Session,
    *,
    before: int | None = None,
    after: int | None = None,
    around: int | None = None,
) -> Transcript:
    """Return the messages before, after or around a seq; without one, the newest.

    Six queries at most, however long the transcript is.
    """
    newest = session.message_count
    end = newest + 1 if before is None else min(before, newest + 1)
    if around is not None:
        end = min(max(around + WINDOW // 2, WINDOW + 1), newest + 1)
    first = max(end - WINDOW, 1)
    if after is not None and after < newest:
        first = after + 1
        end = min(first + WINDOW, newest + 1)
    # Numbers have no gaps: a range of them is cheap, whatever the planner thinks of an order.
    found = Message.objects.in_session(session.id).between(first - 1, end)
    rows = list(_read_columns(found, MESSAGE_LIMIT))
    return Transcript(_complete(session, rows), first, end - 1, newest)


def read_message(session: Session, seq: int, *, whole: bool = False) -> ShownMessage | None:
    found = Message.objects.in_session(session.id).filter(seq=seq)
    rows = list(_read_columns(found, None if whole else MESSAGE_LIMIT))
    return _complete(session, rows)[0] if rows else None


def find_open_runs(session: Session) -> list[LiveRun]:
    """Return the session's open runs, the one under way first, with their output so far.

    It ends with the newest event when the session was read: the stream continues from there.
    """
    rows = list(Run.objects.filter(session_id=session.id).open().select_related("message")[:50])
    rows.sort(key=lambda run: run.status not in RUN_UNDER_WAY)
    begun = [run.id for run in rows if run.status in RUN_UNDER_WAY]
    details = read_run_details(session.id, begun, session.last_event_seq, with_text=True)
    pending = find_pending_actions(begun)
    for run_id, found in pending.items():
        link_calls(details.get(run_id, RunDetails()), found)
    return [
        LiveRun(run, details.get(run.id, RunDetails()), pending.get(run.id, PendingActions()))
        for run in rows
    ]


def _read_columns(found: Any, limit: int | None) -> Any:
    text = Left("content", limit) if limit else Left("content", 2**30)
    return found.values(*COLUMNS, text=text, length=Length("content"))


def _complete(session: Session, rows: list[ShownMessage]) -> list[ShownMessage]:
    """Return the messages with their texts as HTML, each run with the last of its messages.

    `is_cut`: this is only the beginning. `details` and `pending_actions` are those of the run.
    """
    ends = {row["run_id"]: row["seq"] for row in rows if row["run_id"]}
    runs = {run.id: run for run in Run.objects.filter(pk__in=ends)} if ends else {}
    settled = [run for run in runs.values() if run.status in RUN_TERMINAL]
    ids = [run.id for run in settled]
    details = read_run_details(session.id, ids, session.last_event_seq)
    pending = find_pending_actions(select_waited(settled))
    for run_id, found in pending.items():
        link_calls(details.get(run_id, RunDetails()), found)
    deadline = time.monotonic() + PATIENCE
    for row in rows:
        text, outcome = row["text"], row["metadata"].get("outcome")
        run = runs.get(row["run_id"]) if ends.get(row["run_id"]) == row["seq"] else None
        is_whole = run and run.status == RunStatus.SUCCEEDED and not run.interruptions
        is_plain = row["role"] == Role.TOOL or len(text) > PLAIN_FROM or time.monotonic() > deadline
        row |= {
            # Metadata are the caller's own too: only what the services write counts.
            "outcome": outcome if outcome in OUTCOMES.values() else "",
            "html": escape(visible(text)) if is_plain else render_markdown(text),
            "is_plain": is_plain,
            "is_cut": row["length"] > len(text),
            # A run that has nothing to add to its message is left out.
            "run": None if is_whole else run,
            "details": run and details.get(run.id),
            "pending_actions": run and pending.get(run.id),
        }
    return rows
