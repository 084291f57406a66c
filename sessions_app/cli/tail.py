"""A session's events, a line each, as they come."""

from typing import Any

from rich.console import Console
from rich.text import Text

from sessions_app.api.serializers import serialize_event
from sessions_app.cli.follower import Follower
from sessions_app.cli.text import moment, one_line, put, put_json
from sessions_app.events import EventType
from sessions_app.models import Event, Session
from sessions_app.states import CUT_OFF

# Events that are shown of a session before those that come.
SHOWN = 10
# Seconds between two looks for what no bell has told.
POLL = 3.0
# Cells of a type; the longest one has 26.
TYPE = 26

STYLES = {
    EventType.CONTENT: "default",
    EventType.THINKING_DELTA: "dim",
    EventType.EXECUTION_ERROR: "red",
    EventType.EXECUTION_CANCELLED: "yellow",
    EventType.RUN_INTERRUPTED: "yellow",
    EventType.PROVIDER_RETRY: "yellow",
    EventType.PROVIDER_FALLBACK: "yellow",
    EventType.RUN_NOTICE: "yellow",
    EventType.APPROVAL_REQUIRED: "magenta",
    EventType.APPROVAL_RESOLVED: "magenta",
    EventType.RUN_PARKED: "magenta",
    EventType.ASSISTANT_MESSAGE_COMPLETE: "green",
}
# What of an event's data says most, by the first of these that is there.
TELLING = (
    *("error", "content", "errorMessage", "hook_data", "prompt", "summary", "attempt"),
    *("message", "name", "status"),
)


class Tail:
    """Prints what follows a cursor; everything once and in order."""

    def __init__(self, screen: Console, notes: Console, session: Session, cursor: int) -> None:
        self._screen = screen
        self._notes = notes
        self._session = session
        self._follower = Follower(session.id, cursor)

    def follow(self, types: list[str], as_json: bool, wait: bool) -> None:
        """Print until the session ends, or all that is there where it is not to wait.

        Raises SessionNotFound once the session is deleted.
        """
        was_away = ended = False
        try:
            while not ended:
                events = self._follower.news()
                for event in events:
                    if not types or event.type in types:
                        self._print(event, as_json)
                ended = any(event.type == EventType.SESSION_ENDED for event in events)
                was_away = self._remark(was_away)
                if not events:
                    if self._session.is_terminal or not wait:
                        return
                    self._follower.wait(POLL)
        finally:
            self._follower.close()

    def _remark(self, was_away: bool) -> bool:
        """Say so where the database went away, or came back; tell whether it is away."""
        if (is_away := self._follower.is_away) != was_away:
            put(self._notes, f"The database is {'away; waiting' if is_away else 'back'}.", "yellow")
        return is_away

    def _print(self, event: Event, as_json: bool) -> None:
        if as_json:
            put_json(self._screen, serialize_event(event))
        elif self._screen.is_terminal:
            self._screen.print(_line(event), overflow="ellipsis", no_wrap=True)
        else:
            columns = (str(event.seq), moment(event.created_at), event.type, summary(event.data))
            put(self._screen, "\t".join(columns))


def first(session: Session, after: int | None, count: int) -> int:
    """Return the cursor to begin from: the one given, or that of the last `count` events."""
    return max(0, session.last_event_seq - count) if after is None else after


def summary(data: dict[str, Any]) -> str:
    """Return in one line what an event says, without its ids and times."""
    told = next((data[key] for key in TELLING if data.get(key) not in (None, "")), "")
    if why := CUT_OFF.get(data.get("finishReason")):
        # First, because the end of a long line is not shown.
        told = f"[{why}] {told}"
    if isinstance(told, dict):
        pairs = (f"{key}={value}" for key, value in told.items() if value is not None)
        return one_line(" ".join(pairs))
    return one_line(str(told))


def _line(event: Event) -> Text:
    style = STYLES.get(EventType(event.type), "cyan") if event.type in EventType.values else ""
    line = Text(f"{event.seq:>6}  ", "dim")
    line.append(f"{event.created_at:%H:%M:%S.%f}"[:-3], "dim")
    line.append(f"  {event.type:<{TYPE}}  ", style)
    return line.append(summary(event.data), "default" if style != "red" else style)
