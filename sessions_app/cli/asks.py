"""Approvals as a person looks at them, and finding the one that a person means."""

import json
from collections.abc import Iterable

from rich.console import Console

from sessions_app.cli import tables
from sessions_app.cli.text import age, moment, one_line, put
from sessions_app.exceptions import ApprovalNotFound
from sessions_app.models import Approval

PREFIX = "approval_"
HEADINGS = ("ID", "STATUS", "AGE", "TOOL", "SESSION", "INPUT")
# Characters of what a tool would be given, in a list.
GLIMPSE = 200


def listed(screen: Console, approvals: Iterable[Approval]) -> None:
    """Print approvals, a line each: in full on a pipe, shortened on a terminal."""
    tables.show(screen, HEADINGS, [_row(approval, screen.is_terminal) for approval in approvals])


def _row(approval: Approval, short: bool) -> tuple[object, ...]:
    return (
        approval.id.removeprefix(PREFIX) if short else approval.id,
        approval.status,
        age(approval.created_at) if short else moment(approval.created_at),
        approval.tool_name,
        approval.session_id,
        _input(approval)[:GLIMPSE] if short else _input(approval),
    )


def show(screen: Console, approval: Approval) -> None:
    """Print an approval."""
    facts = {
        "status": approval.status,
        "tool": approval.tool_name,
        "input": _input(approval),
        "session": approval.session_id,
        "run": approval.run_id,
        "asked": moment(approval.created_at),
        "expires": moment(approval.expires_at),
        "answered": moment(approval.answered_at),
        "by": approval.answered_by or "-",
        "always": "yes" if approval.always else "no",
        "reason": approval.reason or "-",
    }
    if not screen.is_terminal:
        return tables.show(screen, ("APPROVAL", approval.id), facts.items())
    # All that the tool would be given is to be read before it is answered.
    put(screen, f"{'APPROVAL':<10}{approval.id}", "bold")
    for name, value in facts.items():
        put(screen, f"{name:<10}{one_line(value)}")
    return None


def found(given: str) -> Approval:
    """Return the one approval whose id begins like this, with `approval_` or without.

    Raises ApprovalNotFound if there is none, or several.
    """
    beginning = PREFIX + given.removeprefix(PREFIX)
    # PostgreSQL knows no NUL in a text, so no approval has such an id.
    fitting = Approval.objects.filter(id__startswith=beginning).order_by("id")
    rows = [] if "\0" in given else list(fitting[:2])
    if not rows:
        raise ApprovalNotFound(
            f"No approval has an id that begins with {beginning!r}. "
            "`manage.py approvals list` shows those that wait."
        )
    if len(rows) > 1 and rows[0].id != beginning:
        raise ApprovalNotFound(f"{given!r} could mean several approvals; give more of the id.")
    return rows[0]


def _input(approval: Approval) -> str:
    return json.dumps(approval.visible_input, ensure_ascii=False)
