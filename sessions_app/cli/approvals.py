"""`approvals`: list, show and answer tool calls that wait for a person."""

import getpass
import json
from argparse import Namespace
from collections.abc import Iterable

from rich.console import Console

from sessions_app.cli.client import JSON, Client
from sessions_app.cli.lookup import APPROVAL_PREFIX, find_approval, find_session
from sessions_app.cli.output import (
    Terminal,
    act_on_each,
    format_age,
    format_time,
    one_line,
    print_page,
    print_table,
    put,
    put_json,
)

HEADINGS = ("ID", "STATUS", "AGE", "TOOL", "SESSION", "INPUT")
# Characters of a tool's input in a list.
SHOWN = 200


def answer_approval(
    client: Client, session_id: str, approval_id: str, response: str, reason: str = ""
) -> JSON:
    """Approve or deny a tool call in the name of this user; return the approval."""
    try:
        person = getpass.getuser()
    except (ImportError, KeyError, OSError):
        person = ""
    body = {"approval_id": approval_id, "response": response, "answered_by": person[:150]}
    if reason:
        body["reason"] = reason
    return client.post(f"sessions/{session_id}/approval-response", body, patiently=True)


def list_approvals(terminal: Terminal, options: Namespace) -> None:
    query = [] if options.status == "any" else [("status", options.status)]
    if options.session is not None:
        query.append(("session_id", find_session(terminal.client, options.session)["sessionId"]))
    print_page(terminal, options, "approvals/", query, print_approvals)


def print_approvals(screen: Console, rows: Iterable[JSON]) -> None:
    """Print approvals, a line each: in full on a pipe, shortened on a terminal."""
    short = screen.is_terminal
    cells = [
        (
            row["approvalId"].removeprefix(APPROVAL_PREFIX) if short else row["approvalId"],
            row["status"],
            format_age(row["createdAt"]) if short else format_time(row["createdAt"]),
            row["toolName"],
            row["sessionId"],
            _dump_input(row)[: SHOWN if short else None],
        )
        for row in rows
    ]
    print_table(screen, HEADINGS, cells)


def _dump_input(approval: JSON) -> str:
    return json.dumps(approval["toolInput"], ensure_ascii=False)


def show_approval(terminal: Terminal, options: Namespace) -> None:
    screen, approval = terminal.screen, find_approval(terminal.client, options.id)
    if options.as_json:
        put_json(screen, approval)
        return
    facts = {
        "status": approval["status"],
        "tool": approval["toolName"],
        "input": _dump_input(approval),
        "session": approval["sessionId"],
        "run": approval["runId"],
        "asked": format_time(approval["createdAt"]),
        "expires": format_time(approval["expiresAt"]),
        "answered": format_time(approval["answeredAt"]),
        "by": approval["answeredBy"] or "-",
        "always": "yes" if approval["always"] else "no",
        "reason": approval["reason"] or "-",
    }
    if not screen.is_terminal:
        print_table(screen, ("APPROVAL", approval["approvalId"]), facts.items())
        return
    # No table, which would cut the input: people should read all of it before they answer.
    put(screen, f"{'APPROVAL':<10}{approval['approvalId']}", "bold")
    for name, value in facts.items():
        put(screen, f"{name:<10}{one_line(value)}")


def answer_approvals(terminal: Terminal, options: Namespace) -> None:
    response = "deny" if options.action == "deny" else "always" if options.always else "approve"
    # All are found before the first is answered, so that a typo changes nothing.
    found = [find_approval(terminal.client, text) for text in options.ids]
    sessions = {row["approvalId"]: row["sessionId"] for row in found}

    def answer(approval_id: str) -> None:
        call = (terminal.client, sessions[approval_id], approval_id, response, options.reason)
        answered = answer_approval(*call)
        if options.as_json:
            answered.pop("approval_id")
            put_json(terminal.screen, answered)
        else:
            put(terminal.screen, f"{approval_id}\t{answered['status']}")

    act_on_each(sessions, answer)
