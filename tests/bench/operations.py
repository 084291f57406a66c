"""The operations of the REST API that are measured."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle

from tests.bench.client import Client, checked
from tests.bench.figures import Figures
from tests.bench.fill import PROFILE
from tests.bench.floors import BODY, HELLO, INSERT
from tests.bench.load import Call, drive, timed
from tests.bench.throwaway import Daemon

SESSIONS = "/api/v1/sessions/"
LIST = f"{SESSIONS}?status=active&limit=50"
# Sessions that get a transcript to be read, and its length.
TRANSCRIPTS, TRANSCRIPT_LENGTH = 10, 20


@dataclass(frozen=True)
class Operation:
    """One kind of request, sent to each of its paths in turn."""

    name: str
    # What it could cost at best: a bare request for one that reads, a bare commit for a writer.
    floor: str
    method: str
    paths: list[str]
    status: int = 200
    body: bytes = b""


def operations(sessions: list[str]) -> list[Operation]:
    """Return what is measured over these active sessions, the readers first.

    Writers come last, so that what they add is not in the lists that are read.
    """
    paths = [f"{SESSIONS}{session_id}" for session_id in sessions]
    others = paths[TRANSCRIPTS:] or paths
    message = json.dumps({"content": BODY}).encode()
    creation = json.dumps({"profile_name": PROFILE}).encode()
    return [
        Operation("get", HELLO, "GET", paths),
        Operation("list", HELLO, "GET", [LIST]),
        Operation("transcript", HELLO, "GET", [f"{p}/transcript" for p in paths[:TRANSCRIPTS]]),
        Operation("create", INSERT, "POST", [SESSIONS], 201, creation),
        Operation("append", INSERT, "POST", [f"{p}/messages" for p in others], 201, message),
    ]


def write_transcripts(daemon: Daemon, sessions: list[str]) -> None:
    """Give the first sessions the transcripts that are read."""
    with daemon.client() as client:
        for session_id in sessions[:TRANSCRIPTS]:
            for _ in range(TRANSCRIPT_LENGTH):
                path = f"{SESSIONS}{session_id}/messages"
                client.send("POST", path, {"content": BODY}, 201)


def measure(
    operation: Operation,
    daemon: Daemon,
    connections: int,
    seconds: float,
    cpu: Callable[[], float] | None = None,
) -> Figures:
    """Return the figures of an operation on so many connections at once.

    `cpu` reads the processor time so far; without it, that of the web processes is read.
    """
    with calls_of(operation, daemon, connections) as calls:
        return Figures.of(operation.name, drive(calls, seconds, cpu or daemon.web_cpu))


@contextmanager
def calls_of(operation: Operation, daemon: Daemon, connections: int) -> Iterator[list[Call]]:
    """Give a call of the operation for each of so many connections."""
    with ExitStack() as stack:
        calls = []
        for number in range(connections):
            client = stack.enter_context(daemon.client())
            # No two connections write to one session, unless there are fewer sessions.
            paths = operation.paths[number::connections] or operation.paths
            calls.append(call_of(operation, client, paths))
        yield calls


def call_of(operation: Operation, client: Client, paths: list[str]) -> Call:
    """Return the call that sends the next request and checks its status."""
    turns = cycle(paths)

    def ask() -> None:
        answer = client.ask(operation.method, next(turns), operation.body)
        checked(answer, operation.status, operation.name)

    return timed(ask)
