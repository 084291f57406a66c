"""Finds the session or the approval that a person means."""

from collections.abc import Iterable

from amplifierd.common.program import command
from sessions_app.cli.client import JSON, ApiError, Client

SESSION_PREFIX, APPROVAL_PREFIX = "session_", "approval_"
# How many candidates an error names, and how many a person can choose from.
NAMED, CHOICES = 5, 20


def find_session(client: Client, text: str) -> JSON:
    """Return the session that matches best, by id or name; only for commands that read."""
    found = find_candidates(client, text)
    if not found:
        raise ApiError(
            f"No session has {text!r} in its id or its name. "
            f"`{command('sessions list')}` shows the newest ones."
        )
    if len(found) > 1:
        names = [f" ({row['name']})" if row["name"] else "" for row in found]
        raise _ambiguous(
            text, [row["sessionId"] + name for row, name in zip(found, names, strict=True)]
        )
    return found[0]


def find_candidates(client: Client, text: str) -> list[JSON]:
    """Return the sessions that match, newest first, at most one more than CHOICES."""
    if not text or not text.isprintable():
        return []
    return client.rows("sessions/", [("lookup", text)], CHOICES + 1)


def find_ids(client: Client, texts: Iterable[str]) -> list[str]:
    """Return the ids of the sessions whose ids begin so, each once; fail if one is not found."""
    return list(dict.fromkeys([find_id(client, text) for text in texts]))


def find_id(client: Client, text: str) -> str:
    """Return the id of the session whose id begins so, with or without `session_`."""
    beginning = SESSION_PREFIX + text.removeprefix(SESSION_PREFIX)
    found: list[str] = []
    if text.isprintable():
        rows = client.rows("sessions/", [("id_prefix", beginning)], NAMED + 1)
        found = sorted(row["sessionId"] for row in rows)
    if beginning in found or len(found) == 1:
        return beginning if beginning in found else found[0]
    if found:
        raise _ambiguous(beginning, found)
    raise ApiError(
        f"No session has an id that begins with {beginning!r}. "
        f"`{command('sessions list')}` shows the newest ones."
    )


def _ambiguous(text: str, titles: list[str]) -> ApiError:
    more = ", …" if len(titles) > NAMED else ""
    return ApiError(f"{text!r} could mean {', '.join(titles[:NAMED])}{more}; give more of the id.")


def find_approval(client: Client, text: str) -> JSON:
    """Return the approval whose id begins so, with or without `approval_`."""
    beginning = APPROVAL_PREFIX + text.removeprefix(APPROVAL_PREFIX)
    query = [("id_prefix", beginning)]
    rows = client.rows("approvals/", query, 2) if text.isprintable() else []
    exact = [row for row in rows if row["approvalId"] == beginning]
    if len(rows) == 1 or exact:
        return (exact or rows)[0]
    if rows:
        raise ApiError(f"{text!r} could mean several approvals; give more of the id.")
    raise ApiError(
        f"No approval has an id that begins with {beginning!r}. "
        f"`{command('approvals list')}` shows the pending ones."
    )
