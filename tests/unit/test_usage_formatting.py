"""Tokens and dollars, in words for people."""

import pytest

from sessions_app.usage import counts, dollars, used


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        (0, "US$ 0.0000"),
        (0.0000123, "US$ 0.0000123"),
        (0.0042, "US$ 0.0042"),
        (1.239, "US$ 1.24"),
        (12345.6, "US$ 12,345.60"),
    ],
)
def test_a_cost_has_the_digits_that_tell_something(cost: float, text: str) -> None:
    assert dollars(cost) == text


def test_what_is_not_known_is_left_out() -> None:
    assert counts({"input_tokens": 1200, "output_tokens": 0, "cached_tokens": None}) == {
        "in": "1,200"
    }
    assert used({}) == ""


def test_a_line_has_tokens_requests_and_cost() -> None:
    usage = {"input_tokens": 1200, "output_tokens": 80, "requests": 2, "cost": 0.5}
    assert used(usage) == "tokens 1,200 in, 80 out; requests 2; US$ 0.5000"


def test_what_is_no_number_is_not_shown() -> None:
    assert used({"input_tokens": "<b>", "cost": True}) == ""
