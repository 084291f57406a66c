"""`manage.py approvals`: list, show and answer what waits for a person."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from sessions_app.api.serializers import ApprovalSerializer
from sessions_app.cli import asks, person
from sessions_app.cli.command import ConsoleCommand
from sessions_app.cli.lookup import meant
from sessions_app.cli.session_arguments import at_least_one
from sessions_app.cli.text import put, put_json
from sessions_app.exceptions import SessionsError
from sessions_app.models import Approval
from sessions_app.services import pending_actions
from sessions_app.services.pending_actions import Answer
from sessions_app.states import APPROVAL_STATUSES

ID = "an id, or the beginning of one"


class Command(ConsoleCommand):
    help = "List, show and answer approvals: calls of tools that wait for a person."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
        listing = _action(actions, "list", "List what waits for an answer, newest first.")
        statuses = [*APPROVAL_STATUSES, "any"]
        listing.add_argument(
            "--status", choices=statuses, default="pending", help="default: pending"
        )
        listing.add_argument("--session", metavar="SESSION", help="only of this session")
        listing.add_argument("--limit", type=at_least_one, default=20, help="default: 20")
        show = _action(actions, "show", "Show an approval, with all that the tool would be given.")
        show.add_argument("id", metavar="ID", help=ID)
        approve = _action(actions, "approve", "Let tools be called.")
        approve.add_argument(
            "--always",
            action="store_true",
            help="do not ask about them again in their sessions, as long as they stay as they are",
        )
        deny = _action(actions, "deny", "Have tools not be called.")
        for answer in (approve, deny):
            answer.add_argument("ids", nargs="+", metavar="ID", help=ID)
            answer.add_argument("--reason", default="", help="why, as the model is told")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        getattr(self, f"_{action}")(**options)

    def _list(self, status: str, session: str | None, limit: int, as_json: bool, **_: Any) -> None:
        found = (
            Approval.objects.all() if status == "any" else Approval.objects.filter(status=status)
        )
        if session is not None:
            found = found.filter(session_id=meant(session))
        rows = list(found.newest_first()[: limit + 1])
        if as_json:
            for approval in rows[:limit]:
                put_json(self.screen, ApprovalSerializer.serialize(approval))
            return
        asks.listed(self.screen, rows[:limit])
        if len(rows) > limit and self.screen.is_terminal:
            put(self.notes, f"There are more; show them with --limit {2 * limit}.", "dim")

    def _show(self, id: str, as_json: bool, **_: Any) -> None:
        approval = asks.found(id)
        if as_json:
            put_json(self.screen, ApprovalSerializer.serialize(approval))
        else:
            asks.show(self.screen, approval)

    def _approve(self, always: bool, **options: Any) -> None:
        self._answer(Answer.ALWAYS if always else Answer.APPROVE, **options)

    def _deny(self, **options: Any) -> None:
        self._answer(Answer.DENY, **options)

    def _answer(self, word: str, ids: list[str], reason: str, as_json: bool, **_: Any) -> None:
        """Answer each; one that is refused does not keep the others from it."""
        refusals = []
        # All are found before the first one is answered: a typo leaves everything as it was.
        for asked in {found.id: found for found in map(asks.found, ids)}.values():
            try:
                done = pending_actions.answer(
                    asked.session_id, asked.id, word, reason=reason, by=person.name()
                )
            except SessionsError as refusal:
                refusals.append(f"{asked.id}: {refusal}")
            else:
                self._tell(done, as_json)
        if refusals:
            raise CommandError("\n".join(refusals))

    def _tell(self, approval: Approval, as_json: bool) -> None:
        if as_json:
            put_json(self.screen, ApprovalSerializer.serialize(approval))
        else:
            put(self.screen, f"{approval.id}\t{approval.status}")


def _action(actions: Any, name: str, text: str) -> ArgumentParser:
    action = actions.add_parser(name, help=text, description=text)
    action.add_argument(
        "--json", action="store_true", dest="as_json", help="JSON, a line each, as the API has"
    )
    return action
