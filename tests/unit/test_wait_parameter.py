"""How long a request waits for its answer."""

import pytest

from sessions_app.api.queries import Wait, parse_wait


@pytest.mark.parametrize(
    ("parameter", "prefer", "expected"),
    [
        (None, "", None),
        ("5", "", Wait(5)),
        ("0", "", Wait(0)),
        ("0.5", "", Wait(0.5)),
        ("301", "", Wait(300)),
        ("999999999", "", Wait(300)),
        ("", "", Wait(300)),
        ("7", "wait=9", Wait(7)),
        (None, "wait=9", Wait(9, is_preference=True)),
        (None, "respond-async, WAIT = 9;x=1", Wait(9, is_preference=True)),
        (None, 'wait="9"', Wait(9, is_preference=True)),
        (None, "wait=9, wait=4", Wait(9, is_preference=True)),
        (None, "wait=1000", Wait(300, is_preference=True)),
        # What cannot be preferred is no preference (RFC 7240), and what is no number is refused.
        (None, "wait=soon", None),
        (None, "await=9", None),
        ("soon", "", None),
        ("-1", "", None),
        ("nan", "", None),
        ("inf", "", None),
        ("٣", "", None),
    ],
)
def test_the_parameter_counts_before_the_preference_and_both_are_bounded(
    parameter: str | None, prefer: str, expected: Wait | None
) -> None:
    assert parse_wait(parameter, prefer) == expected
