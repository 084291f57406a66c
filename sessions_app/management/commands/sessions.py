"""`manage.py sessions`: list, search, watch, export, start, end, delete and clean up sessions."""

import sys
from argparse import ArgumentParser
from collections.abc import Callable
from itertools import islice
from typing import Any

from django.core.management.base import CommandError

from amplifierd.common.callers import Everyone
from sessions_app.api.serializers import SessionSerializer
from sessions_app.cli import facts, finds, session_arguments
from sessions_app.cli.command import ConsoleCommand
from sessions_app.cli.exporting import export
from sessions_app.cli.filters import filtered
from sessions_app.cli.lookup import meant, session_id
from sessions_app.cli.tail import Tail, first
from sessions_app.cli.text import put, put_json
from sessions_app.exceptions import SessionsError
from sessions_app.models import Session
from sessions_app.services import cleanup, sessions

# What becomes of each of the sessions given.
STEPS: dict[str, Callable[[str], Any]] = {
    "start": sessions.start,
    "complete": sessions.complete,
    "terminate": sessions.terminate,
}


class Command(ConsoleCommand):
    help = "List, search, watch, export, start, end, delete and clean up sessions."

    def add_arguments(self, parser: ArgumentParser) -> None:
        session_arguments.add(parser)

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        if step := STEPS.get(action):
            self._act(step, options["ids"])
        else:
            getattr(self, f"_{action}")(**options)

    def _list(self, limit: int, as_json: bool, **options: Any) -> None:
        rows = iter(filtered(options).shown().newest_first()[: limit + 1])
        found = list(islice(rows, limit))
        if as_json:
            for session in found:
                put_json(self.screen, SessionSerializer.serialize(session))
            return
        facts.listed(self.screen, found)
        if next(rows, None) and self.screen.is_terminal:
            put(self.notes, f"There are more; show them with --limit {2 * limit}.", "dim")

    def _show(self, id: str, as_json: bool, **_: Any) -> None:
        session = Session.objects.shown().get(pk=meant(id))
        if as_json:
            put_json(self.screen, facts.as_json(session))
        else:
            facts.show(self.screen, session)

    def _tail(
        self,
        id: str,
        after: int | None,
        lines: int,
        types: list[str],
        follow: bool,
        as_json: bool,
        **_: Any,
    ) -> None:
        session = Session.objects.shown().get(pk=meant(id))
        if after is not None and after > session.last_event_seq:
            raise CommandError(
                f"The session has {session.last_event_seq} events; give an --after from 0 to that."
            )
        tail = Tail(self.screen, self.notes, session, first(session, after, lines))
        try:
            tail.follow(types, as_json, follow)
        except KeyboardInterrupt:
            # It is how one stops watching.
            return

    def _search(self, words: list[str], limit: int, as_json: bool, **options: Any) -> None:
        text = " ".join(words)
        finds.search(self.screen, self.notes, filtered(options), text, limit, as_json)

    def _export(self, **options: Any) -> None:
        export(self.screen, self.notes, options)

    def _cleanup(
        self, older_than_days: int, status: str | None, dry_run: bool, yes: bool, **_: Any
    ) -> None:
        found = cleanup.removable(Everyone(), older_than_days, status)
        if dry_run:
            put(self.screen, f"{_counted(found.count())} would be removed.")
            return
        if sys.stdin.isatty() and not yes:
            self._ask(f"Delete {_counted(found.count())}, with messages, runs and journal?")
        put(self.screen, f"{_counted(cleanup.remove(found))} removed.")

    def _fail(self, ids: list[str], message: str, **_: Any) -> None:
        self._act(lambda found: sessions.fail(found, message), ids)

    def _delete(self, ids: list[str], yes: bool, **_: Any) -> None:
        found = [session_id(given) for given in ids]
        if sys.stdin.isatty() and not yes:
            facts.listed(self.screen, Session.objects.filter(pk__in=found))
            self._ask("Delete this, with messages, runs and journal?")
        self._act(sessions.delete, found)

    def _ask(self, question: str) -> None:
        """Go on if the answer is yes; else raise CommandError."""
        try:
            answer = input(f"{question} [y/N] ")
        except EOFError:
            answer = ""
        if answer.strip().lower() not in {"y", "yes"}:
            raise CommandError("Nothing was deleted.")

    def _act(self, act: Callable[[str], Session | None], ids: list[str]) -> None:
        """Act on every session; one that refuses does not keep the others from it."""
        refusals = []
        # All are found before the first one is touched: a typo leaves everything as it was.
        for found in dict.fromkeys([session_id(given) for given in ids]):
            try:
                session = act(found)
            except SessionsError as refusal:
                refusals.append(f"{found}: {refusal}")
            else:
                put(self.screen, f"{found}\t{session.status if session else 'deleted'}")
        if refusals:
            raise CommandError("\n".join(refusals))


def _counted(number: int) -> str:
    return f"{number} session" if number == 1 else f"{number} sessions"
