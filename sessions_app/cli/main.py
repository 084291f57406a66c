"""The commands of the terminal: `chat`, `sessions` and `approvals`, on the API of a daemon.

They need neither Django's settings nor the database: the daemon may be on another machine.
"""

import os
import sys
import traceback
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from amplifierd.common.program import program
from sessions_app.cli import approvals, sessions
from sessions_app.cli.client import ApiError, Client, Daemon
from sessions_app.cli.output import Terminal, make_console

COMMANDS = ("approvals", "chat", "sessions")
# How a session is named where it is only looked at, and where something is done with it.
LOOKING, DOING = "its id, or a part of its id or name", "an id, or the beginning of one"
# What ends a session, or begins it, and its description.
CHANGES = {
    "start": "Take sessions from created to active.",
    "complete": "End active sessions whose work is done.",
    "fail": "End active sessions because of an error, which they keep.",
    "terminate": "End active sessions early.",
}


class Error(Exception):
    """The command cannot be carried out."""


class Parser(ArgumentParser):
    """A parser that tells what is wrong with the arguments as all other errors are told."""

    def error(self, message: str) -> Any:
        raise Error(f"{message}. `{self.prog} --help` lists what there is.")


def main(
    argv: Sequence[str],
    *,
    stdout: IO[str] | None = None,
    stderr: IO[str] | None = None,
) -> int:
    """Run the command that the arguments name; return its exit code.

    What stops it is one sentence on the standard error; `--traceback` shows where it came from.
    """
    notes = stderr or sys.stderr
    try:
        options = build_parser().parse_args(argv)
        daemon = Daemon.find(options.url, options.key)
        with Client(daemon) as client:
            screen = make_console(stdout or sys.stdout)
            run = options.run
            run(Terminal(client, screen, make_console(notes)), options)
        return 0
    except (ApiError, Error) as error:
        reason, code = str(error), 1
    except KeyboardInterrupt:
        reason, code = "Interrupted.", 130
    except UnicodeEncodeError as error:
        reason, code = f"{error.object[:80]!r} is no valid UTF-8; write it anew.", 1
    except BrokenPipeError:
        # Its reader, as `head`, has seen enough; what is still to be written goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if "--traceback" in argv:
        traceback.print_exc(file=notes)
    notes.write(f"{reason}\n")
    return code


def build_parser() -> Parser:
    parser = Parser(program(), description="The terminal of a daemon, on this machine or another.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    text = (
        "Talk to a session: a new one, or one that is there. Ctrl-C or Escape stops the answer "
        "that is coming; at the prompt Ctrl-C leaves, as Ctrl-D does."
    )
    chat = commands.add_parser("chat", help="Talk to a session.", description=text)
    add_chat(chat)
    text = "List, search, watch, export, start, end, delete and clean up sessions."
    add_sessions(commands.add_parser("sessions", help=text, description=text))
    text = "List, show and answer approvals: tool calls that wait for a person."
    add_approvals(commands.add_parser("approvals", help=text, description=text))
    return parser


def add_server(parser: ArgumentParser) -> None:
    """Add the options that every command has."""
    group = parser.add_argument_group("daemon")
    group.add_argument(
        "--url", help="where it is (or AMPLIFIERD_URL); default: the one of this machine"
    )
    group.add_argument("--key", help="an API key, if it demands one (or AMPLIFIERD_KEY)")
    group.add_argument("--traceback", action="store_true", help="show where an error came from")


def add_chat(parser: ArgumentParser) -> None:
    parser.add_argument("session", nargs="?", metavar="SESSION", help=LOOKING)
    parser.add_argument("--last", action="store_true", help="the session that was changed last")
    parser.add_argument("--choose", action="store_true", help="choose one from a list")
    parser.add_argument("--profile", metavar="NAME", help="the profile of a new session")
    parser.add_argument("--fork", action="store_true", help="talk to a copy of it instead")
    parser.add_argument("--message", metavar="TEXT", help="send this, print the answer, leave")
    parser.add_argument("--thinking", action="store_true", help="show what it thinks in full")
    add_server(parser)

    def run(terminal: Terminal, options: Namespace) -> None:
        # It takes a while to load, and the other commands need none of it.
        from sessions_app.cli.chat import run_chat

        run_chat(terminal, options)

    parser.set_defaults(run=run)


def add_action(
    actions: Any, name: str, text: str, run: Callable[..., None], *, has_json: bool = False
) -> ArgumentParser:
    action = actions.add_parser(name, help=text, description=text)
    action.set_defaults(run=run)
    if has_json:
        help_ = "JSON, a line each, as the API has it"
        action.add_argument("--json", action="store_true", dest="as_json", help=help_)
    add_server(action)
    return action


def add_sessions(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = "List sessions, newest first."
    listing = add_action(actions, "list", text, sessions.list_sessions, has_json=True)
    listing.add_argument("--limit", type=parse_count, default=20, help="default: 20")
    add_filters(listing)
    text = "Find sessions by their names and what was said in them."
    search = add_action(actions, "search", text, sessions.search_sessions, has_json=True)
    help_ = 'all of them; "a phrase", -without, or'
    search.add_argument("words", nargs="+", metavar="WORD", help=help_)
    search.add_argument("--limit", type=parse_count, default=10, help="default: 10")
    add_filters(search)
    text = f"Show a session: its facts, its last {sessions.SHOWN} messages, its runs."
    show = add_action(actions, "show", text, sessions.show_session, has_json=True)
    show.add_argument("id", metavar="SESSION", help=LOOKING)
    add_tail(actions)
    add_export(actions)
    for name, text in CHANGES.items():
        change = add_action(actions, name, text, sessions.change_sessions)
        change.add_argument("ids", nargs="+", metavar="ID", help=DOING)
        if name == "fail":
            change.add_argument("--message", required=True, help="what went wrong")
    text = "Delete sessions in any state, with all that belongs to them."
    delete = add_action(actions, "delete", text, sessions.delete_sessions)
    delete.add_argument("ids", nargs="+", metavar="ID", help=DOING)
    delete.add_argument("--yes", action="store_true", help="do not ask")
    text = "Remove sessions that ended long ago, or were created then and never started."
    clean = add_action(actions, "cleanup", text, sessions.clean_up)
    clean.add_argument(
        "--older-than-days", type=parse_number, default=30, metavar="N", help="default: 30"
    )
    removable = [status for status in sessions.STATUSES if status != "active"]
    clean.add_argument("--status", choices=removable, help="only those")
    clean.add_argument("--dry-run", action="store_true", help="only say how many there are")
    clean.add_argument("--yes", action="store_true", help="do not ask")


def add_tail(actions: Any) -> None:
    text = "Print a session's events as they come, until it ends."
    tail = add_action(actions, "tail", text, sessions.tail_session, has_json=True)
    tail.add_argument("id", metavar="SESSION", help=LOOKING)
    tail.add_argument(
        "--after", type=parse_number, metavar="SEQ", help="begin after that event; 0: all"
    )
    help_ = f"begin with so many; default: {sessions.SHOWN}"
    tail.add_argument("-n", "--lines", type=parse_number, default=sessions.SHOWN, help=help_)
    help_ = "only these; may be given again"
    tail.add_argument(
        "--type", action="append", dest="types", default=[], metavar="TYPE", help=help_
    )
    help_ = "do not wait for what comes"
    tail.add_argument("--no-follow", action="store_false", dest="follow", help=help_)


def add_export(actions: Any) -> None:
    text = "Write sessions with all of their messages: those given, or all that the filters leave."
    export = add_action(actions, "export", text, sessions.export_sessions)
    export.add_argument("ids", nargs="*", metavar="SESSION", help=LOOKING)
    help_ = "json (default; an array), jsonl (a line each), markdown"
    export.add_argument("--format", choices=sessions.FORMATS, help=help_)
    help_ = "default: the standard output"
    export.add_argument("-o", "--output", type=Path, metavar="FILE", help=help_)
    export.add_argument("--force", action="store_true", help="replace the file")
    help_ = "with their journals, in json and jsonl"
    export.add_argument("--events", action="store_true", help=help_)
    add_filters(export)


def add_filters(action: ArgumentParser) -> None:
    """Add the options that select sessions; all of them have to hold."""
    group = action.add_argument_group("filters")
    group.add_argument("--status", choices=sessions.STATUSES)
    group.add_argument("--profile", metavar="NAME", help="collection/name")
    group.add_argument("--directory", metavar="PATH", help="amplified directory, `.` for the root")
    group.add_argument("--parent", metavar="ID", help="the session that they are children of")
    help_ = "created then or later"
    group.add_argument("--since", type=sessions.parse_moment, metavar="TIME", help=help_)
    help_ = "created before; 2026-01-31, 90m, 12h or 7d"
    group.add_argument("--until", type=sessions.parse_moment, metavar="TIME", help=help_)
    help_ = "what their metadata has there; may be given again"
    group.add_argument("--metadata", action="append", default=[], metavar="KEY=VALUE", help=help_)


def add_approvals(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = "List what waits for an answer, newest first."
    listing = add_action(actions, "list", text, approvals.list_approvals, has_json=True)
    statuses = [*approvals.STATUSES, "any"]
    listing.add_argument("--status", choices=statuses, default="pending", help="default: pending")
    listing.add_argument("--session", metavar="SESSION", help="only of this session")
    listing.add_argument("--limit", type=parse_count, default=20, help="default: 20")
    text = "Show an approval, with all that the tool would be given."
    show = add_action(actions, "show", text, approvals.show_approval, has_json=True)
    show.add_argument("id", metavar="ID", help=DOING)
    texts = {"approve": "Let tools be called.", "deny": "Have tools not be called."}
    for name, text in texts.items():
        answer = add_action(actions, name, text, approvals.answer_approvals, has_json=True)
        answer.add_argument("ids", nargs="+", metavar="ID", help=DOING)
        answer.add_argument("--reason", default="", help="why, as the model is told")
        if name == "approve":
            help_ = (
                "do not ask about them again in their sessions, as long as they stay as they are"
            )
            answer.add_argument("--always", action="store_true", help=help_)


def parse_count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise ArgumentTypeError("must be 1 or more")
    return int(text)


def parse_number(text: str) -> int:
    if not (text.isdecimal() and int(text) < 2**53):
        raise ArgumentTypeError("must be 0 or more")
    return int(text)
