"""Shows the events of a session to a person: answers in Markdown as they grow, notes, errors."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console

from amplifierd.common.program import command
from amplifierd.common.redaction import redact
from amplifierd.common.text import excerpt
from sessions_app.cli.client import BACK, JSON, LOST, RESET, StreamEvent
from sessions_app.cli.output import harmless, one_line, printable, put, shorten
from sessions_app.events import EventType
from sessions_app.states import CUT_OFF

if TYPE_CHECKING:
    from sessions_app.cli.blocks import Block

# Colours of events in a list; all others are cyan.
EVENT_STYLES: dict[str, str] = {
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
# Events that announce a message which is not an answer of a run.
MESSAGES = (EventType.USER_MESSAGE_SAVED, EventType.MESSAGE_ADDED)
# The most telling part of an event's data: the first of these that it has.
SUMMARY_KEYS = (
    "error content errorMessage hook_data prompt summary attempt message name status"
).split()
# Characters shown of a tool's input and result, and of an input that needs an approval.
SHOWN, SHOWN_INPUT = 160, 4000
# What to do about an error with this code, in addition to its message.
HINTS = {
    "missing_key": f"`{command('doctor')}` lists the keys that are not set.",
    "model_missing": f"`{command('fetch_model')}` fetches it.",
    "too_long": "Begin a new session, or fork this one at an earlier message.",
    "bad_config": "Correct the profile; a new session then has it.",
    "unknown_module": "Correct the profile; a new session then has it.",
}
GOES_ON = "The session goes on: put that right, then send the message again."


def summarize(data: JSON) -> str:
    """Return an event's data on one line, without ids and times."""
    value = next((data[key] for key in SUMMARY_KEYS if data.get(key) not in (None, "")), "")
    if isinstance(value, dict):
        value = " ".join(f"{key}={item}" for key, item in value.items() if item is not None)
    # The reason comes first, because the end of a long line is not shown.
    why = CUT_OFF.get(data.get("finishReason") or "")
    return one_line(f"[{why}] {value}" if why else str(value))


def describe_run(event: StreamEvent) -> Iterator[tuple[str, str]]:
    """Yield the lines for an event of a run or of the session, each with its style."""
    data = event.data
    match event.name:
        case EventType.ASSISTANT_MESSAGE_START if data["attempt"] > 1:
            yield f"Attempt {data['attempt']}:", "yellow"
        case EventType.PROVIDER_RETRY:
            yield f"Trying again in {data['delay']:.0f} s: {data['error']}", "yellow"
        case EventType.PROVIDER_FALLBACK:
            instead = f"; asking {data['next']}" if data.get("next") else ""
            yield f"{data.get('provider') or 'A provider'} failed{instead}.", "yellow"
        case EventType.CONTEXT_COMPACTED:
            yield f"A summary stands for the messages up to {data['upto']} from now on.", "dim"
        case EventType.RUN_NOTICE:
            yield data["message"], "yellow"
        case EventType.RUN_PARKED:
            for wait in data["waits"]:
                if wait.get("session_id"):
                    yield f"Waits for the sub-session {wait['session_id']}.", "dim"
                elif wait.get("error"):
                    yield f"No sub-session: {wait['error']}", "red"
        case EventType.RUN_INTERRUPTED:
            lost = f"the worker of attempt {data['attempt']} went away; its output is void."
            yield f"Interrupted: {lost}", "yellow"
        case EventType.EXECUTION_ERROR:
            yield f"Failed ({data['code']}): {data['error']}", "red"
            yield f"{HINTS.get(data['code'], '')} {GOES_ON}".strip(), "red"
        case EventType.EXECUTION_CANCELLED:
            yield "Cancelled; the output so far is kept.", "yellow"
        case EventType.ASSISTANT_MESSAGE_COMPLETE:
            if why := CUT_OFF.get(data.get("finishReason") or ""):
                yield f"{why}.", "yellow"
        case EventType.SESSION_ENDED:
            why = f": {data['errorMessage']}" if data.get("errorMessage") else ""
            yield f"The session is {data['status']}{why}.", "yellow"
        case _ if event.name == LOST:
            yield f"{data['error']} Waiting for it.", "yellow"
        case _ if event.name == BACK:
            yield "The connection is back.", "yellow"
        case _ if event.name == RESET:
            yield (
                "The database was set back to an earlier state: the newest messages may be lost."
                f" The session goes on after event {data['lastEventId']}.",
                "yellow",
            )


def describe_tool(event: StreamEvent) -> Iterator[tuple[str, str]]:
    """Yield the lines for an event of a tool call, each with its style."""
    data = event.data
    call = data.get("hook_data") or data
    name = call.get("tool_name")
    match event.name:
        case EventType.TOOL_PRE:
            given = _shorten_value(call.get("tool_input"))
            yield f"Uses {name}: {given}" if given else f"Uses {name}", "cyan"
        case EventType.TOOL_POST if error := call.get("error"):
            yield f"{name} failed: {_shorten_value(error)}", "red"
        case EventType.TOOL_POST:
            answered = _shorten_value(call.get("tool_response")) or "nothing"
            yield f"{name} answered: {answered}", "dim"
        case EventType.APPROVAL_REQUIRED:
            yield data["prompt"], "bold magenta"
            given = json.dumps(redact(data.get("tool_input")), indent=2, ensure_ascii=False)
            yield excerpt(given, SHOWN_INPUT), "default"
        case EventType.APPROVAL_RESOLVED:
            good = " for good" if data.get("always") else ""
            why = f": {data['reason']}" if data.get("reason") else "."
            style = "green" if data["status"] == "approved" else "yellow"
            yield f"{name} is {data['status']}{good}{why}", style


def _shorten_value(value: Any) -> str:
    if isinstance(value, dict):
        value = ", ".join(f"{key}={item}" for key, item in value.items())
    return "" if value is None else shorten(str(value), SHOWN)


class Renderer:
    """Prints events: answers as they grow, everything else on lines of its own."""

    def __init__(
        self,
        screen: Console,
        notes: Console,
        *,
        shows_thoughts: bool = False,
        how_to_answer: str = "",
    ) -> None:
        self._screen = screen
        # For everything except answers.
        self._notes = notes
        self._shows_thoughts = shows_thoughts
        # The command that answers an approval, if this program does not ask a person.
        self._how_to_answer = how_to_answer
        # The runs whose message is on the screen already, and the run of the newest event.
        self._seen: set[str] = set()
        self._run = ""
        # The block that is not finished, and its kind.
        self._open: tuple[str, Block] | None = None

    @property
    def is_open(self) -> bool:
        return self._open is not None

    def add_sent(self, run_id: str, is_seen: bool) -> None:
        """Register the run of a message sent here; `is_seen`: the message is on the screen."""
        if is_seen:
            self._seen.add(run_id)

    def render(self, event: StreamEvent) -> None:
        """Print an event; some events print nothing."""
        # An event without a run belongs to the run before it.
        self._run = event.data.get("runId") or self._run
        data = event.data
        match event.name:
            case EventType.CONTENT:
                self._add("content", event, data["content"])
            case EventType.THINKING_DELTA:
                self._add("thinking", event, data["hook_data"]["delta"])
            case EventType.USER_MESSAGE_SAVED if self._run in self._seen:
                return
            case EventType.USER_MESSAGE_SAVED | EventType.MESSAGE_ADDED:
                author = data.get("agent") or data["role"]
                if data["role"] == "assistant" and is_redrawable(self._screen):
                    self.remark(f"{author}>", "bold")
                    self._add("message", event, data["content"])
                    self.finish()
                else:
                    self.remark(f"{author}> {data['content']}", "bold")
            case EventType.ASSISTANT_MESSAGE_COMPLETE:
                self.finish()
        for text, style in (*describe_run(event), *describe_tool(event)):
            self.remark(text, style)
        if event.name == EventType.APPROVAL_REQUIRED and self._how_to_answer:
            command = self._how_to_answer.format(data["approval_id"])
            self.remark(f"It waits for: {command} (or deny)")

    def show(self) -> None:
        """Draw what was added; called once for events that arrived together."""
        if self._open:
            self._open[1].show()

    def remark(self, text: str, style: str = "yellow") -> None:
        """Print a note on a line of its own."""
        self.finish()
        put(self._notes, harmless(text) if self._notes.is_terminal else printable(text), style)

    def finish(self) -> None:
        if self._open:
            self._open[1].finish()
            self._open = None

    def _add(self, kind: str, event: StreamEvent, piece: str) -> None:
        """Add to the open block if it is of the same kind, otherwise to a new one."""
        # Slow to import, so not before there is something to show.
        from sessions_app.cli.blocks import LiveBlock, PlainBlock, ReasoningBlock

        if not self._open or self._open[0] != kind:
            self.finish()
            block: Block
            if kind == "thinking" and not self._shows_thoughts:
                block = ReasoningBlock(self._notes)
            elif kind != "thinking" and is_redrawable(self._screen):
                block = LiveBlock(self._screen)
            elif kind == "thinking":
                block = PlainBlock(self._notes, "dim")
            else:
                block = PlainBlock(self._screen)
            self._open = (kind, block)
        self._open[1].add(piece, event.at)


class AnswerRenderer(Renderer):
    """Prints only the runs whose message was sent here.

    A terminal gets the answer in pieces. A file or pipe gets it once it is complete, so that it
    never has output of a void attempt.
    """

    def __init__(self, screen: Console, notes: Console, **options: Any) -> None:
        super().__init__(screen, notes, **options)
        self._own: set[str] = set()

    def add_sent(self, run_id: str, is_seen: bool) -> None:
        self._own.add(run_id)

    def render(self, event: StreamEvent) -> None:
        self._run = event.data.get("runId") or self._run
        is_own = self._run in self._own and event.name not in MESSAGES
        if event.seq is not None and not is_own:
            return
        if not self._screen.is_terminal:
            if event.name == EventType.CONTENT:
                return
            if event.name == EventType.ASSISTANT_MESSAGE_COMPLETE and event.data["content"]:
                self.finish()
                put(self._screen, printable(event.data["content"]))
        super().render(event)


def is_redrawable(console: Console) -> bool:
    """Return whether printed lines can be drawn again."""
    return console.is_terminal and not console.is_dumb_terminal
