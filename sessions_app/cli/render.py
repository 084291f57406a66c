"""A session's events as a person reads them: answers in Markdown while they come, notes, errors."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console

from amplifierd.common.program import command
from amplifierd.common.redaction import redact
from sessions_app.cli.client import BACK, JSON, LOST, StreamEvent
from sessions_app.cli.output import harmless, one_line, printable, put, shorten

if TYPE_CHECKING:
    from sessions_app.cli.blocks import Block

# Why an answer is not whole, though its run succeeded.
CUT_OFF = {
    "length": "Cut off: the answer reached its token limit",
    "content_filter": "Cut off: the provider's content filter stopped the answer",
    "tool_calls": "Cut off: the answer ended with tool calls that were not made",
}
# Colours of events in a list; all others are cyan.
EVENT_STYLES = {
    "content": "default",
    "hook:thinking:delta": "dim",
    "execution_error": "red",
    "execution_cancelled": "yellow",
    "run_interrupted": "yellow",
    "provider_retry": "yellow",
    "provider_fallback": "yellow",
    "run_notice": "yellow",
    "hook:approval:required": "magenta",
    "approval_resolved": "magenta",
    "run_parked": "magenta",
    "assistant_message_complete": "green",
}
# What of an event's data says most: the first of these that is there.
SUMMARY_KEYS = (
    *("error", "content", "errorMessage", "hook_data", "prompt", "summary", "attempt"),
    *("message", "name", "status"),
)
# Characters of a tool's input and result, and of the input that is to be approved.
SHOWN, SHOWN_INPUT = 160, 4000
# What to do about an error of this code; the error itself says the rest.
HINTS = {
    "missing_key": f"`{command('doctor')}` lists the keys that are not set.",
    "model_missing": f"`{command('fetch_model')}` fetches it.",
    "too_long": "Begin a new session, or fork this one at an earlier message.",
    "bad_config": "Correct the profile; a new session then has it.",
    "unknown_module": "Correct the profile; a new session then has it.",
}
GOES_ON = "The session goes on: put that right, then send the message again."


def summarize(data: JSON) -> str:
    """Return in one line what an event says, without its ids and times."""
    value = next((data[key] for key in SUMMARY_KEYS if data.get(key) not in (None, "")), "")
    if isinstance(value, dict):
        value = " ".join(f"{key}={item}" for key, item in value.items() if item is not None)
    # First, because the end of a long line is not shown.
    why = CUT_OFF.get(data.get("finishReason") or "")
    return one_line(f"[{why}] {value}" if why else str(value))


def describe_run(event: StreamEvent) -> Iterator[tuple[str, str]]:
    """Yield what an event tells of a run or of the session: lines, each with its style."""
    data = event.data
    match event.name:
        case "assistant_message_start" if data["attempt"] > 1:
            yield f"Attempt {data['attempt']}:", "yellow"
        case "provider_retry":
            yield f"Trying again in {data['delay']:.0f} s: {data['error']}", "yellow"
        case "provider_fallback":
            instead = f"; asking {data['next']}" if data.get("next") else ""
            yield f"{data.get('provider') or 'A provider'} failed{instead}.", "yellow"
        case "context_compacted":
            yield f"A summary stands for the messages up to {data['upto']} from now on.", "dim"
        case "run_notice":
            yield data["message"], "yellow"
        case "run_parked":
            for wait in data["waits"]:
                if wait.get("session_id"):
                    yield f"Waits for the sub-session {wait['session_id']}.", "dim"
                elif wait.get("error"):
                    yield f"No sub-session: {wait['error']}", "red"
        case "run_interrupted":
            lost = f"the worker of attempt {data['attempt']} went away; what it has said is void."
            yield f"Interrupted: {lost}", "yellow"
        case "execution_error":
            yield f"Failed ({data['code']}): {data['error']}", "red"
            yield f"{HINTS.get(data['code'], '')} {GOES_ON}".strip(), "red"
        case "execution_cancelled":
            yield "Cancelled; what was said is kept.", "yellow"
        case "assistant_message_complete":
            if why := CUT_OFF.get(data.get("finishReason") or ""):
                yield f"{why}.", "yellow"
        case "session_ended":
            why = f": {data['errorMessage']}" if data.get("errorMessage") else ""
            yield f"The session is {data['status']}{why}.", "yellow"
        case _ if event.name == LOST:
            yield f"{data['error']} Waiting for it.", "yellow"
        case _ if event.name == BACK:
            yield "The connection is back.", "yellow"


def describe_tool(event: StreamEvent) -> Iterator[tuple[str, str]]:
    """Yield what an event tells of a tool call: lines, each with its style."""
    data = event.data
    call = data.get("hook_data") or data
    name = call.get("tool_name")
    match event.name:
        case "hook:tool:pre":
            given = _shorten_value(call.get("tool_input"))
            yield f"Uses {name}: {given}" if given else f"Uses {name}", "cyan"
        case "hook:tool:post" if error := call.get("error"):
            yield f"{name} failed: {_shorten_value(error)}", "red"
        case "hook:tool:post":
            answered = _shorten_value(call.get("tool_response")) or "nothing"
            yield f"{name} answered: {answered}", "dim"
        case "hook:approval:required":
            yield data["prompt"], "bold magenta"
            given = json.dumps(redact(data.get("tool_input")), indent=2, ensure_ascii=False)
            yield given if len(given) <= SHOWN_INPUT else f"{given[:SHOWN_INPUT]}…", "default"
        case "approval_resolved":
            good = " for good" if data.get("always") else ""
            why = f": {data['reason']}" if data.get("reason") else "."
            style = "green" if data["status"] == "approved" else "yellow"
            yield f"{name} is {data['status']}{good}{why}", style


def _shorten_value(value: Any) -> str:
    """Return the beginning of a tool's input or result."""
    if isinstance(value, dict):
        value = ", ".join(f"{key}={item}" for key, item in value.items())
    return "" if value is None else shorten(str(value), SHOWN)


class Renderer:
    """Prints events: answers as they come, everything else on lines of its own."""

    def __init__(
        self,
        screen: Console,
        notes: Console,
        *,
        shows_thoughts: bool = False,
        how_to_answer: str = "",
    ) -> None:
        self._screen = screen
        # For everything that is no answer.
        self._notes = notes
        self._shows_thoughts = shows_thoughts
        # The command that answers an approval, if nobody is asked here.
        self._how_to_answer = how_to_answer
        # The runs whose message is on the screen already, and the run that the events are of.
        self._seen: set[str] = set()
        self._run = ""
        # What is not finished, and what kind of thing it is.
        self._open: tuple[str, Block] | None = None

    @property
    def is_open(self) -> bool:
        return self._open is not None

    def add_sent(self, run_id: str, is_seen: bool) -> None:
        """Take note of a message that was sent here; `is_seen`: it is on the screen already."""
        if is_seen:
            self._seen.add(run_id)

    def render(self, event: StreamEvent) -> None:
        """Print an event; one that says nothing to a person prints nothing."""
        # What comes without a run belongs to the one that began last.
        self._run = event.data.get("runId") or self._run
        data = event.data
        match event.name:
            case "content":
                self._add("content", event, data["content"])
            case "hook:thinking:delta":
                self._add("thinking", event, data["hook_data"]["delta"])
            case "user_message_saved" if self._run in self._seen:
                return
            case "user_message_saved" | "message_added":
                self._render_message(event)
            case "assistant_message_complete":
                self.finish()
        for text, style in (*describe_run(event), *describe_tool(event)):
            self.remark(text, style)
        if event.name == "hook:approval:required" and self._how_to_answer:
            command = self._how_to_answer.format(data["approval_id"])
            self.remark(f"It waits for: {command} (or deny)")

    def show(self) -> None:
        """Bring to the screen what was rendered: once for all that came together."""
        if self._open:
            self._open[1].show()

    def remark(self, text: str, style: str = "yellow") -> None:
        """Print a line that is no answer."""
        self.finish()
        put(self._notes, harmless(text) if self._notes.is_terminal else printable(text), style)

    def finish(self) -> None:
        """End what is open."""
        if self._open:
            self._open[1].finish()
            self._open = None

    def _render_message(self, event: StreamEvent) -> None:
        who, content = event.data.get("agent") or event.data["role"], event.data["content"]
        if event.data["role"] == "assistant" and is_redrawable(self._screen):
            self.remark(f"{who}>", "bold")
            self._add("message", event, content)
            self.finish()
        else:
            self.remark(f"{who}> {content}", "bold")

    def _add(self, kind: str, event: StreamEvent, piece: str) -> None:
        """Add to what is open if it is of the same kind, else begin anew."""
        # They take a while to load: not before there is something to show.
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
    """Prints the runs whose message was sent here, and nothing else.

    On a terminal the answer comes in pieces. Elsewhere it is printed once it is whole, so that no
    piece of a void attempt gets into a file.
    """

    def __init__(self, screen: Console, notes: Console, **options: Any) -> None:
        super().__init__(screen, notes, **options)
        self._own: set[str] = set()

    def add_sent(self, run_id: str, is_seen: bool) -> None:
        self._own.add(run_id)

    def render(self, event: StreamEvent) -> None:
        self._run = event.data.get("runId") or self._run
        is_own = self._run in self._own and event.name not in {
            "user_message_saved",
            "message_added",
        }
        if event.seq is not None and not is_own:
            return
        if not self._screen.is_terminal:
            if event.name == "content":
                return
            if event.name == "assistant_message_complete" and event.data["content"]:
                self.finish()
                put(self._screen, printable(event.data["content"]))
        super().render(event)


def is_redrawable(console: Console) -> bool:
    """Tell whether lines that were printed there can be drawn anew."""
    return console.is_terminal and not console.is_dumb_terminal
