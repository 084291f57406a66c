"""Waiting for the end of a run, without a thread and without a database connection."""

import contextlib
from collections.abc import Iterator
from typing import Any

from sessions_app.exceptions import SessionsError
from sessions_app.streaming import frame, hub

# Every outcome of a run ends with it.
END = "assistant_message_complete"
# Longer than anybody waits: nothing is to be said meanwhile.
SILENT = 3600.0


async def wait_for_run(session_id: str, run_id: str, after: int) -> None:
    """Return when the run has ended, or when nothing more can be heard of it.

    `after` is the seq of an event of the session from before the end. It is the caller's to ask
    what has become of the run.
    """
    # Too many streams, or no database at the moment: nothing can be heard.
    with contextlib.suppress(SessionsError):
        subscription = await hub.shared().subscribe(session_id, after, SILENT)
        with contextlib.closing(subscription):
            async for frames in subscription:
                if any(data.get("runId") == run_id for data in _ends(frames)):
                    return


def _ends(frames: bytes) -> Iterator[dict[str, Any]]:
    """Yield the data of the events in these frames with which runs end."""
    # Most batches have none: they need not be read.
    if END.encode() in frames:
        for _, name, data in frame.decode(frames):
            if name == END:
                yield data
