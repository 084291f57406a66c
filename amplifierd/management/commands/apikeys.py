"""`manage.py apikeys`: create, list and revoke API keys."""

import json
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError

from amplifierd.auth import keys
from amplifierd.common.callers import Owner
from amplifierd.common.command import ConsoleCommand
from amplifierd.common.formats import stamp
from amplifierd.common.statements import read_clock
from amplifierd.models import ApiKey, Scope
from profiles_app.exceptions import ProfilesError
from profiles_app.services import directories
from sessions_app.cli.output import format_time, print_table, put

HEADINGS = ("prefix", "name", "owner", "scope", "state", "last used", "expires", "created")


class Command(ConsoleCommand):
    help = "Create, list and revoke the API keys with which programs may call."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
        text = "Create a key and print it; it is shown only once."
        create = actions.add_parser("create", help=text, description=text)
        create.add_argument("name", metavar="NAME", help="what it is for")
        create.add_argument("--owner", help="whose sessions it creates and sees; default: NAME")
        create.add_argument(
            "--scope",
            choices=Scope.values,
            default=Scope.WRITE,
            help="read, write (default), or admin: the catalogue, and the sessions of all owners",
        )
        create.add_argument("--directory", metavar="PATH", help="a directory that its owner gets")
        create.add_argument("--days", type=parse_days, help="until it expires; default: never")
        create.set_defaults(run=self.create)
        text = "List keys, newest first."
        listing = actions.add_parser("list", help=text, description=text)
        for action in (create, listing):
            action.add_argument("--json", action="store_true", dest="as_json", help="print JSON")
        listing.set_defaults(run=self.list_all)
        text = "Revoke keys; their streams end within a minute."
        revoke = actions.add_parser("revoke", help=text, description=text)
        revoke.add_argument("prefixes", nargs="+", metavar="PREFIX", help="as `list` shows it")
        revoke.set_defaults(run=self.revoke)

    def handle(self, *args: Any, run: Callable[..., None], **options: Any) -> None:
        run(**options)

    def create(
        self,
        name: str,
        owner: str | None,
        scope: str,
        days: timedelta | None,
        directory: str | None,
        as_json: bool,
        **_: Any,
    ) -> None:
        wanted = {"name": _label(name), "owner": _label(owner or name), "scope": scope}
        if directory:
            try:
                directories.provide(directory, wanted["owner"])
            except ProfilesError as error:
                raise CommandError(f"No key was created: {error}") from None
        made, key = keys.create(**wanted, expires_at=read_clock() + days if days else None)
        if as_json:
            put(self.screen, json.dumps({**_as_json(made), "key": key}, indent=2))
            return
        # The standard output has nothing else, for KEY=$(manage.py apikeys create …).
        put(self.screen, key)
        put(self.notes, f"The key of {made.name}, scope {made.scope}, owner {made.owner}.")
        put(self.notes, "It is shown only this once. Send it as: Authorization: Bearer amp_…")
        if scope != Scope.ADMIN and not directories.list_readable(Owner(made.owner)):
            put(
                self.notes,
                f"{made.owner} has no directory, so this key can create no session. Give it one: "
                "POST /api/v1/amplified-directories/ with its `owner`, the console, or "
                "`--directory PATH` here.",
            )

    def list_all(self, as_json: bool, **_: Any) -> None:
        found = list(ApiKey.objects.all())
        if as_json:
            put(self.screen, json.dumps([_as_json(key) for key in found], indent=2))
        else:
            rows = [
                [
                    *(key.prefix, key.name, key.owner, key.scope, key.state),
                    *map(format_time, (key.last_used_at, key.expires_at, key.created_at)),
                ]
                for key in found
            ]
            print_table(self.screen, HEADINGS, rows)

    def revoke(self, prefixes: list[str], **_: Any) -> None:
        unknown = [given for given in prefixes if not ApiKey.objects.filter(prefix=given).exists()]
        if unknown:
            raise CommandError(f"There is no key {', '.join(unknown)}; nothing was revoked.")
        for given in prefixes:
            key = keys.revoke(given)
            put(self.screen, f"{given}\t{key.state if key else ''}")


def _as_json(key: ApiKey) -> dict[str, Any]:
    times = {
        "createdAt": key.created_at,
        "expiresAt": key.expires_at,
        "lastUsedAt": key.last_used_at,
        "revokedAt": key.revoked_at,
    }
    facts = {name: getattr(key, name) for name in ("prefix", "name", "owner", "scope", "state")}
    return {**facts, **{name: at and stamp(at) for name, at in times.items()}}


def _label(text: str) -> str:
    """Return the name or owner; raise CommandError if it is not valid."""
    if not (0 < len(text) <= 64 and text.isprintable() and text.strip() == text):
        raise CommandError("A name or owner has 1 to 64 characters that can be printed.")
    return text


def parse_days(text: str) -> timedelta:
    days = float(text)
    if not 0 < days < 100_000:
        raise ArgumentTypeError("must be more than 0")
    return timedelta(days=days)
