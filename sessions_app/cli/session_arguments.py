"""The arguments of `manage.py sessions`, an action each."""

from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

from sessions_app.cli import facts, filters
from sessions_app.cli.export import FORMATS
from sessions_app.cli.tail import SHOWN
from sessions_app.events import EventType
from sessions_app.services import cleanup

STEPS = {
    "start": "Take sessions from created to active.",
    "complete": "End active sessions whose work is done.",
    "fail": "End active sessions because of an error, which they keep.",
    "terminate": "End active sessions early.",
    "delete": "Delete sessions in any state, with all that belongs to them.",
}
# How a session is named where it is only looked at, and where something is done with it.
LOOKING, DOING = "its id, or a part of its id or name", "an id, or the beginning of one"


def add(parser: ArgumentParser) -> None:
    """Add all of them."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    reading = [_list(actions), _search(actions), _show(actions), _tail(actions)]
    for action in reading:
        action.add_argument(
            "--json", action="store_true", dest="as_json", help="JSON, a line each, as the API has"
        )
    _export(actions)
    for name, text in STEPS.items():
        step = _action(actions, name, text)
        step.add_argument("ids", nargs="+", metavar="ID", help=DOING)
        if name == "fail":
            step.add_argument("--message", required=True, help="what went wrong")
        if name == "delete":
            step.add_argument("--yes", action="store_true", help="do not ask")
    _cleanup(actions)


def _action(actions: Any, name: str, text: str) -> ArgumentParser:
    return actions.add_parser(name, help=text, description=text)


def _list(actions: Any) -> ArgumentParser:
    listing = _action(actions, "list", "List sessions, newest first.")
    listing.add_argument("--limit", type=at_least_one, default=20, help="default: 20")
    filters.add(listing)
    return listing


def _search(actions: Any) -> ArgumentParser:
    search = _action(actions, "search", "Find sessions by their names and what was said in them.")
    search.add_argument(
        "words", nargs="+", metavar="WORD", help='all of them; "a phrase", -without, or'
    )
    search.add_argument("--limit", type=at_least_one, default=10, help="default: 10")
    filters.add(search)
    return search


def _show(actions: Any) -> ArgumentParser:
    text = f"Show a session: its facts, its last {facts.SHOWN} messages, its runs."
    show = _action(actions, "show", text)
    show.add_argument("id", metavar="SESSION", help=LOOKING)
    return show


def _tail(actions: Any) -> ArgumentParser:
    tail = _action(actions, "tail", "Print a session's events as they come, until it ends.")
    tail.add_argument("id", metavar="SESSION", help=LOOKING)
    tail.add_argument("--after", type=_seq, metavar="SEQ", help="begin after that event; 0: all")
    tail.add_argument(
        "-n", "--lines", type=_seq, default=SHOWN, help=f"begin with so many; default: {SHOWN}"
    )
    tail.add_argument(
        "--type",
        action="append",
        dest="types",
        default=[],
        choices=EventType.values,
        metavar="TYPE",
        help="only these; may be given again",
    )
    tail.add_argument(
        "--no-follow", action="store_false", dest="follow", help="do not wait for what comes"
    )
    return tail


def _export(actions: Any) -> None:
    text = "Write sessions with all of their messages: those given, or all that the filters leave."
    export = _action(actions, "export", text)
    export.add_argument("ids", nargs="*", metavar="SESSION", help=LOOKING)
    export.add_argument(
        "--format",
        choices=FORMATS,
        help="json (default; an array), jsonl (a line each), markdown",
    )
    export.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: the standard output"
    )
    export.add_argument("--force", action="store_true", help="replace the file")
    export.add_argument(
        "--events", action="store_true", help="with their journals, in json and jsonl"
    )
    filters.add(export)


def _cleanup(actions: Any) -> None:
    text = "Remove sessions that ended long ago, or were created then and never started."
    clean = _action(actions, "cleanup", text)
    clean.add_argument(
        "--older-than-days",
        type=_days,
        default=cleanup.DEFAULT_DAYS,
        metavar="N",
        help=f"default: {cleanup.DEFAULT_DAYS}",
    )
    clean.add_argument("--status", choices=cleanup.REMOVABLE, help="only those")
    clean.add_argument("--dry-run", action="store_true", help="only say how many there are")
    clean.add_argument("--yes", action="store_true", help="do not ask")


def at_least_one(text: str) -> int:
    """Return the number from 1 to a million that a text spells; raise ArgumentTypeError."""
    number = int(text)
    if not 1 <= number <= 1_000_000:
        raise ArgumentTypeError("must be 1 or more, up to a million")
    return number


def _seq(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**53:
        raise ArgumentTypeError("must be 0 or more")
    return number


def _days(text: str) -> int:
    number = int(text)
    if not 0 <= number <= cleanup.MOST_DAYS:
        raise ArgumentTypeError(f"must be from 0 to {cleanup.MOST_DAYS}")
    return number
