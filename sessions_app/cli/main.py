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
from sessions_app.states import APPROVAL_STATUSES, SessionStatus

# Help for a session that is only read, and for one that is changed.
READING, CHANGING = "its id, or a part of its id or name", "its id, or the beginning of it"
# Action that starts or ends sessions → its description.
CHANGES = {
    "start": "Take sessions from created to active.",
    "complete": "End active sessions whose work is done.",
    "fail": "End active sessions because of an error, which they keep.",
    "terminate": "End active sessions early.",
}


class Error(Exception):
    """The command cannot be carried out."""


class Parser(ArgumentParser):
    """A parser that reports wrong arguments like all other errors."""

    def error(self, message: str) -> Any:
        raise Error(f"{message}. `{self.prog} --help` lists the options.")


def main(
    argv: Sequence[str], *, stdout: IO[str] | None = None, stderr: IO[str] | None = None
) -> int:
    """Run the command in the arguments; return its exit code.

    An error is one sentence on the standard error; `--traceback` shows where it came from.
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
        reason, code = f"{error.object[:80]!r} is not valid UTF-8; type it again.", 1
    except BrokenPipeError:
        # The reader, for example `head`, has closed the pipe: the rest of the output is dropped.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if "--traceback" in argv:
        traceback.print_exc(file=notes)
    notes.write(f"{reason}\n")
    return code


def build_parser() -> Parser:
    parser = Parser(program(), description="Use a daemon on this machine or another.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    text = (
        "Talk to a new or an existing session. During an answer Ctrl-C or Escape stops it; "
        "at the prompt Ctrl-C or Ctrl-D leaves."
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
        "--url", help="its URL (or AMPLIFIERD_URL); default: the one on this machine"
    )
    group.add_argument("--key", help="an API key, if it requires one (or AMPLIFIERD_KEY)")
    group.add_argument("--traceback", action="store_true", help="show the traceback of an error")


def add_chat(parser: ArgumentParser) -> None:
    parser.add_argument("session", nargs="?", metavar="SESSION", help=READING)
    parser.add_argument("--last", action="store_true", help="the session that changed last")
    parser.add_argument("--choose", action="store_true", help="choose one from a list")
    parser.add_argument("--profile", metavar="NAME", help="the profile of a new session")
    parser.add_argument("--directory", metavar="PATH", help="its directory; default: the root `.`")
    parser.add_argument("--fork", action="store_true", help="talk to a copy of it instead")
    parser.add_argument("--message", metavar="TEXT", help="send this, print the answer and exit")
    parser.add_argument("--thinking", action="store_true", help="show all of its reasoning")
    add_server(parser)

    def run(terminal: Terminal, options: Namespace) -> None:
        # Slow to import, and no other command needs it.
        from sessions_app.cli.chat import run_chat

        run_chat(terminal, options)

    parser.set_defaults(run=run)


def add_action(
    actions: Any, name: str, text: str, run: Callable[..., None], *, has_json: bool = False
) -> ArgumentParser:
    action = actions.add_parser(name, help=text, description=text)
    action.set_defaults(run=run)
    if has_json:
        help_ = "one line of JSON each, as in the API"
        action.add_argument("--json", action="store_true", dest="as_json", help=help_)
    add_server(action)
    return action


def add_sessions(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = "List sessions, newest first."
    listing = add_action(actions, "list", text, sessions.list_sessions, has_json=True)
    listing.add_argument("--limit", type=parse_count, default=20, help="default: 20")
    add_filters(listing)
    text = "Find sessions by words of their names and messages."
    search = add_action(actions, "search", text, sessions.search_sessions, has_json=True)
    help_ = 'all of them; "a phrase", -without, or'
    search.add_argument("words", nargs="+", metavar="WORD", help=help_)
    search.add_argument("--limit", type=parse_count, default=10, help="default: 10")
    add_filters(search)
    text = f"Show a session: a summary, its last {sessions.SHOWN} messages and runs."
    show = add_action(actions, "show", text, sessions.show_session, has_json=True)
    show.add_argument("id", metavar="SESSION", help=READING)
    add_tail(actions)
    add_export(actions)
    for name, text in CHANGES.items():
        change = add_action(actions, name, text, sessions.change_sessions)
        change.add_argument("ids", nargs="+", metavar="ID", help=CHANGING)
        if name == "fail":
            change.add_argument("--message", required=True, help="what went wrong")
    text = "Delete sessions in any state, with messages, runs and journal."
    delete = add_action(actions, "delete", text, sessions.delete_sessions)
    delete.add_argument("ids", nargs="+", metavar="ID", help=CHANGING)
    delete.add_argument("--yes", action="store_true", help="do not ask")
    text = "Remove sessions that ended long ago, or were created long ago and never started."
    clean = add_action(actions, "cleanup", text, sessions.clean_up)
    clean.add_argument(
        "--older-than-days", type=parse_number, default=30, metavar="N", help="default: 30"
    )
    removable = [status for status in SessionStatus.values if status != "active"]
    clean.add_argument("--status", choices=removable, help="only those")
    clean.add_argument("--dry-run", action="store_true", help="only print how many there are")
    clean.add_argument("--yes", action="store_true", help="do not ask")


def add_tail(actions: Any) -> None:
    text = "Print a session's events as they happen, until it ends."
    tail = add_action(actions, "tail", text, sessions.tail_session, has_json=True)
    tail.add_argument("id", metavar="SESSION", help=READING)
    tail.add_argument(
        "--after", type=parse_number, metavar="SEQ", help="start after this event; 0: all"
    )
    help_ = f"how many earlier events; default: {sessions.SHOWN}"
    tail.add_argument("-n", "--lines", type=parse_number, default=sessions.SHOWN, help=help_)
    help_ = "only these; may be repeated"
    tail.add_argument(
        "--type", action="append", dest="types", default=[], metavar="TYPE", help=help_
    )
    help_ = "do not wait for new events"
    tail.add_argument("--no-follow", action="store_false", dest="follow", help=help_)


def add_export(actions: Any) -> None:
    text = (
        "Write sessions with all of their messages: the given ones, or all that match the filters."
    )
    export = add_action(actions, "export", text, sessions.export_sessions)
    export.add_argument("ids", nargs="*", metavar="SESSION", help=READING)
    help_ = "json (default; an array), jsonl (one line each), markdown"
    export.add_argument("--format", choices=sessions.FORMATS, help=help_)
    help_ = "default: the standard output"
    export.add_argument("-o", "--output", type=Path, metavar="FILE", help=help_)
    export.add_argument("--force", action="store_true", help="replace the file")
    help_ = "include their journals, in json and jsonl"
    export.add_argument("--events", action="store_true", help=help_)
    add_filters(export)


def add_filters(action: ArgumentParser) -> None:
    """Add the options that select sessions; a session has to match all of them."""
    group = action.add_argument_group("filters")
    group.add_argument("--status", choices=SessionStatus.values)
    group.add_argument("--profile", metavar="NAME", help="collection/name")
    group.add_argument("--directory", metavar="PATH", help="amplified directory, `.` for the root")
    group.add_argument("--parent", metavar="ID", help="their parent session")
    help_ = "created at this time or later"
    group.add_argument("--since", type=sessions.parse_moment, metavar="TIME", help=help_)
    help_ = "created earlier; 2026-01-31, 90m, 12h or 7d"
    group.add_argument("--until", type=sessions.parse_moment, metavar="TIME", help=help_)
    help_ = "their metadata has this value; may be repeated"
    group.add_argument("--metadata", action="append", default=[], metavar="KEY=VALUE", help=help_)


def add_approvals(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = "List approvals, newest first."
    listing = add_action(actions, "list", text, approvals.list_approvals, has_json=True)
    statuses = [*APPROVAL_STATUSES, "any"]
    listing.add_argument("--status", choices=statuses, default="pending", help="default: pending")
    listing.add_argument("--session", metavar="SESSION", help="only of this session")
    listing.add_argument("--limit", type=parse_count, default=20, help="default: 20")
    text = "Show an approval, with the whole input of the tool."
    show = add_action(actions, "show", text, approvals.show_approval, has_json=True)
    show.add_argument("id", metavar="ID", help=CHANGING)
    texts = {"approve": "Allow tool calls.", "deny": "Forbid tool calls."}
    for name, text in texts.items():
        answer = add_action(actions, name, text, approvals.answer_approvals, has_json=True)
        answer.add_argument("ids", nargs="+", metavar="ID", help=CHANGING)
        answer.add_argument("--reason", default="", help="the reason, which the model gets")
        if name == "approve":
            help_ = "do not ask about these tools again in their sessions, unless the tools change"
            answer.add_argument("--always", action="store_true", help=help_)


def parse_count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise ArgumentTypeError("must be 1 or more")
    return int(text)


def parse_number(text: str) -> int:
    if not (text.isdecimal() and int(text) < 2**53):
        raise ArgumentTypeError("must be 0 or more")
    return int(text)
