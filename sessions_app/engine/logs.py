"""The log of a process that fills in secrets: it shows none of them."""

import logging

from sessions_app.engine.config import redacted, seen


class RedactingFormatter(logging.Formatter):
    """Writes records with their tracebacks, what the engine has filled in left out."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text."""
        return redacted(super().format(record), seen)
