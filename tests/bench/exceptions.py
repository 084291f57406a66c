"""What can go wrong with a measurement."""


class BenchError(Exception):
    """Nothing was measured; the message says why and what to look at."""
