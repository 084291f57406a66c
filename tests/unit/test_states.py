"""The two tables of transitions."""

import pytest

from sessions_app.states import (
    RUN_TERMINAL,
    RUN_TRANSITIONS,
    SESSION_TERMINAL,
    SESSION_TRANSITIONS,
    RunStatus,
    SessionStatus,
    pairs,
)


def test_every_status_has_a_row_in_its_table() -> None:
    assert set(SESSION_TRANSITIONS) == set(SessionStatus)
    assert set(RUN_TRANSITIONS) == set(RunStatus)


def test_a_session_has_exactly_the_transitions_of_the_contract() -> None:
    assert set(pairs(SESSION_TRANSITIONS)) == {
        ("created", "active"),
        ("active", "completed"),
        ("active", "failed"),
        ("active", "terminated"),
    }


@pytest.mark.parametrize(
    ("terminal", "expected"),
    [
        (SESSION_TERMINAL, {"completed", "failed", "terminated"}),
        (RUN_TERMINAL, {"succeeded", "failed", "cancelled"}),
    ],
)
def test_what_has_no_way_out_is_terminal(terminal: tuple[str, ...], expected: set[str]) -> None:
    assert set(terminal) == expected
