"""What a run under amplifier-core has used, by what its providers tell."""

from collections import Counter
from typing import Any

# The daemon's names, and the kernel's.
NAMES = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cached_tokens": "cache_read_tokens",
    "reasoning_tokens": "reasoning_tokens",
}


class Tally:
    """Adds up what `llm:response` tells: once for each call of a provider."""

    def __init__(self, before: dict[str, Any]) -> None:
        self.model = ""
        self._total: Counter[str] = Counter(before)

    @property
    def usage(self) -> dict[str, Any]:
        """Return all that the run has used, as `Outcome` has it."""
        return {**dict.fromkeys((*NAMES, "requests"), 0), **self._total}

    def add(self, response: dict[str, Any]) -> None:
        """Add a call of a provider; one that failed has used nothing that is known."""
        usage = response.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        self.model = str(response.get("model") or self.model)
        self._total["requests"] += 1
        for ours, theirs in NAMES.items():
            self._total[ours] += int(usage.get(theirs) or 0)
        if usage.get("cost_usd"):
            # The kernel tells it as text.
            self._total["cost"] += float(usage["cost_usd"])
