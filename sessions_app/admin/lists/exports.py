"""What a list shows, as a file: all of it, sent while it is read."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.http import StreamingHttpResponse
from django.utils import timezone

from amplifierd.common.formats import stamp
from amplifierd.common.redaction import masked
from sessions_app.admin.lists.runs import RunRow
from sessions_app.admin.lists.sessions import SessionRow
from sessions_app.admin.rendering import visible
from sessions_app.api.serializers import RunSerializer, SessionSerializer

JSON = dict[str, Any]

# A spreadsheet takes what begins so for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
# Rows that are sent at a time.
GATHERED = 100

Column = tuple[str, Callable[[Any], Any]]

SESSION_COLUMNS: list[Column] = [
    ("id", lambda row: row.id),
    ("name", lambda row: row.session.name),
    ("status", lambda row: row.session.status),
    ("profile", lambda row: row.session.profile_name),
    ("directory", lambda row: row.session.amplified_dir),
    ("owner", lambda row: row.session.owner),
    ("parent", lambda row: row.session.parent_id),
    ("created", lambda row: _stamp(row.session.created_at)),
    ("started", lambda row: _stamp(row.session.started_at)),
    ("ended", lambda row: _stamp(row.session.ended_at)),
    ("seconds", lambda row: row.session.duration),
    ("messages", lambda row: row.session.message_count),
    ("answers", lambda row: row.session.agent_invocations),
    ("tokens", lambda row: row.session.token_usage),
    ("unread", lambda row: "yes" if row.session.is_unread else "no"),
    ("error", lambda row: row.session.error_message),
    ("found", lambda row: row.place.text if row.place else None),
]
RUN_COLUMNS: list[Column] = [
    ("id", lambda row: row.id),
    ("session", lambda row: row.run.session_id),
    ("session_name", lambda row: row.run.session.name),
    ("message", lambda row: row.run.message.seq),
    ("status", lambda row: row.run.status),
    ("attempt", lambda row: row.run.attempt),
    ("worker", lambda row: row.run.worker),
    ("created", lambda row: _stamp(row.run.created_at)),
    ("started", lambda row: _stamp(row.run.started_at)),
    ("ended", lambda row: _stamp(row.run.ended_at)),
    ("seconds", lambda row: row.seconds),
    ("seconds_to_first_token", lambda row: row.first_token_seconds),
    ("usage", lambda row: row.usage),
    ("finish_reason", lambda row: row.run.finish_reason),
    ("error_code", lambda row: row.run.error_code),
    ("error", lambda row: row.run.error),
]


def session_export(row: SessionRow) -> JSON:
    """Return a session as the API has it, without secrets, and where a search found it."""
    shown = SessionSerializer.serialize(row.session) | {"owner": row.session.owner}
    for name in ("metadata", "errorDetails"):
        shown[name] = masked(shown[name])
    return shown | ({"found": row.place.text} if row.place else {})


def run_export(row: RunRow) -> JSON:
    """Return a run as the API has it, and how long it took to say something."""
    return RunSerializer.serialize(row.run) | {"secondsToFirstToken": row.first_token_seconds}


def csv_file(name: str, columns: list[Column], rows: Iterable[Any]) -> StreamingHttpResponse:
    """Return the rows as a CSV file (RFC 4180) that a spreadsheet computes nothing of."""
    return _file(name, "csv", "text/csv; charset=utf-8", _csv_lines(columns, rows))


def json_file(
    name: str, as_json: Callable[[Any], JSON], rows: Iterable[Any]
) -> StreamingHttpResponse:
    """Return the rows as a JSON file: one array."""
    return _file(name, "json", "application/json", _json_lines(as_json, rows))


def cell(value: Any) -> Any:
    """Return a value as a cell: a text is no formula, and has no invisible characters."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _csv_lines(columns: list[Column], rows: Iterable[Any]) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield writer.writerow([heading for heading, _ in columns])
    for row in rows:
        yield writer.writerow([cell(value(row)) for _, value in columns])


def _json_lines(as_json: Callable[[Any], JSON], rows: Iterable[Any]) -> Iterator[str]:
    before = "[\n"
    for row in rows:
        yield before + json.dumps(as_json(row))
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def _file(name: str, kind: str, content_type: str, lines: Iterator[str]) -> StreamingHttpResponse:
    response = StreamingHttpResponse(_gathered(lines), content_type=content_type)
    day = f"{timezone.now():%Y-%m-%d}"
    response["Content-Disposition"] = f'attachment; filename="{name}-{day}.{kind}"'
    response["Cache-Control"] = "no-store"
    return response


def _gathered(lines: Iterator[str]) -> Iterator[str]:
    """Yield the lines, many at a time."""
    pending: list[str] = []
    for line in lines:
        pending.append(line)
        if len(pending) == GATHERED:
            yield "".join(pending)
            pending.clear()
    yield "".join(pending)


def _stamp(at: Any) -> str | None:
    return stamp(at) if at else None


class _Echo:
    """A file that gives back what is written to it."""

    def write(self, line: str) -> str:
        return line
