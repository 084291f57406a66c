"""How long it takes from sending a message to the first piece of its answer in the stream."""

import time
from collections.abc import Iterator
from contextlib import closing

from tests.bench.client import Client
from tests.bench.exceptions import BenchError
from tests.bench.figures import Figures
from tests.bench.load import Call, drive
from tests.bench.operations import SESSIONS
from tests.bench.throwaway import Daemon

NAME = "first content"
# Seconds between an answer's end and the next message: at once, the message would find the
# worker's job for this session still there, which a person's next message does not.
PAUSE = 0.05


def measure_first_content(daemon: Daemon, session_id: str, seconds: float) -> Figures:
    """Return the figures of one client that sends a message, and the next after its answer."""
    path = f"{SESSIONS}{session_id}"
    with daemon.client() as sender, closing(daemon.stream(f"{path}/stream")) as frames:
        wait_for("connected", frames)
        call = exchange(sender, f"{path}/send-message", frames)
        # The worker loads its engine when the first message comes.
        call()
        return Figures.of(NAME, drive([call], seconds))


def exchange(sender: Client, path: str, frames: Iterator[tuple[str, bytes]]) -> Call:
    """Return the call that sends a message and returns the seconds to its first content."""

    def one_exchange() -> float:
        """Send a message and read its answer."""
        time.sleep(PAUSE)
        started = time.perf_counter()
        sender.send("POST", path, {"content": "hello"}, 202)
        wait_for("content", frames)
        taken = time.perf_counter() - started
        wait_for("assistant_message_complete", frames)
        return taken

    return one_exchange


def wait_for(name: str, frames: Iterator[tuple[str, bytes]]) -> bytes:
    """Return the data of the next frame of that name; raise BenchError where a run fails first."""
    for event, data in frames:
        if event == name:
            return data
        if event == "execution_error":
            raise BenchError(f"The run failed: {data.decode()}")
    raise BenchError(f"The stream ended before {name}.")
