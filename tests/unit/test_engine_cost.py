"""What a run has cost is told where the model's price is known, and nowhere else."""

import pytest

from tests.harness.protocols import PROTOCOLS
from tests.harness.providers import DONE, HEAD, Answer, choice, chunk, sends
from tests.harness.turns import play

USAGE = {
    "prompt_tokens": 1000,
    "prompt_tokens_details": {"cached_tokens": 400},
    "completion_tokens": 100,
    "total_tokens": 1100,
}


def of_model(name: str) -> Answer:
    """An answer that says which model gave it, and what it used."""
    stop = chunk(choices=[choice({}, "stop")], model=name)
    used = chunk(usage=USAGE, model=name)
    return sends(HEAD + chunk("Yes.", model=name) + stop + used + DONE)


def test_a_known_model_s_tokens_are_priced() -> None:
    played = play(of_model("gpt-4o"), protocol=PROTOCOLS["openai"], default_model="gpt-4o")
    # US$ per million: 2.50 in, 1.25 from the cache, 10 out.
    assert played.usage["cost"] == pytest.approx((600 * 2.5 + 400 * 1.25 + 100 * 10) / 1e6)
    assert played.usage["cached_tokens"] == 400


def test_an_unknown_model_has_no_cost() -> None:
    played = play(of_model("gpt-own"), protocol=PROTOCOLS["openai"], default_model="gpt-own")
    assert "cost" not in played.usage
    assert played.usage["input_tokens"] == 1000
