"""`manage.py chat`: talk to a session from the terminal."""

import contextlib
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from sessions_app.cli import keyboard
from sessions_app.cli.chat import Chat, recalled
from sessions_app.cli.choosing import chosen, newest_changed
from sessions_app.cli.command import ConsoleCommand
from sessions_app.cli.lookup import candidates, meant, newest_open
from sessions_app.cli.teller import OneAnswer, Teller
from sessions_app.cli.text import put
from sessions_app.exceptions import InvalidTransition
from sessions_app.models import Session
from sessions_app.services import clone_fork, sessions

WAYS = "SESSION, --last, --choose and --profile each say which session; give one of them."


class Command(ConsoleCommand):
    help = (
        "Talk to a session: a new one, or one that is there. Ctrl-C cancels the answer that is "
        "coming; at the prompt it leaves, as Ctrl-D does."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "session", nargs="?", metavar="SESSION", help="its id, or a part of its id or name"
        )
        parser.add_argument("--last", action="store_true", help="the session that was changed last")
        parser.add_argument("--choose", action="store_true", help="choose one from a list")
        parser.add_argument("--profile", metavar="NAME", help="the profile of a new session")
        parser.add_argument("--fork", action="store_true", help="talk to a copy of it instead")
        parser.add_argument("--message", metavar="TEXT", help="send this, print the answer, leave")
        parser.add_argument("--thinking", action="store_true", help="show what it thinks in full")

    def handle(
        self, *args: Any, message: str | None, thinking: bool, fork: bool, **options: Any
    ) -> None:
        if message is not None and not message.strip():
            raise CommandError("--message is empty; write what you want to say.")
        found = self._found(**options)
        if fork and found is None:
            raise CommandError("--fork is for a session that is there; say which.")
        session = _opened(found, fork) if found else _created(options["profile"])
        if message is None:
            self._converse(session, thinking)
        else:
            self._answer(session, message, thinking)

    def _found(
        self, session: str | None, last: bool, choose: bool, profile: str | None, **_: Any
    ) -> str | None:
        """Return the id of the session to go on with, None for a new one."""
        if sum([session is not None, last, choose, profile is not None]) > 1:
            raise CommandError(WAYS)
        can_choose = sys.stdin.isatty() and self.screen.is_terminal
        if choose and not can_choose:
            raise CommandError("--choose needs a terminal; give the session's id instead.")
        if choose:
            return chosen(self.screen, newest_changed())
        if session and can_choose and len(found := candidates(session)) > 1:
            return chosen(self.screen, found)
        if session is not None:
            return meant(session)
        return newest_open() if last else None

    def _converse(self, session: Session, thinking: bool) -> None:
        name = f" ({session.name})" if session.name else ""
        put(self.screen, f"{session.id}{name}, {session.profile_name}", "dim")
        with keyboard.opened(settings.HOME / "chat_history") as lines:
            if lines.echoes:
                put(self.screen, "Ctrl-C cancels the answer that is coming, Ctrl-D leaves.", "dim")
            cursor = recalled(session) if lines.echoes else session.last_event_seq
            teller = Teller(self.screen, self.screen, thinking, asks=lines.echoes)
            with Chat(session.id, teller, cursor) as chat:
                try:
                    chat.converse(lines)
                except KeyboardInterrupt:
                    put(self.screen, "")
        if not chat.ended:
            put(self.screen, f"Come back with: manage.py chat {session.id}", "dim")

    def _answer(self, session: Session, message: str, thinking: bool) -> None:
        with keyboard.opened(settings.HOME / "chat_history") as lines:
            teller = OneAnswer(self.screen, self.notes, thinking, asks=lines.echoes)
            with Chat(session.id, teller, session.last_event_seq) as chat:
                outcome = chat.ask(message, lines)
        if how := outcome.data.get("outcome"):
            raise CommandError(f"The run was not completed: it is {how}.")


def _created(profile: str | None) -> Session:
    return sessions.start(sessions.create(profile_name=profile).id)


def _opened(found: str, fork: bool) -> Session:
    """Return the session, or a copy, started if it was not yet; raise CommandError at its end."""
    if fork:
        found = clone_fork.fork(found).id
    with contextlib.suppress(InvalidTransition):
        sessions.start(found)
    session = Session.objects.get(pk=found)
    if session.is_terminal:
        refusal = InvalidTransition.not_active(session.status)
        raise CommandError(f"{refusal} Talk to a copy of it with --fork.")
    return session
