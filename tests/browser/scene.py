"""Fills a scratch database with the scene, through the services: `python -m tests.browser.scene`.

What happened is then dated back, with the triggers off: only a database that is thrown away may be
treated so. `python -m tests.browser.scene long` makes one session of 10,000 messages instead, and
`… ask SESSION` has a tool of that session ask. It prints the ids of the sessions by their names, as
JSON.
"""

import json
import os
import random
import re
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "amplifierd.settings")
django.setup()

from django.db import connection, transaction  # noqa: E402
from django.utils import timezone  # noqa: E402

from amplifierd.common.callers import Everyone  # noqa: E402
from amplifierd.postgres import serving  # noqa: E402
from sessions_app.events import EventType  # noqa: E402
from sessions_app.models import (  # noqa: E402
    Attempt,
    Event,
    Session,
)
from sessions_app.models.daemon import Process  # noqa: E402
from sessions_app.services import attempts, journal, runs, sessions  # noqa: E402
from sessions_app.services.attempts import Failure  # noqa: E402
from sessions_app.services.journal import (  # noqa: E402
    Entry,
    Line,
)
from sessions_app.services.pending_actions import ActionRequest, ApprovalRequest  # noqa: E402
from sessions_app.services.sub_sessions import SubSessionRequest  # noqa: E402
from tests.browser.conversations import (  # noqa: E402
    ASKS,
    CONVERSATIONS,
    EVERYDAY,
    SMALL,
    WRITER,
    Conversation,
    Turn,
)

LONG = 10_000
MONTH = 30 * 24 * 60
dice = random.Random(5)
ENDS = {"completed": sessions.complete, "terminated": sessions.terminate}
# Seconds that pass before an event of a type, at least and at most.
PAUSES = {
    EventType.USER_MESSAGE_SAVED: (4, 40),
    EventType.ASSISTANT_MESSAGE_START: (0.02, 0.2),
    EventType.THINKING_DELTA: (0.1, 0.3),
    EventType.CONTENT: (0.05, 0.25),
    EventType.TOOL_PRE: (0.1, 0.4),
    EventType.TOOL_POST: (0.3, 2),
    EventType.SESSION_ENDED: (5, 60),
}


def main() -> None:
    """Play what was asked for, and print the ids."""
    match sys.argv[1:]:
        case ["long"]:
            made = {"long": long().id}
        case ["ask", session_id]:
            take(session_id, ASKS)
            made = {}
        case _:
            made = scene()
    sys.stdout.write(json.dumps(made))


def long() -> Session:
    """Make a session of 10,000 messages."""
    session = sessions.create(profile_name=SMALL, name="A long talk")
    sessions.start(session.id)
    lines = [
        Line("assistant" if n % 2 == 0 else "user", f"message number {n}")
        for n in range(1, LONG + 1)
    ]
    journal.append(session.id, [Entry(EventType.MESSAGE_ADDED, {}, message=one) for one in lines])
    return session


def scene() -> dict[str, str]:
    """Play the everyday sessions of a month, and then the conversations; return their ids."""
    spans = [MONTH] * 40 + [MONTH / 30] * 60
    ages = sorted((span * dice.random() + 100 for span in spans), reverse=True)
    for age in ages:
        play(everyday(age), None)
    made: dict[str, str] = {}
    for conversation in CONVERSATIONS:
        made[conversation.name] = parent = play(conversation, None)
        for child in conversation.children:
            made[child.name] = play(child, parent)
    return made


def everyday(age: float) -> Conversation:
    """Return a short session of that many minutes ago."""
    name, fails = dice.choice(EVERYDAY), dice.random() < 0.06
    answer = "Nothing unusual: " + " ".join(["all is as it was yesterday,"] * dice.randint(3, 30))
    turn = Turn("What is new?", answer, outcome="failed" if fails else "succeeded")
    status = "failed" if fails else dice.choice(("completed", "completed", "terminated"))
    error = "The provider was away for five minutes." if fails else ""
    count = dice.randint(1, 4)
    return Conversation(
        name, age, (turn,) * count, status, dice.choice((WRITER, SMALL)), error=error
    )


def play(conversation: Conversation, parent: str | None) -> str:
    """Live through a session, and date it back; return its id."""
    session = sessions.create(
        profile_name=conversation.profile,
        name=conversation.name,
        amplified_dir=conversation.directory,
        parent_session_id=parent,
        sees=Everyone(),
    )
    if conversation.status != "created":
        sessions.start(session.id)
    for turn in conversation.turns:
        take(session.id, turn)
    if conversation.status == "failed":
        sessions.fail(session.id, conversation.error, {"retries": 12, "last_status": 429})
    elif conversation.status in ENDS:
        ENDS[conversation.status](session.id)
    date_back(session.id, timezone.now() - timedelta(minutes=conversation.minutes_ago))
    return session.id


def take(session_id: str, turn: Turn) -> None:
    """Take a turn, as the worker does; it finds nothing to do, for this is one transaction."""
    with transaction.atomic():
        runs.send(session_id, turn.says)
        if turn.outcome == "queued":
            return
        attempt = attempts.claim(session_id, worker())
    assert attempt
    said = [Entry(kind, data, attempt.run_id) for kind, data in pieces(attempt, turn)]
    journal.flush({attempt: said})
    settle(attempt, turn)


def worker() -> str:
    """Return the name of the daemon's worker, whose runs these are to be."""
    alive = Process.objects.filter(kind="worker").values_list("name", flat=True)
    return alive.first() or "worker"


def pieces(attempt: Attempt, turn: Turn) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what an attempt tells of a turn, in its order."""
    run = {"runId": attempt.run_id}
    for piece in split(turn.thinks):
        yield EventType.THINKING_DELTA, {"hook_data": {"delta": piece}, **run}
    for number, (name, given, answer) in enumerate(turn.tools):
        call = {"tool_name": name, "tool_input": given, "tool_call_id": f"call_{number}"}
        yield EventType.TOOL_PRE, {"hook_event": "tool:pre", "hook_data": call, **run}
        call = {**call, "tool_response": answer}
        yield EventType.TOOL_POST, {"hook_event": "tool:post", "hook_data": call, **run}
    for piece in split(turn.answers):
        yield EventType.CONTENT, {"type": "content", "content": piece, **run}


def split(text: str) -> list[str]:
    """Return a text in pieces of some words, as the journal has them."""
    return re.findall(r"(?:\S+\s*){1,6}", text)


def settle(attempt: Attempt, turn: Turn) -> None:
    """Give a turn its outcome."""
    usage = {"input_tokens": 180 + len(turn.says) * 4, "output_tokens": len(turn.answers) // 4}
    if turn.outcome == "succeeded":
        attempts.succeed(attempt, turn.answers, usage)
    elif turn.outcome == "parked":
        waits = [
            ApprovalRequest(f"ask_{n}", tool, given) for n, (tool, given) in enumerate(turn.asks)
        ]
        usage |= {"cached_tokens": 120, "reasoning_tokens": 24, "requests": 2, "cost": 0.0038}
        attempts.park(attempt, [*waits, *map(delegation, turn.gives)], usage)
    elif turn.outcome == "failed":
        failure = Failure("rate_limited", "The provider refused: 429 Too Many Requests.")
        attempts.fail(attempt, failure)


def delegation(message: str) -> ActionRequest:
    """Return a call that gives a message to a sub-session."""
    return SubSessionRequest(
        "give_0", "delegate", {"message": message}, profile=SMALL, message=message
    )


DATE_BACK = """
UPDATE sessions_app_event e SET created_at = d.at,
    data = CASE WHEN e.data ? 'timestamp'
        THEN jsonb_set(e.data, '{timestamp}', to_jsonb(to_char(
            d.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')))
        ELSE e.data END
FROM unnest(%(seqs)s::bigint[], %(ats)s::timestamptz[]) AS d(seq, at)
WHERE e.session_id = %(id)s AND e.seq = d.seq;

UPDATE sessions_app_message m SET created_at = e.created_at
FROM sessions_app_event e
WHERE m.session_id = %(id)s AND e.session_id = m.session_id AND e.data ->> 'messageId' = m.id;

UPDATE sessions_app_run r SET
    created_at = (SELECT min(created_at) FROM sessions_app_event e
        WHERE e.run_id = r.id AND e.session_id = r.session_id),
    started_at = (SELECT min(created_at) FROM sessions_app_event e
        WHERE e.run_id = r.id AND e.session_id = r.session_id AND type = 'assistant_message_start'),
    first_token_at = (SELECT min(created_at) FROM sessions_app_event e
        WHERE e.run_id = r.id AND e.session_id = r.session_id
        AND type IN ('content', 'hook:thinking:delta')),
    ended_at = (SELECT max(created_at) FROM sessions_app_event e
        WHERE e.run_id = r.id AND e.session_id = r.session_id
        AND type = 'assistant_message_complete')
WHERE r.session_id = %(id)s;

UPDATE sessions_app_session SET created_at = %(start)s, updated_at = %(end)s,
    started_at = CASE WHEN started_at IS NULL THEN NULL ELSE %(start)s END,
    ended_at = CASE WHEN ended_at IS NULL THEN NULL ELSE %(end)s END
WHERE id = %(id)s;
"""


def date_back(session_id: str, end: datetime) -> None:
    """Have the session's history end at a time, with pauses as there are between events."""
    seqs, passed, offsets = [], 0.0, []
    for seq, kind in Event.objects.filter(session_id=session_id).values_list("seq", "type"):
        passed += dice.uniform(*PAUSES.get(kind, (0, 0.1)))
        seqs.append(seq)
        offsets.append(passed)
    start = end - timedelta(seconds=passed)
    ats = [start + timedelta(seconds=offset) for offset in offsets]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        values = {"id": session_id, "seqs": seqs, "ats": ats, "start": start, "end": end}
        for statement in filter(str.strip, DATE_BACK.split(";\n")):
            cursor.execute(statement, values)


if __name__ == "__main__":
    with serving([__file__, "scene"]):
        main()
