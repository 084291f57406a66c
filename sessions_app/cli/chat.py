"""`chat`: a conversation with a session, from a terminal or a pipe."""

import asyncio
import contextlib
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any, Self

from amplifierd.common.program import command, data_folder
from amplifierd.common.text import make_storable
from sessions_app.cli.approvals import answer_approval
from sessions_app.cli.client import (
    BACK,
    JSON,
    LOST,
    RESET,
    ApiError,
    Client,
    EventStream,
    StreamEvent,
    UnreachableError,
)
from sessions_app.cli.keyboard import PROMPT, Interrupted, Keyboard, Lines, Pipe, Suspended
from sessions_app.cli.lookup import CHOICES, find_candidates, find_session
from sessions_app.cli.output import Terminal, print_table, put
from sessions_app.cli.render import MESSAGES, AnswerRenderer, Renderer
from sessions_app.cli.sessions import HEADINGS, list_cells
from sessions_app.events import EventType

# Seconds for which a run waits for events before it checks for Ctrl-C, and seconds of silence after
# which the prompt returns during an answer that another client asked for.
POLL, IDLE = 0.5, 3.0
# Seconds of silence after which a note says that no worker has the run.
PATIENCE = 3.0
# Seconds for which a line of a pipe waits for earlier events.
CATCH_UP = 10.0
# Events before the end of a journal among which an outcome is looked for.
RECENT = 1000
# Messages that are shown of a session that is continued.
RECALLED = 6
QUESTION = "[a]pprove, a[l]ways, [d]eny> "
WHY = "Why not? "
KEYS = {"a": "approve", "l": "always", "d": "deny"}
ANSWERS = KEYS | {answer: answer for answer in KEYS.values()}
WAYS = (
    "SESSION, --last, --choose, and a new one (--profile, --directory) each say which session; "
    "give one of them."
)
# The options of a new session, and their names in the API.
OF_NEW = {"profile": "profile_name", "directory": "amplified_dir"}
# In the inbox: Ctrl-C or Escape was pressed.
STOP = "stop"


class Chat:
    """Sends messages to a session and shows its events after a cursor.

    Each event is shown once and in order, also those that other clients cause. Everything arrives
    in one inbox: events of the stream, its error if it fails, and STOP for each Ctrl-C.
    """

    def __init__(
        self, client: Client, session_id: str, renderer: Renderer, cursor: int, lines: Lines | None
    ) -> None:
        # Whether the session has ended, so that it accepts no more messages.
        self.ended = False
        self._client = client
        self._session_id = session_id
        self._path = f"sessions/{session_id}"
        self._renderer = renderer
        self._cursor = cursor
        self._stream = EventStream(client, session_id, cursor)
        self._inbox: asyncio.Queue[StreamEvent | Exception | str] = asyncio.Queue()
        # Items that were taken from the inbox and not handled yet.
        self._arrived: list[StreamEvent | Exception | str] = []
        self._lines = lines or Keyboard(data_folder() / "chat_history", self.stop)
        self._reading: asyncio.Task[str | None] | None = None
        # The ids of pending approvals, the oldest first.
        self._questions: dict[str, None] = {}
        # The run of the message that was sent last, and the event that ended it.
        self._run_id = ""
        self._outcome: StreamEvent | None = None
        self._stops = 0
        self._is_lost = False

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self.stop)
        loop.add_signal_handler(signal.SIGTERM, self._inbox.put_nowait, Interrupted())
        threading.Thread(target=self._follow, args=(loop,), daemon=True).start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._stream.close()
        self._renderer.finish()
        self._lines.close()

    def stop(self) -> None:
        """Stop the run of the message that was sent last; without one, leave."""
        self._inbox.put_nowait(STOP)

    def _follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Put the stream's events into the inbox; runs in its own thread."""
        # The loop may be closed already.
        with contextlib.suppress(RuntimeError):
            try:
                for event in self._stream:
                    loop.call_soon_threadsafe(self._inbox.put_nowait, event)
            except ApiError as error:
                loop.call_soon_threadsafe(self._inbox.put_nowait, error)

    async def converse(self) -> None:
        """Send lines until there are no more, or the session ends; raise Interrupted on Ctrl-C."""
        await self._catch_up()
        while not self.ended:
            if self._lines.is_person and self._questions:
                await self._put_question(can_wait=True)
            elif self._lines.is_person and self._renderer.is_open:
                if not await self._receive(IDLE):
                    self._renderer.finish()
            else:
                with contextlib.suppress(Suspended):
                    line = await self._read(PROMPT)
                    if not self._lines.is_person:
                        await self._catch_up()
                    if line is None or self.ended:
                        return
                    if line.strip():
                        await self._send(line)
            await self._receive(0)
            if self._stops:
                raise Interrupted

    async def ask(self, content: str, is_seen: bool = False) -> StreamEvent:
        """Send a message, show all events until its run has ended, and return the last one.

        A person is asked about approvals meanwhile. `is_seen`: the message is on the screen
        already. The first Ctrl-C cancels the run, a second one raises Interrupted.
        """
        body, self._stops, self._outcome = {"content": make_storable(content)}, 0, None
        accepted = await self._call("post", f"{self._path}/send-message", body)
        self._run_id = accepted["runId"]
        self._renderer.add_sent(self._run_id, is_seen)
        is_cancelled = is_remarked = False
        silent_since = monotonic()
        while True:
            events = await self._receive(POLL)
            if any(event.name == RESET for event in events):
                await self._find_outcome()
            if self._outcome:
                return self._outcome
            if self._stops > 1:
                raise Interrupted
            if self._stops and not is_cancelled:
                is_cancelled = await self._cancel()
            elif self._questions and self._lines.is_person and not is_cancelled:
                await self._put_question()
                silent_since = monotonic()
            elif events or self._is_lost:
                silent_since = monotonic()
            elif not is_remarked and monotonic() - silent_since > PATIENCE:
                is_remarked = await self._remark_missing_worker()

    async def _call(self, method: str, path: str, *arguments: Any) -> Any:
        """Call the API in a thread, so that keys and events are handled meanwhile."""
        options = {"patiently": True} if method == "post" else {}
        return await asyncio.to_thread(getattr(self._client, method), path, *arguments, **options)

    async def _send(self, line: str) -> None:
        """Send a message; print an error, and go on with the conversation."""
        try:
            await self.ask(line, is_seen=self._lines.is_person)
        except UnreachableError as error:
            self._renderer.remark(
                f"{error} If the message was sent all the same, it will be shown here."
            )
        except ApiError as error:
            if error.status == 404:
                raise
            self._renderer.remark(str(error))
        finally:
            self._stops = 0

    async def _receive(self, seconds: float) -> Sequence[StreamEvent]:
        """Wait up to so many seconds for the inbox, show its events, and return them."""
        arrived, self._arrived = self._arrived, []
        if not arrived and seconds:
            with contextlib.suppress(TimeoutError):
                arrived = [await asyncio.wait_for(self._inbox.get(), seconds)]
        while not self._inbox.empty():
            arrived.append(self._inbox.get_nowait())
        for item in arrived:
            if isinstance(item, Exception):
                raise item
            if isinstance(item, str):
                self._stops += 1
            else:
                self._take(item)
        self._renderer.show()
        return [item for item in arrived if isinstance(item, StreamEvent)]

    def _take(self, event: StreamEvent) -> None:
        self._renderer.render(event)
        self._cursor = event.seq or self._cursor
        approval_id = event.data.get("approval_id", "")
        match event.name:
            case EventType.APPROVAL_REQUIRED:
                self._questions[approval_id] = None
            case EventType.APPROVAL_RESOLVED:
                self._questions.pop(approval_id, None)
            case EventType.ASSISTANT_MESSAGE_COMPLETE if event.data.get("runId") == self._run_id:
                self._outcome = event
            case EventType.SESSION_ENDED:
                self.ended = True
            case _ if event.name == RESET:
                self._cursor = event.data["lastEventId"]
                self._questions.clear()
                self.ended = event.data["endedAt"] is not None
                self._is_lost = False
            case _:
                self._is_lost = event.name == LOST or (self._is_lost and event.name != BACK)

    async def _find_outcome(self) -> None:
        """Take the outcome of the run from the journal, if it has one, after a reset.

        Raises ApiError if the run is lost. What the journal had before is not shown again.
        """
        try:
            run = await self._call("get", f"{self._path}/runs/{self._run_id}")
        except ApiError as error:
            if error.status != 404:
                raise
            raise ApiError("Your message is lost, too; send it again.", 410) from None
        if run["endedAt"] is not None:
            for event in await asyncio.to_thread(
                self._client.get,
                f"{self._path}/events",
                type=EventType.ASSISTANT_MESSAGE_COMPLETE,
                after=max(0, self._cursor - RECENT),
            ):
                at = datetime.fromisoformat(event["createdAt"])
                if event["data"].get("runId") == self._run_id:
                    self._take(StreamEvent(None, event["event"], event["data"], at))

    async def _catch_up(self) -> None:
        """Show all events up to now."""
        with contextlib.suppress(UnreachableError):
            last = (await self._call("get", self._path))["lastEventId"]
            deadline = monotonic() + CATCH_UP
            while self._cursor < last and not self.ended and monotonic() < deadline:
                await self._receive(POLL)

    async def _read(self, prompt: str) -> str | None:
        """Return the next line; raise Suspended if an event arrives before."""
        self._reading = self._reading or asyncio.create_task(self._lines.read(prompt))
        arriving = asyncio.create_task(self._inbox.get())
        await asyncio.wait({self._reading, arriving}, return_when=asyncio.FIRST_COMPLETED)
        if arriving.done():
            self._arrived.append(arriving.result())
            if not self._reading.done():
                await self._lines.suspend()
                if self._lines.is_person:
                    await asyncio.wait({self._reading})
        else:
            arriving.cancel()
        if not self._reading.done():
            raise Suspended
        reading, self._reading = self._reading, None
        return reading.result()

    async def _put_question(self, can_wait: bool = False) -> None:
        """Ask about the oldest approval; return once it is answered, or another event arrives.

        Ctrl-D leaves the chat and the run stays parked: Interrupted. If it can wait, an empty line
        postpones all approvals, and Ctrl-C leaves; otherwise Ctrl-C cancels the run.
        """
        self._renderer.finish()
        approval_id = next(iter(self._questions))
        try:
            line = await self._read(QUESTION)
            answer = parse_answer(line or "")
            if answer and answer[0] == "deny" and not answer[1]:
                answer = "deny", (await self._lines.read(WHY) or "").strip()
        except Suspended:
            return
        except Interrupted:
            if can_wait:
                raise
            self.stop()
            return
        if line is None:
            raise Interrupted
        if can_wait and not line.strip():
            self._questions.clear()
            self._renderer.remark(
                "The run stays parked: a message instead of an answer denies the call, and "
                f"`{command('approvals')}` answers it later."
            )
        elif answer:
            self._questions.pop(approval_id, None)
            call = (
                self._client,
                self._session_id,
                approval_id,
                answer[0],
                make_storable(answer[1]),
            )
            try:
                await asyncio.to_thread(answer_approval, *call)
            except ApiError as error:
                self._renderer.remark(str(error))

    async def _cancel(self) -> bool:
        """Cancel the run, and return whether the request arrived; an event reports its end."""
        try:
            await self._call("post", f"{self._path}/runs/{self._run_id}/cancel")
        except UnreachableError:
            return False
        except ApiError as error:
            self._renderer.remark(str(error))
        return True

    async def _remark_missing_worker(self) -> bool:
        """Print a note if no worker holds a run of this session; return whether it was printed."""
        try:
            options = {"params": {"limit": 20}}
            answer = await asyncio.to_thread(
                self._client.request, "GET", f"{self._path}/runs", **options
            )
        except ApiError:
            return False
        if any(is_held(run, answer.headers.get("Date", "")) for run in answer.json()):
            return False
        self._renderer.remark(
            "No worker has started on this; is one running? "
            f"Start the daemon with `{command('serve')}`. "
            "Ctrl-C cancels the message."
        )
        return True


def is_held(run: JSON, date: str) -> bool:
    """Return whether a run is parked, or a worker holds it at this date of the daemon."""
    now = parsedate_to_datetime(date) if date else datetime.now(UTC)
    lease = run["leaseExpiresAt"]
    is_running = run["status"] == "running" and lease and datetime.fromisoformat(lease) > now
    return run["status"] == "parked" or bool(is_running)


def parse_answer(line: str) -> tuple[str, str] | None:
    word, _, reason = line.strip().partition(" ")
    answer = ANSWERS.get(word.lower())
    if answer is None or (reason and answer != "deny"):
        return None
    return answer, reason.strip()


def find_recall_cursor(client: Client, session: JSON) -> int:
    """Return the cursor after which the last RECALLED messages follow."""
    last, span = session["lastEventId"], 1000
    while True:
        start = max(0, last - span)
        path = f"sessions/{session['sessionId']}/events"
        found = [event for name in MESSAGES for event in client.get(path, after=start, type=name)]
        if start == 0 or len(found) >= RECALLED:
            seqs = sorted(event["id"] for event in found)[-RECALLED:]
            return seqs[0] - 1 if seqs else last
        span *= 10


def run_chat(terminal: Terminal, options: Namespace) -> None:
    """Have a conversation with the session of the options; with --message, print one answer."""
    if options.message is not None and not options.message.strip():
        raise ApiError("--message is empty; write what you want to say.")
    found = find_chat(terminal, options)
    if options.fork and found is None:
        raise ApiError("--fork needs a session to copy; give its id.")
    session = open_session(terminal.client, found, options)
    try:
        asyncio.run(
            converse(terminal, session, options)
            if options.message is None
            else print_answer(terminal, session, options)
        )
    except Interrupted:
        raise KeyboardInterrupt from None


def find_chat(terminal: Terminal, options: Namespace) -> str | None:
    """Return the id of the session to continue, None for a new one."""
    text, client = options.session, terminal.client
    if sum([text is not None, options.last, options.choose, bool(describe_new(options))]) > 1:
        raise ApiError(WAYS)
    can_choose = sys.stdin.isatty() and terminal.screen.is_terminal
    if options.choose and not can_choose:
        raise ApiError("--choose needs a terminal; give the session's id instead.")
    if options.choose:
        return choose(terminal, client.get("sessions/recent", limit=CHOICES))
    if options.last:
        if not (recent := client.get("sessions/recent", limit=1)):
            raise ApiError(f"There is no session to continue; `{command('chat')}` begins one.")
        return recent[0]["sessionId"]
    if text is None:
        return None
    if can_choose and len(found := find_candidates(client, text)) > 1:
        return choose(terminal, found)
    return find_session(client, text)["sessionId"]


def choose(terminal: Terminal, found: list[JSON]) -> str:
    """Have a person choose from a list; return the session's id."""
    client, screen = terminal.client, terminal.screen
    if not found:
        raise ApiError(f"There is no session to choose; `{command('chat')}` begins one.")
    while len(found) != 1:
        rows = [(number, *list_cells(row, short=True)) for number, row in enumerate(found, 1)]
        print_table(screen, ("NO", *HEADINGS), rows)
        try:
            text = input("Number, or a part of an id or name: ").strip()
        except EOFError:
            text = ""
        if not text:
            raise ApiError("No session was chosen.")
        if text.isdecimal() and 1 <= int(text) <= len(found):
            return found[int(text) - 1]["sessionId"]
        if fitting := find_candidates(client, text)[:CHOICES]:
            found = fitting
        else:
            put(screen, f"Nothing has {text!r} in its id or name.", "yellow")
    return found[0]["sessionId"]


def describe_new(options: Namespace) -> JSON:
    """Return what the options say of a new session, as the API takes it."""
    given = {key: getattr(options, name) for name, key in OF_NEW.items()}
    return {key: value for key, value in given.items() if value is not None}


def open_session(client: Client, session_id: str | None, options: Namespace) -> JSON:
    """Return the session, a copy of it with --fork, or a new one; start it if necessary."""
    if session_id is None:
        session_id = client.post("sessions/", describe_new(options))["sessionId"]
    elif options.fork:
        session_id = client.post(f"sessions/{session_id}/fork")["sessionId"]
    session = client.get(f"sessions/{session_id}")
    if session["status"] == "created":
        client.post(f"sessions/{session_id}/start")
        session = client.get(f"sessions/{session_id}")
    if session["endedAt"] is not None:
        raise ApiError(
            f"Only an active session takes messages; this one is {session['status']}: "
            "it has ended. Talk to a copy of it with --fork."
        )
    return session


async def converse(terminal: Terminal, session: JSON, options: Namespace) -> None:
    client, screen, session_id = terminal.client, terminal.screen, session["sessionId"]
    name = f" ({session['name']})" if session["name"] else ""
    put(screen, f"{session_id}{name}, {session['profileName']}", "dim")
    is_person = sys.stdin.isatty() and sys.stdout.isatty()
    if is_person:
        put(screen, "Ctrl-C or Escape stops the answer that is coming, Ctrl-D leaves.", "dim")
    cursor = find_recall_cursor(client, session) if is_person else session["lastEventId"]
    renderer = Renderer(
        screen,
        screen,
        shows_thoughts=options.thinking,
        how_to_answer="" if is_person else command("approvals approve {}"),
    )
    lines = None if is_person else Pipe()
    async with Chat(client, session_id, renderer, cursor, lines) as chat:
        with contextlib.suppress(Interrupted):
            await chat.converse()
    if not chat.ended:
        put(screen, f"Come back with: {command(f'chat {session_id}')}", "dim")


async def print_answer(terminal: Terminal, session: JSON, options: Namespace) -> None:
    """Send one message and print only the answer; everything else goes to the standard error."""
    client, is_person = terminal.client, sys.stdin.isatty() and sys.stdout.isatty()
    renderer = AnswerRenderer(
        terminal.screen,
        terminal.notes,
        shows_thoughts=options.thinking,
        how_to_answer="" if is_person else command("approvals approve {}"),
    )
    lines = None if is_person else Pipe()
    cursor = session["lastEventId"]
    async with Chat(client, session["sessionId"], renderer, cursor, lines) as chat:
        outcome = await chat.ask(options.message)
    if how := outcome.data.get("outcome"):
        raise ApiError(f"The run was not completed: it is {how}.")
