"""What runs have used: counts of tokens and requests, and dollars."""

from typing import Any

from django.db.models import F

from sessions_app.models import Run, Session
from sessions_app.usage import number, total

Usage = dict[str, Any]


def account(session: Session, run: Run) -> None:
    """Add what a settled run has used to its session, which the caller has locked."""
    rows = Session.objects.filter(pk=session.pk)
    tokens = sum(number(run.usage.get(key)) for key in ("input_tokens", "output_tokens"))
    rows.update(
        usage=total(rows.values_list("usage", flat=True).get(), run.usage),
        token_usage=F("token_usage") + tokens,
    )


TREE = """
WITH RECURSIVE up AS (
    SELECT id, parent_id, 0 AS height FROM sessions_app_session WHERE id = %(session_id)s
    UNION ALL
    SELECT s.id, s.parent_id, height + 1 FROM sessions_app_session s JOIN up ON s.id = up.parent_id
    WHERE height < 1000
), down AS (
    SELECT id FROM (SELECT id FROM up ORDER BY height DESC LIMIT 1) AS root
    UNION
    SELECT s.id FROM sessions_app_session s JOIN down ON s.parent_id = down.id
)
"""
RUNS_OF_TREE = (
    TREE
    + """
SELECT r.id, r.usage FROM sessions_app_run r JOIN down ON down.id = r.session_id
WHERE r.usage <> '{}'
"""
)


def of_tree(session_id: str, but: str) -> Usage:
    """Return what the runs of the session's whole tree have used, leaving out one of them."""
    found = Run.objects.raw(RUNS_OF_TREE, {"session_id": session_id})
    return total(*(run.usage for run in found if run.id != but))
