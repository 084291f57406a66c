"""What runs have done, step by step, read from the journal; and the journals of a whole tree."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db import connection

from amplifierd.common.callers import Visibility, sql_visibility
from amplifierd.common.formats import stamp
from amplifierd.common.redaction import redact
from sessions_app.events import EventType
from sessions_app.models import Event, Run

JSON = dict[str, Any]
# Characters of a step's text, or of what came of a call.
LONGEST = 4000
SPOKEN: dict[str, str] = {EventType.CONTENT: "text", EventType.THINKING_DELTA: "thinking"}
TRACED = (
    *SPOKEN,
    EventType.ASSISTANT_MESSAGE_START,
    EventType.ASSISTANT_MESSAGE_COMPLETE,
    EventType.TOOL_PRE,
    EventType.TOOL_POST,
    EventType.RUN_PARKED,
    EventType.RUN_RESUMED,
    EventType.RUN_INTERRUPTED,
)
# The events of a session stay in their order, whichever transaction began first.
TREE_EVENTS = """
WITH RECURSIVE tree AS (
    SELECT id FROM sessions_app_session WHERE id = %(session)s
    UNION
    SELECT child.id FROM sessions_app_session AS child JOIN tree ON child.parent_id = tree.id
    WHERE %(sees_all)s OR child.owner = %(owner)s
), event AS (
    SELECT event.*, max(created_at) OVER (PARTITION BY session_id ORDER BY seq) AS place
    FROM sessions_app_event AS event
    WHERE session_id IN (SELECT id FROM tree) AND (%(type)s::text IS NULL OR type = %(type)s)
)
SELECT total.count, page.*
FROM (SELECT count(*) FROM event) AS total
LEFT JOIN LATERAL (
    SELECT session_id, type, data::text, created_at FROM event
    ORDER BY place, session_id, seq OFFSET %(offset)s LIMIT %(limit)s
) AS page ON true
"""


def tree_events(
    session_id: str, sees: Visibility, *, offset: int, limit: int, type: str | None = None
) -> JSON:
    """Return a page of the events of a session and all below it that the caller may see."""
    parameters = {"session": session_id, **sql_visibility(sees), "type": type}
    with connection.cursor() as cursor:
        cursor.execute(TREE_EVENTS, {**parameters, "offset": offset, "limit": limit})
        rows = cursor.fetchall()
    total = rows[0][0]
    events = [
        {"event": name, "ts": stamp(at), "data": json.loads(data), "session_id": found}
        for _, found, name, data, at in rows
        if found is not None
    ]
    return {"events": events, "total": total, "hasMore": offset + len(events) < total}


def trace(session_id: str, limit: int) -> list[tuple[Run, list[JSON]]]:
    """Return the newest runs of a session, the oldest of them first, each with its steps."""
    newest = Run.objects.filter(session_id=session_id).newest_first()
    found = list(newest[: limit + 1])
    # The journal is read from where the run before them began: runs do not overlap.
    start = (found.pop().attempt_seq or 0) if len(found) > limit else 0
    traces = {run.id: _Trace() for run in found}
    events = Event.objects.in_session(session_id).after(start).filter(type__in=TRACED)
    for event in events.filter(run_id__in=traces).iterator(chunk_size=500):
        traces[event.run_id].take(event)
    return [(run, traces[run.id].steps) for run in reversed(found)]


class _Trace:
    """The steps of one run, in the order in which they began."""

    def __init__(self) -> None:
        self.steps: list[JSON] = []
        self._attempt = 0

    def take(self, event: Event) -> None:
        at, data = event.created_at, event.data
        began = event.began_at or at
        if kind := SPOKEN.get(event.type):
            text = data.get("content") or data.get("hook_data", {}).get("delta") or ""
            last = self.steps[-1] if self.steps else None
            if last is None or last["type"] != kind or last["attempt"] != self._attempt:
                last = self._add(kind, began, content="")
            last["content"] = _shorten(last["content"] + text)
            _finish(last, at)
        elif event.type == EventType.TOOL_PRE:
            self._call(data["hook_data"], at)
        elif event.type == EventType.TOOL_POST:
            self._answer(data["hook_data"], at)
        elif event.type == EventType.RUN_PARKED:
            for wait in data["waits"]:
                if "session_id" in wait:
                    call = {"toolCallId": wait["tool_call_id"], "name": wait["tool_name"]}
                    child, error = wait["session_id"], wait["error"]
                    self._add("session", at, **call, sessionId=child, error=error)
        elif event.type == EventType.RUN_INTERRUPTED:
            # What has been said since the run's last start is void.
            for step in self._open():
                step["isVoid"] = True
        elif event.type == EventType.RUN_RESUMED:
            self._end(("session",), at)
        elif event.type == EventType.ASSISTANT_MESSAGE_START:
            self._attempt = data["attempt"]
        else:
            self._end(("session", "tool"), at)

    def _open(self) -> Iterator[JSON]:
        return (step for step in self.steps if not step["isVoid"])

    def _call(self, call: JSON, at: datetime) -> None:
        self._add(
            "tool",
            at,
            toolCallId=call.get("tool_call_id"),
            name=call.get("tool_name"),
            input=redact(call.get("tool_input")),
            result=None,
            error=None,
        )

    def _answer(self, call: JSON, at: datetime) -> None:
        """End the call; one that was journalled without its beginning begins here."""
        same = [
            step
            for step in self._open()
            if step["type"] == "tool" and step["toolCallId"] == call.get("tool_call_id")
        ]
        if not same or same[-1]["endedAt"]:
            self._call(call, at)
            same = [self.steps[-1]]
        step = same[-1]
        if call.get("error") is not None:
            step["error"] = _shorten(_text(call["error"]))
        elif call.get("tool_response") is not None:
            step["result"] = _shorten(_text(call["tool_response"]))
        _finish(step, at)

    def _end(self, kinds: tuple[str, ...], at: datetime) -> None:
        for step in self.steps:
            if step["type"] in kinds and not step["endedAt"]:
                _finish(step, at)

    def _add(self, kind: str, at: datetime, **more: Any) -> JSON:
        times = {"startedAt": stamp(at), "endedAt": None, "duration": None}
        step = {"type": kind, "attempt": self._attempt, "isVoid": False, **more, **times}
        self.steps.append(step)
        return step


def _finish(step: JSON, at: datetime) -> None:
    step["endedAt"] = stamp(at)
    step["duration"] = count_seconds(datetime.fromisoformat(step["startedAt"]), at)


def count_seconds(start: datetime | None, end: datetime | None) -> float | None:
    return round((end - start).total_seconds(), 6) if start and end else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
