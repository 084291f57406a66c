"""Measuring the daemon: `python -m tests.bench`."""
