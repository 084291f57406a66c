"""A conversation with a session, for a person at a terminal."""

from collections.abc import Sequence
from time import monotonic
from typing import Self

from django.db import connection
from django.db.models import Q
from django.db.models.functions import Now

from amplifierd.common.errors import DATABASE_UNAVAILABLE
from amplifierd.common.text import make_storable
from sessions_app.cli.follower import Follower
from sessions_app.cli.interrupts import Interrupts
from sessions_app.cli.keyboard import Lines
from sessions_app.cli.questions import PROMPT, WHY, Questions, understood
from sessions_app.cli.teller import Teller
from sessions_app.events import EventType
from sessions_app.exceptions import SessionsError
from sessions_app.models import Event, Run, Session
from sessions_app.services import runs
from sessions_app.services.pending_actions import Answer
from sessions_app.states import RunStatus

# Seconds between two looks for what no bell has told: during a run, and at the prompt.
POLL, IDLE_POLL = 0.5, 3.0
# Seconds of silence after which a run that no worker holds is remarked upon.
PATIENCE = 3.0
ASIDE = (
    "It goes on waiting: a message instead of an answer denies it, "
    "and `manage.py approvals` answers it later."
)
# Messages from which on a session's history is told to one who comes back.
RECALLED = 6


class Chat:
    """Sends messages to a session and tells what its journal says, from a cursor of its own.

    All that happens in the session is told in its order, once, whoever did it.
    """

    def __init__(self, session_id: str, teller: Teller, cursor: int) -> None:
        self.session_id = session_id
        # Whether the session has ended: it takes no more messages.
        self.ended = False
        self._teller = teller
        self._follower = Follower(session_id, cursor)
        self._questions = Questions(session_id)
        self._was_away = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._teller.finish()
        self._follower.close()

    def converse(self, lines: Lines) -> None:
        """Talk until there are no more lines, or the session ends.

        Ctrl-C raises KeyboardInterrupt where no run is going.
        """
        while (content := self._next(lines)) is not None:
            if content.strip():
                self._ask(content, lines)

    def ask(self, content: str, lines: Lines | None = None, seen: bool = False) -> Event:
        """Send a message, tell what happens until its run is settled, and return that event.

        What tools ask meanwhile is answered from the lines, where a person types them. `seen`: the
        message is on the screen already. The first Ctrl-C cancels the run, a second one
        raises KeyboardInterrupt. Raises what sending refuses, and SessionNotFound once the session
        is deleted.
        """
        with Interrupts() as interrupts:
            run, _ = runs.send(self.session_id, make_storable(content))
            self._teller.sent(run.id, seen)
            return self._until_settled(run.id, interrupts, lines)

    def _ask(self, content: str, lines: Lines) -> None:
        """Ask, or say why that was not to be: the conversation goes on."""
        try:
            self.ask(content, lines, seen=lines.echoes)
        except SessionsError as refusal:
            self._teller.remark(str(refusal))
        except DATABASE_UNAVAILABLE:
            connection.close()
            self._teller.remark(
                "The database is away. If the message was sent all the same, it will be shown here."
            )

    def _until_settled(self, run_id: str, interrupts: Interrupts, lines: Lines | None) -> Event:
        cancelled = remarked = False
        spoken = monotonic()
        while True:
            events = self._tell_news(lines)
            if outcome := _outcome(run_id, events):
                return outcome
            if interrupts.pressed and not cancelled:
                cancelled = self._cancel(run_id)
            elif self._questions and lines and lines.echoes and not cancelled:
                self._put_question(lines)
                spoken = monotonic()
            elif events:
                spoken = monotonic()
            elif self._follower.is_away:
                # Nobody can say anything meanwhile.
                self._follower.wait(POLL)
                spoken = monotonic()
            elif not self._follower.wait(POLL) and not remarked:
                remarked = monotonic() - spoken > PATIENCE and self._remark()

    def _put_question(self, lines: Lines, can_wait: bool = False) -> None:
        """Ask what has waited longest; return once it is answered, or something happens meanwhile.

        Who leaves the question leaves the chat, and the run waits: KeyboardInterrupt. Where it can
        wait, an empty line sets all questions aside.
        """
        self._teller.finish()
        lines.show(PROMPT)
        if not self._follower.wait(POLL, lines.inputs):
            return
        asked, line = self._questions.oldest, lines.line(PROMPT)
        if line is None:
            raise KeyboardInterrupt
        if can_wait and not line.strip():
            self._questions.set_aside()
            self._teller.remark(ASIDE)
        elif answer := understood(line):
            word, reason = answer
            if word == Answer.DENY and not reason:
                reason = (lines.line(WHY) or "").strip()
            self._answer(asked, word, reason)

    def _answer(self, approval_id: str, word: str, reason: str) -> None:
        """Answer a question, or say why that was not to be."""
        try:
            self._questions.answer(approval_id, word, make_storable(reason))
        except SessionsError as refusal:
            self._teller.remark(str(refusal))
        except DATABASE_UNAVAILABLE:
            connection.close()
            self._teller.remark("The database is away; `manage.py approvals` answers it later.")

    def _next(self, lines: Lines) -> str | None:
        """Return the next line, telling what others do until it is begun; None at the end."""
        while True:
            self._catch_up(lines)
            if self.ended:
                return None
            if self._questions and lines.echoes:
                self._put_question(lines, can_wait=True)
                continue
            if not self._teller.is_open:
                lines.show()
            if not lines.inputs or self._follower.wait(IDLE_POLL, lines.inputs):
                break
        self._teller.finish()
        content = lines.line()
        # What others did while the line was typed happened before it is sent.
        self._catch_up(lines)
        return None if self.ended else content

    def _catch_up(self, lines: Lines) -> None:
        """Tell all that is new, in place of the prompt."""
        while self._tell_news(lines):
            pass

    def _tell_news(self, lines: Lines | None = None) -> Sequence[Event]:
        """Tell what is new, a page of it, in place of the prompt; return it."""
        events = self._follower.news()
        if events and lines:
            lines.hide()
        for event in events:
            self._teller.tell(event)
            self._questions.hear(event)
        self._teller.show()
        self.ended = self.ended or any(e.type == EventType.SESSION_ENDED for e in events)
        if self._follower.is_away != self._was_away:
            self._was_away = self._follower.is_away
            self._teller.remark(f"The database is {'away; waiting' if self._was_away else 'back'}.")
        return events

    def _cancel(self, run_id: str) -> bool:
        """Cancel the run; False while the database is away. Its end is told by the journal."""

        def cancel() -> bool:
            runs.cancel(self.session_id, run_id)
            return True

        return self._follower.asked(cancel, False)

    def _remark(self) -> bool:
        """Say so if no worker that is alive executes anything here; tell whether it was said."""
        executed = Q(status=RunStatus.RUNNING, lease_expires_at__gt=Now())
        waits = Q(status=RunStatus.PARKED)
        held = Run.objects.filter(executed | waits, session_id=self.session_id)
        if self._follower.asked(held.exists, True):
            return False
        self._teller.remark(
            "No worker has taken this up; is one running? Start the daemon with `make run`. "
            "Ctrl-C takes the message back."
        )
        return True


def recalled(session: Session) -> int:
    """Return the cursor from which on a person who comes back is told what was said."""
    messages = (
        Event.objects.in_session(session.id)
        .filter(type__in=[EventType.USER_MESSAGE_SAVED, EventType.MESSAGE_ADDED])
        .order_by("-seq")
        .values_list("seq", flat=True)[:RECALLED]
    )
    return min(messages, default=session.last_event_seq + 1) - 1


def _outcome(run_id: str, events: Sequence[Event]) -> Event | None:
    settled = (e for e in events if e.type == EventType.ASSISTANT_MESSAGE_COMPLETE)
    return next((event for event in settled if event.run_id == run_id), None)
