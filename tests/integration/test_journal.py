"""What the journal takes: whatever is said, PostgreSQL can hold what is written."""

import math
from typing import Any

import pytest

from sessions_app.models import Attempt, Event
from tests.conftest import write_events

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (math.nan, None),
        ([1.5, math.inf, "a\0b"], [1.5, None, "a\ufffdb"]),
        ({"deep": ({"er": -math.inf},)}, {"deep": [{"er": None}]}),
    ],
)
def test_a_number_that_is_none_is_journalled_as_null(
    attempt: Attempt, given: Any, kept: Any
) -> None:
    said = ("hook:tool:pre", {"hook_data": {"tool_input": {"value": given}}})
    seq = write_events(attempt, said)[attempt.run_id]
    event = Event.objects.get(session_id=attempt.session_id, seq=seq)
    assert event.data["hook_data"]["tool_input"] == {"value": kept}
