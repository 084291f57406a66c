"""Steps: what of the exchange with a model is kept in the middle of a run."""

from collections.abc import Sequence
from typing import Any

from sessions_app.models import Session, Step


def add(session: Session, run_id: str, first: int, steps: Sequence[dict[str, Any]]) -> None:
    """Keep steps, numbered from `first`, under the session's lock; those that are there stay."""
    rows = [
        Step(run_id=run_id, number=number, data=data, event_seq=session.last_event_seq)
        for number, data in enumerate(steps, first)
    ]
    Step.objects.bulk_create(rows, ignore_conflicts=True)
