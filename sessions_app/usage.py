"""What was used: tokens and dollars, summed up, and in words for people."""

from collections.abc import Mapping
from typing import Any

# Key of a usage → what stands behind its number, in the order in which people read it.
WORDS = {
    "input_tokens": "in",
    "output_tokens": "out",
    "cached_tokens": "cached",
    "reasoning_tokens": "reasoning",
    "requests": "requests",
}


def total(*usages: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sums of all numbers, by their keys; a cost is rounded to billionths."""
    keys = dict.fromkeys(key for usage in usages for key in usage)
    sums = {key: sum(number(usage.get(key)) for usage in usages) for key in keys}
    return {key: round(value, 9) if key == "cost" else value for key, value in sums.items()}


def number(value: Any) -> int | float:
    """Return the value if it is a number, else 0."""
    return value if _is_number(value) else 0


def counts(usage: Mapping[str, Any]) -> dict[str, str]:
    """Return what was used by its name, as far as it is known; a cost comes last.

    "in": "1,200", "cost": "US$ 0.0042".
    """
    found = {
        word: f"{usage[key]:,}"
        for key, word in WORDS.items()
        if _is_number(usage.get(key)) and usage[key]
    }
    return {**found, "cost": dollars(usage["cost"])} if _is_number(usage.get("cost")) else found


def used(usage: Mapping[str, Any]) -> str:
    """Return what was used in a line: tokens 1,200 in, 80 out; requests 1; US$ 0.0042."""
    found = counts(usage)
    cost, requests = found.pop("cost", ""), found.pop("requests", "")
    tokens = ", ".join(f"{number} {word}" for word, number in found.items())
    parts = (f"tokens {tokens}" if tokens else "", f"requests {requests}" if requests else "", cost)
    return "; ".join(filter(None, parts))


def dollars(cost: float) -> str:
    """Return a sum in US dollars, a small one to the first digits that tell something."""
    if cost >= 1:
        return f"US$ {cost:,.2f}"
    return f"US$ {cost:.4f}" if cost >= 0.001 or not cost else f"US$ {cost:.7f}".rstrip("0")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
