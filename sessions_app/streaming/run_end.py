"""Waiting for the end of a run, without a thread and without a database connection."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from sessions_app.exceptions import SessionsError
from sessions_app.streaming import hub

# Every outcome of a run ends with it.
END = b"\nevent: assistant_message_complete\n"
DATA = b"\ndata: "
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
    if END in frames:
        for frame in frames.split(b"\n\n"):
            if END in frame:
                yield json.loads(frame.partition(DATA)[2])
