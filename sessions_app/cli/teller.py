"""Telling a person what the journal says, as it comes."""

import json
from collections.abc import Callable
from typing import Any

from rich.console import Console

from amplifierd.common.redaction import redact
from sessions_app.cli.growing import Answer, Growing, Plain, Thoughts, takes_back
from sessions_app.cli.text import harmless, printable, put, shortened
from sessions_app.events import EventType
from sessions_app.models import Event
from sessions_app.states import CUT_OFF, ActionStatus, Role

# Characters of what a tool was given, and of what it answered.
GLIMPSE = 160
# Characters of what a tool that asks would be given.
INPUT = 4000
# What to do about an error of this code; the error itself says the rest.
HINTS = {
    "missing_key": "`manage.py doctor` lists the keys that are not set.",
    "model_missing": "`manage.py fetch_model` fetches it.",
    "too_long": "Begin a new session, or fork this one at an earlier message.",
    "bad_config": "Correct the profile; a new session then has it.",
    "unknown_module": "Correct the profile; a new session then has it.",
}
GOES_ON = "The session goes on: put that right, then send the message again."


class Teller:
    """Prints events: answers as they come, everything else on lines of its own."""

    def __init__(
        self,
        screen: Console,
        notes: Console,
        with_thoughts: bool = False,
        *,
        asks: bool = False,
    ) -> None:
        # Whether a person is asked here for what waits for an answer.
        self._asks = asks
        self._screen = screen
        # Where everything goes that is no answer.
        self._notes = notes
        # Whether thoughts are told in full.
        self._with_thoughts = with_thoughts
        # The runs whose message is on the screen already.
        self._seen: set[str] = set()
        # What is not finished, and what kind of thing it is.
        self._open: tuple[str, Growing] | None = None
        self._tellings: dict[str, Callable[[Event], None]] = {
            EventType.USER_MESSAGE_SAVED: self._message,
            EventType.MESSAGE_ADDED: self._message,
            EventType.ASSISTANT_MESSAGE_START: self._attempt,
            EventType.CONTENT: self._content,
            EventType.THINKING_DELTA: self._thinking,
            EventType.TOOL_PRE: self._tool,
            EventType.TOOL_POST: self._tool_end,
            EventType.PROVIDER_RETRY: self._retry,
            EventType.PROVIDER_FALLBACK: self._fallback,
            EventType.CONTEXT_COMPACTED: self._compacted,
            EventType.RUN_NOTICE: self._notice,
            EventType.APPROVAL_REQUIRED: self._question,
            EventType.APPROVAL_RESOLVED: self._resolved,
            EventType.RUN_PARKED: self._parked,
            EventType.RUN_INTERRUPTED: self._interrupted,
            EventType.EXECUTION_ERROR: self._error,
            EventType.EXECUTION_CANCELLED: self._cancelled,
            EventType.ASSISTANT_MESSAGE_COMPLETE: self._complete,
            EventType.SESSION_ENDED: self._ended,
        }

    @property
    def is_open(self) -> bool:
        """Tell whether something is not finished."""
        return self._open is not None

    def sent(self, run_id: str, seen: bool) -> None:
        """Learn of a message that was sent here, and whether it is on the screen already."""
        if seen:
            self._seen.add(run_id)

    def tell(self, event: Event) -> None:
        """Print an event; one that says nothing to a person prints nothing."""
        is_seen = event.type == EventType.USER_MESSAGE_SAVED and event.run_id in self._seen
        if event.type in self._tellings and not is_seen:
            self._tellings[event.type](event)

    def show(self) -> None:
        """Bring to the screen what was told: once for all that came together."""
        if self._open:
            self._open[1].show()

    def remark(self, text: str) -> None:
        """Print something that is no event."""
        self._line(text, "yellow")

    def finish(self) -> None:
        """End what is open."""
        if self._open:
            self._open[1].finish()
            self._open = None

    def _line(self, text: str, style: str) -> None:
        self.finish()
        put(self._notes, harmless(text) if self._notes.is_terminal else printable(text), style)

    def _grow(self, kind: str, event: Event, piece: str, make: Callable[[], Growing]) -> None:
        """Add to what is open, if that is of the same kind, else begin anew."""
        if not self._open or self._open[0] != kind:
            self.finish()
            self._open = (kind, make())
        self._open[1].add(piece, event.created_at)

    def _message(self, event: Event) -> None:
        data = event.data
        who = data.get("agent") or data["role"]
        if data["role"] == Role.ASSISTANT and takes_back(self._screen):
            self._line(f"{who}>", "bold")
            self._grow("message", event, data["content"], self._answer)
            self.finish()
        else:
            self._line(f"{who}> {data['content']}", "bold")

    def _attempt(self, event: Event) -> None:
        if event.data["attempt"] > 1:
            self._line(f"Attempt {event.data['attempt']}:", "yellow")

    def _content(self, event: Event) -> None:
        self._grow("content", event, event.data["content"], self._answer)

    def _answer(self) -> Growing:
        return Answer(self._screen) if takes_back(self._screen) else Plain(self._screen)

    def _thinking(self, event: Event) -> None:
        self._grow("thinking", event, event.data["hook_data"]["delta"], self._thoughts)

    def _thoughts(self) -> Growing:
        return Plain(self._notes, "dim") if self._with_thoughts else Thoughts(self._notes)

    def _tool(self, event: Event) -> None:
        call = event.data["hook_data"]
        given = _glimpse(call.get("tool_input"))
        self._line(f"Uses {call['tool_name']}{': ' if given else ''}{given}", "cyan")

    def _tool_end(self, event: Event) -> None:
        call = event.data["hook_data"]
        if error := call.get("error"):
            self._line(f"{call['tool_name']} failed: {_glimpse(error)}", "red")
        else:
            answered = _glimpse(call.get("tool_response")) or "nothing"
            self._line(f"{call['tool_name']} answered: {answered}", "dim")

    def _retry(self, event: Event) -> None:
        self._line(f"Trying again in {event.data['delay']:.0f} s: {event.data['error']}", "yellow")

    def _fallback(self, event: Event) -> None:
        instead = f"; asking {event.data['next']}" if event.data.get("next") else ""
        self._line(f"{event.data.get('provider') or 'A provider'} failed{instead}.", "yellow")

    def _compacted(self, event: Event) -> None:
        upto = event.data["upto"]
        self._line(f"A summary stands for the messages up to {upto} from now on.", "dim")

    def _notice(self, event: Event) -> None:
        self._line(event.data["message"], "yellow")

    def _question(self, event: Event) -> None:
        self._line(event.data["prompt"], "bold magenta")
        given = json.dumps(redact(event.data.get("tool_input")), indent=2, ensure_ascii=False)
        self._line(given if len(given) <= INPUT else f"{given[:INPUT]}…", "default")
        if not self._asks:
            id_ = event.data["approval_id"]
            self._line(f"It waits for: manage.py approvals approve {id_} (or deny)", "yellow")

    def _resolved(self, event: Event) -> None:
        data = event.data
        good = " for good" if data.get("always") else ""
        why = f": {data['reason']}" if data.get("reason") else "."
        style = "green" if data["status"] == ActionStatus.APPROVED else "yellow"
        self._line(f"{data['tool_name']} is {data['status']}{good}{why}", style)

    def _parked(self, event: Event) -> None:
        for wait in event.data["waits"]:
            if wait.get("session_id"):
                self._line(f"Waits for the sub-session {wait['session_id']}.", "dim")
            elif wait.get("error"):
                self._line(f"No sub-session: {wait['error']}", "red")

    def _interrupted(self, event: Event) -> None:
        self._line(
            f"Interrupted: the worker of attempt {event.data['attempt']} went away; "
            "what it has said is void.",
            "yellow",
        )

    def _error(self, event: Event) -> None:
        code = event.data["code"]
        self._line(f"Failed ({code}): {event.data['error']}", "red")
        self._line(f"{HINTS[code]} {GOES_ON}" if code in HINTS else GOES_ON, "red")

    def _cancelled(self, event: Event) -> None:
        self._line("Cancelled; what was said is kept.", "yellow")

    def _complete(self, event: Event) -> None:
        self.finish()
        if why := CUT_OFF.get(event.data.get("finishReason")):
            self._line(f"{why}.", "yellow")

    def _ended(self, event: Event) -> None:
        why = f": {event.data['errorMessage']}" if event.data.get("errorMessage") else ""
        self._line(f"The session is {event.data['status']}{why}.", "yellow")


class OneAnswer(Teller):
    """Tells of the runs whose message was sent here, and of nothing else.

    On a terminal the answer comes in pieces. Elsewhere it is printed when it is whole, so that
    no piece of a void attempt gets into a file.
    """

    def __init__(
        self,
        screen: Console,
        notes: Console,
        with_thoughts: bool = False,
        *,
        asks: bool = False,
    ) -> None:
        super().__init__(screen, notes, with_thoughts, asks=asks)
        self._own: set[str] = set()

    def sent(self, run_id: str, seen: bool) -> None:
        """Learn of a message that was sent here."""
        self._own.add(run_id)

    def tell(self, event: Event) -> None:
        """Print an event of an own run."""
        if event.run_id in self._own and event.type != EventType.USER_MESSAGE_SAVED:
            super().tell(event)

    def _content(self, event: Event) -> None:
        if self._screen.is_terminal:
            super()._content(event)

    def _complete(self, event: Event) -> None:
        if not self._screen.is_terminal and event.data["content"]:
            self.finish()
            put(self._screen, printable(event.data["content"]))
        super()._complete(event)


def _glimpse(value: Any) -> str:
    """Return the beginning of what a tool was given, or answered."""
    if value is None:
        return ""
    if isinstance(value, dict):
        value = ", ".join(f"{key}={item}" for key, item in value.items())
    return shortened(str(value), GLIMPSE)
