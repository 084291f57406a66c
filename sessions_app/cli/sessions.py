"""`sessions`: list, search, watch, export, start, end, delete and clean up sessions."""

import contextlib
import json
import re
import sys
import tempfile
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from sessions_app.cli.approvals import print_approvals
from sessions_app.cli.client import BACK, JSON, LOST, RESET, ApiError, Client, EventStream, Query
from sessions_app.cli.lookup import SESSION_PREFIX, find_id, find_ids, find_session
from sessions_app.cli.output import (
    STATUS_STYLES,
    Terminal,
    act_on_each,
    confirm,
    dump_line,
    format_age,
    format_time,
    one_line,
    print_page,
    print_table,
    printable,
    put,
    put_json,
)
from sessions_app.cli.render import EVENT_STYLES, describe_run, summarize
from sessions_app.events import EventType
from sessions_app.states import CUT_OFF
from sessions_app.usage import used

# How many of a session's newest messages, runs and events are shown.
SHOWN = 10
# Sessions, and messages, in one request of an export.
PAGE = 100
FORMATS = ("json", "jsonl", "markdown")
HEADINGS = ("ID", "STATUS", "AGE", "MSGS", "NAME", "PROFILE")
# Suffix of a file's name → the format, if none is given.
SUFFIXES = {".md": "markdown", ".markdown": "markdown", ".jsonl": "jsonl", ".ndjson": "jsonl"}
# Option that filters → the parameter of the API.
FILTERS = {
    "status": "status",
    "profile": "profile_name",
    "directory": "amplified_dir",
    "since": "since",
    "until": "until",
}
# An age as `format_age` writes it.
AGE = re.compile(r"(\d{1,6})([smhdw])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
# A word that a search found, as snippets mark it.
MARKED = re.compile("⟦([^⟧]*)⟧")


def parse_moment(text: str) -> datetime:
    """Parse a time in ISO 8601 (UTC if it has no zone), or an age."""
    if age := AGE.fullmatch(text):
        return datetime.now(UTC) - timedelta(**{UNITS[age[2]]: int(age[1])})
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(
            f"{text!r} is not a time; write 2026-01-31, 2026-01-31T09:00Z or 7d"
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def build_query(client: Client, options: Namespace) -> Query:
    query: Query = []
    for option, name in FILTERS.items():
        if value := getattr(options, option):
            query.append((name, value.isoformat() if isinstance(value, datetime) else value))
    if options.parent:
        query.append(("parent_session_id", find_id(client, options.parent)))
    for pair in options.metadata:
        key, separator, value = pair.partition("=")
        if not (key and separator):
            raise ApiError(f"--metadata is KEY=VALUE, not {pair!r}.")
        query.append((f"metadata.{key}", value))
    return query


def list_sessions(terminal: Terminal, options: Namespace) -> None:
    query = build_query(terminal.client, options)
    print_page(terminal, options, "sessions/", query, print_sessions)


def print_sessions(screen: Console, rows: Iterable[JSON]) -> None:
    """Print sessions, a line each: in full on a pipe, shortened on a terminal."""
    print_table(screen, HEADINGS, [list_cells(row, short=screen.is_terminal) for row in rows])


def list_cells(row: JSON, *, short: bool) -> tuple[object, ...]:
    """Return what stands below HEADINGS for a session."""
    return (
        row["sessionId"].removeprefix(SESSION_PREFIX) if short else row["sessionId"],
        row["status"],
        format_age(row["createdAt"]) if short else format_time(row["createdAt"]),
        row["messageCount"],
        row["name"] or "-",
        row["profileName"],
    )


def search_sessions(terminal: Terminal, options: Namespace) -> None:
    """Print the sessions that a search finds, best match first, each with its snippet."""
    text, rows = " ".join(options.words), []
    query = [
        *build_query(terminal.client, options),
        ("q", text),
        ("limit", min(options.limit, PAGE)),
    ]
    for answer in terminal.client.pages("sessions/", query):
        rows += answer.json()
        if len(rows) >= options.limit:
            break
    for row in rows[: options.limit]:
        match = row["match"]
        values = (row["sessionId"], row["status"], match["seq"], row["name"], match["snippet"])
        columns = ["-" if value is None else one_line(str(value)) for value in values]
        if options.as_json:
            put_json(terminal.screen, row)
        elif terminal.screen.is_terminal:
            print_hit(terminal.screen, columns, format_age(row["createdAt"]))
        else:
            put(terminal.screen, "\t".join(columns))
    more = int(answer.headers["X-Total-Count"]) - len(rows[: options.limit])
    wanted = [word for word in text.split() if not word.startswith("-")]
    if not rows and not any(re.search(r"\w", word) for word in wanted):
        put(terminal.notes, "The search has no words; write at least one.", "yellow")
    elif not rows:
        put(terminal.notes, "Nothing was found.", "dim")
    elif more > 0:
        put(terminal.notes, f"{more} more; show them with --limit.", "dim")
    if "X-Search-Incomplete" in answer.headers:
        text = "The words are common: older sessions were left out; look with --until."
        put(terminal.notes, text, "dim")


def print_hit(screen: Console, columns: list[str], age: str) -> None:
    """Print a session that a search found and its snippet, with the words in bold."""
    session_id, status, seq, name, snippet = columns
    heading = Text(session_id.removeprefix(SESSION_PREFIX), "bold")
    heading.append(f"  {status}", STATUS_STYLES.get(status, ""))
    heading.append(f"  {age}", "dim")
    heading.append("" if name == "-" else f"  {name}")
    screen.print(heading, overflow="ellipsis", no_wrap=True)
    place = Text("    " if seq == "-" else f"    {seq}: ", "dim")
    for number, piece in enumerate(MARKED.split(snippet)):
        place.append(piece, "bold cyan not dim" if number % 2 else "not dim")
    screen.print(place, overflow="fold")


def show_session(terminal: Terminal, options: Namespace) -> None:
    """Print a session's summary, its newest messages and runs, and its pending approvals."""
    client, screen = terminal.client, terminal.screen
    session = find_session(client, options.id)
    path = f"sessions/{session['sessionId']}"
    messages = client.get(f"{path}/messages", limit=SHOWN)["messages"]
    runs = client.get(f"{path}/runs", limit=SHOWN)
    pending = client.get(f"{path}/approvals", status="pending")[::-1][:SHOWN]
    if options.as_json:
        put_json(screen, {**session, "messages": messages, "runs": runs, "approvals": pending})
        return
    when = format_age if screen.is_terminal else format_time
    print_table(screen, ("SESSION", session["sessionId"]), describe_session(session).items())
    if messages:
        put(screen, "")
        lines = []
        for message in messages:
            # The reason comes first, because the end of a long line is not shown.
            why = CUT_OFF.get(message["finishReason"])
            text = f"[{why}] {message['content']}" if why else message["content"]
            lines.append((message["seq"], message["role"], when(message["timestamp"]), text))
        print_table(screen, ("SEQ", "ROLE", "TIME", "CONTENT"), lines)
    if runs:
        put(screen, "")
        rows = []
        for run in runs:
            cut_off = CUT_OFF.get(run["finishReason"], "-")
            error = f"{run['errorCode']}: {run['error']}" if run["errorCode"] else cut_off
            at = when(run["createdAt"])
            rows.append((run["runId"], run["status"], run["attempt"], at, error))
        print_table(screen, ("RUN", "STATUS", "ATTEMPT", "CREATED", "ERROR"), rows)
    if pending:
        put(screen, "")
        print_approvals(screen, pending)


def describe_session(session: JSON) -> dict[str, Any]:
    facts = {
        "id": session["sessionId"],
        "name": session["name"],
        "status": session["status"],
        "profile": session["profileName"],
        "directory": session["amplifiedDir"],
        "parent": session["parentSessionId"],
        "created": format_time(session["createdAt"]),
        "started": format_time(session["startedAt"]),
        "ended": format_time(session["endedAt"]),
        "error": session["errorMessage"],
        "error details": _dump(session["errorDetails"]),
        "messages": session["messageCount"],
        "events": session["lastEventId"],
        "tokens": session["tokenUsage"],
        "used": used(session["usage"]) or None,
        "metadata": _dump(session["metadata"]),
    }
    return {name: "-" if value is None else value for name, value in facts.items()}


def _dump(value: JSON | None) -> str | None:
    return json.dumps(value, ensure_ascii=False) if value else None


def tail_session(terminal: Terminal, options: Namespace) -> None:
    """Print a session's events, and new ones until it ends."""
    session = find_session(terminal.client, options.id)
    last = session["lastEventId"]
    if options.after is not None and options.after > last:
        raise ApiError(f"The session has {last} events; give an --after from 0 to that.")
    cursor = max(0, last - options.lines) if options.after is None else options.after
    # Ctrl-C is the usual way to stop this command.
    with contextlib.suppress(KeyboardInterrupt):
        follow = options.follow and session["endedAt"] is None
        follow_session(terminal, session["sessionId"], cursor, options, follow)


def follow_session(
    terminal: Terminal, session_id: str, cursor: int, options: Namespace, follow: bool
) -> None:
    client, notes = terminal.client, terminal.notes

    def read_events(after: int) -> list[JSON]:
        """Return the events after a cursor; if it is within a joined event, from there."""
        try:
            return client.events(session_id, after)
        except ApiError as error:
            if error.after is None:
                raise
            return client.events(session_id, error.after)

    def print_news() -> bool:
        """Print the events after the cursor; return whether the session ended."""
        nonlocal cursor
        while events := read_events(cursor):
            for event in events:
                if not options.types or event["event"] in options.types:
                    print_event(terminal.screen, event, options.as_json)
            cursor = events[-1]["id"]
            if any(event["event"] == EventType.SESSION_ENDED for event in events):
                return True
        return False

    try:
        if print_news() or not follow:
            return
    except ApiError as error:
        # The stream says that the database was set back, and goes on.
        if error.status != 410 or not follow:
            raise
    # The stream signals new events; the list of events has their times too.
    for event in EventStream(client, session_id, cursor):
        if event.name in (LOST, BACK, RESET):
            for text, style in describe_run(event):
                put(notes, text, style)
        if event.name == RESET:
            cursor = event.data["lastEventId"]
        if event.name == LOST or (event.seq is not None and event.seq <= cursor):
            continue
        try:
            if print_news():
                return
        except ApiError as error:
            # The stream is interrupted too, and yields BACK when it has a connection again, or
            # RESET.
            if not (error.is_passing or error.status == 410):
                raise


def print_event(screen: Console, event: JSON, as_json: bool) -> None:
    if as_json:
        put_json(screen, event)
        return
    seq, name, at = event["id"], event["event"], event["createdAt"]
    summary = summarize(event["data"])
    if not screen.is_terminal:
        put(screen, "\t".join((str(seq), format_time(at), name, summary)))
        return
    style = EVENT_STYLES.get(name, "cyan")
    line = Text(f"{seq:>6}  {datetime.fromisoformat(at):%H:%M:%S.%f}"[:-3], "dim")
    line.append(f"  {name:<26}  ", f"not dim {style}")
    line.append(summary, "not dim red" if style == "red" else "not dim")
    screen.print(line, overflow="ellipsis", no_wrap=True)


def change_sessions(terminal: Terminal, options: Namespace) -> None:
    action, ids = options.action, find_ids(terminal.client, options.ids)
    body = {"error_message": options.message} if action == "fail" else None
    status = {"start": "active", "complete": "completed", "fail": "failed"}.get(
        action, "terminated"
    )
    post = terminal.client.post
    _change(terminal.screen, ids, status, lambda one: post(f"sessions/{one}/{action}", body))


def delete_sessions(terminal: Terminal, options: Namespace) -> None:
    client, ids = terminal.client, find_ids(terminal.client, options.ids)
    if sys.stdin.isatty() and not options.yes:
        print_sessions(terminal.screen, [client.get(f"sessions/{one}") for one in ids])
        _ask("Delete this, with messages, runs and journal?")
    _change(
        terminal.screen, ids, "deleted", lambda one: client.request("DELETE", f"sessions/{one}")
    )


def _change(
    screen: Console, ids: Iterable[str], status: str, change: Callable[[str], object]
) -> None:
    def change_one(session_id: str) -> None:
        change(session_id)
        put(screen, f"{session_id}\t{status}")

    act_on_each(ids, change_one)


def _ask(question: str) -> None:
    if not confirm(question):
        raise ApiError("Nothing was deleted.")


def clean_up(terminal: Terminal, options: Namespace) -> None:
    wanted = {"older_than_days": options.older_than_days, "status": options.status}

    def remove(dry_run: bool) -> str:
        answer = terminal.client.post("sessions/cleanup", {**wanted, "dry_run": dry_run})
        count = answer["removedCount"]
        return f"{count} session" if count == 1 else f"{count} sessions"

    if options.dry_run:
        put(terminal.screen, f"{remove(True)} would be removed.")
        return
    if sys.stdin.isatty() and not options.yes:
        _ask(f"Delete {remove(True)}, with messages, runs and journal?")
    put(terminal.screen, f"{remove(False)} removed.")


def export_sessions(terminal: Terminal, options: Namespace) -> None:
    """Write sessions with their messages and runs; a file is written completely or not at all."""
    output: Path | None = options.output
    suffix = output.suffix.lower() if output else ""
    form = options.format or SUFFIXES.get(suffix, "json")
    if options.events and form == "markdown":
        raise ApiError("--events is for json and jsonl; leave out one of the two.")
    if output and output.exists() and not options.force:
        raise ApiError(f"{output} exists already; replace it with --force.")
    client, query = terminal.client, build_query(terminal.client, options)
    if options.ids and query:
        raise ApiError("Name sessions or use filters, not both.")
    named = [find_session(client, text) for text in options.ids]
    with (
        open_output(output, terminal.screen) as write,
        show_progress(terminal, output, named, query) as advance,
    ):
        unique = {(row["createdAt"], row["sessionId"]): row for row in named}
        newest_first = [unique[key] for key in sorted(unique, reverse=True)]
        found = newest_first if named else iterate_sessions(client, query)
        for piece, messages in write_sessions(client, found, form, options.events):
            write(piece)
            advance(messages)
    if output:
        put(terminal.notes, f"Written to {output}.")


def iterate_sessions(client: Client, query: Query) -> Iterator[JSON]:
    """Yield sessions, newest first, without those created meanwhile."""
    for page in client.pages("sessions/", [*query, ("limit", PAGE)]):
        yield from page.json()


def write_sessions(
    client: Client, sessions: Iterable[JSON], form: str, with_events: bool
) -> Iterator[tuple[str, int]]:
    """Yield the pieces of a file in one of FORMATS, each with the number of its messages."""
    opening, between, closing = {
        "json": ("[\n", ",\n", "\n]\n"),
        "jsonl": ("", "\n", "\n"),
        "markdown": ("", "\n---\n\n", ""),
    }[form]
    yield opening, 0
    is_first = True
    for session in sessions:
        if not is_first:
            yield between, 0
        is_first = False
        if form == "markdown":
            yield from write_markdown(client, session)
        else:
            yield from write_json(client, session, with_events)
    if not (is_first and form == "jsonl"):
        yield closing, 0


def write_json(client: Client, session: JSON, with_events: bool) -> Iterator[tuple[str, int]]:
    """Yield one object: the session as the API writes it, its messages, runs and events."""
    session_id = session["sessionId"]
    yield f'{dump_line(session)[:-1]}, "messages": [', 0
    comma = ""
    for messages in read_transcript(client, session_id):
        yield comma + ", ".join(map(dump_line, messages)), len(messages)
        comma = ", "
    runs = [run for page in client.pages(f"sessions/{session_id}/runs", []) for run in page.json()]
    yield f'], "runs": {dump_line(runs[::-1])}', 0
    if with_events:
        yield ', "events": [', 0
        after, comma = 0, ""
        while events := client.events(session_id, after):
            yield comma + ", ".join(map(dump_line, events)), 0
            after, comma = events[-1]["id"], ", "
        yield "]", 0
    yield "}", 0


def read_transcript(client: Client, session_id: str) -> Iterator[list[JSON]]:
    after = 0
    while messages := client.get(f"sessions/{session_id}/transcript", after=after, limit=PAGE):
        yield messages
        after = messages[-1]["seq"]


def write_markdown(client: Client, session: JSON) -> Iterator[tuple[str, int]]:
    """Yield Markdown: a summary, then each message under its own heading."""
    yield f"# {one_line(session['name'] or session['sessionId'])}\n\n", 0
    facts = describe_session(session)
    names = ("id", "status", "profile", "directory", "created", "ended")
    for name in (*names, "messages", "tokens", "error"):
        if facts[name] != "-":
            yield f"- {'session' if name == 'id' else name}: {one_line(str(facts[name]))}\n", 0
    for messages in read_transcript(client, session["sessionId"]):
        for message in messages:
            who = one_line(message["agent"] or message["role"])
            at = format_time(message["timestamp"])
            outcome = (message["metadata"] or {}).get("outcome")
            why = CUT_OFF.get(message["finishReason"])
            why = f"{one_line(str(outcome))}: not whole" if outcome else why
            mark = f"\n*{why}*\n" if why else ""
            yield (
                f"\n## {message['seq']}. {who}, {at}\n\n{message['content'].rstrip()}\n{mark}",
                1,
            )


@contextmanager
def open_output(output: Path | None, screen: Console) -> Iterator[Callable[[str], object]]:
    """Give a function that writes text to the file or the screen; an incomplete file is removed."""
    if output is None:
        yield lambda text: screen.file.write(printable(text) if screen.is_terminal else text)
        screen.file.flush()
        return
    try:
        descriptor, draft = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
                yield file.write
            Path(draft).replace(output)
        finally:
            Path(draft).unlink(missing_ok=True)
    except OSError as error:
        raise ApiError(
            f"{output} cannot be written: {error.strerror}. Give another --output."
        ) from None


@contextmanager
def show_progress(
    terminal: Terminal, output: Path | None, named: list[JSON], query: Query
) -> Iterator[Callable[[int], object]]:
    """Show a progress bar on a terminal, unless the messages themselves are printed there."""
    notes = terminal.notes
    if not notes.is_terminal or (output is None and terminal.screen.is_terminal):
        yield lambda messages: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    found = named or iterate_sessions(terminal.client, query)
    total = sum(session["messageCount"] for session in found)
    columns = (TextColumn("Messages"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda messages: progress.advance(task, messages)
