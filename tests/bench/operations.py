"""The operations of the REST API that are measured, and the floors that they stand on."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle

import psutil
import psycopg

from tests.bench.client import BenchError, Client, Frames, check_status
from tests.bench.daemon import Daemon, cpu_seconds, serving
from tests.bench.fill import PROFILE
from tests.bench.load import Call, Figures, drive, timed

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
    with opened_calls(operation, daemon, connections) as calls:
        return Figures.of(operation.name, drive(calls, seconds, cpu or daemon.web_cpu))


@contextmanager
def opened_calls(operation: Operation, daemon: Daemon, connections: int) -> Iterator[list[Call]]:
    """Give a call of the operation for each of so many connections."""
    with ExitStack() as stack:
        calls = []
        for number in range(connections):
            client = stack.enter_context(daemon.client())
            # No two connections write to one session, unless there are fewer sessions.
            paths = operation.paths[number::connections] or operation.paths
            calls.append(make_call(operation, client, paths))
        yield calls


def make_call(operation: Operation, client: Client, paths: list[str]) -> Call:
    """Return the call that sends the next request and checks its status."""
    turns = cycle(paths)

    def ask() -> None:
        answer = client.ask(operation.method, next(turns), operation.body)
        check_status(answer, operation.status, operation.name)

    return timed(ask)


def start_session(client: Client, body: Mapping[str, object]) -> str:
    """Create and start a session; return its path."""
    created = client.send("POST", SESSIONS, body, 201).json()
    path = f"{SESSIONS}{created['sessionId']}"
    client.send("POST", f"{path}/start", None, 204)
    return path


HELLO = "hello"
HELLO_MODULE = "tests.bench.hello"
HELLO_ALONE = "hello, 1 connection"
INSERT = "INSERT"

TABLE = "CREATE TABLE bench_floor (id bigserial PRIMARY KEY, at timestamptz, body text)"
ROW = "INSERT INTO bench_floor (at, body) VALUES (now(), %s)"
# Seconds that answers to a message may take.
TALK_PATIENCE = 300.0
# About as long as the message that is appended.
BODY = "x" * 100


def measure_hello(connections: int, seconds: float) -> tuple[Figures, Figures]:
    """Return the figures of a bare hello on so many connections, and on one."""
    with serving(HELLO_MODULE) as hello:
        many = ask_hello(*hello, connections, seconds)
        return many, replace(ask_hello(*hello, 1, seconds), name=HELLO_ALONE)


def ask_hello(port: int, process: psutil.Process, connections: int, seconds: float) -> Figures:
    """Return the figures of a server that says hello."""
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(port)) for _ in range(connections)]
        calls = [
            timed(partial(lambda client: check_status(client.ask("GET", "/"), 200, HELLO), client))
            for client in clients
        ]
        return Figures.of(HELLO, drive(calls, seconds, lambda: cpu_seconds([process])))


def measure_insert(conninfo: str, connections: int, seconds: float) -> Figures:
    """Return the figures of single rows, each committed by itself, in the same database."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(TABLE)
    with ExitStack() as stack:
        calls = []
        for _ in range(connections):
            connection = stack.enter_context(psycopg.connect(conninfo, autocommit=True))
            calls.append(_insert(connection))
        return Figures.of(INSERT, drive(calls, seconds))


def _insert(connection: psycopg.Connection) -> Call:
    return timed(lambda: connection.execute(ROW, [BODY]))


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


@dataclass
class Listener:
    """One session's stream: when the events of each name came, in seconds."""

    path: str
    came: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    frames: Frames = field(default_factory=Frames)

    def take(self, data: bytes) -> None:
        """Note what has come."""
        now = time.perf_counter()
        for event, _ in self.frames.feed(data):
            self.came[event].append(now)


@dataclass
class Talk:
    """Sessions that get a message at the same moment, each with a client of its stream."""

    daemon: Daemon
    listeners: list[Listener]

    def __enter__(self) -> "Talk":
        with ExitStack() as stack:
            self.streams = stack.enter_context(self.daemon.streams())
            self.senders = [stack.enter_context(self.daemon.client()) for _ in self.listeners]
            self.pool = stack.enter_context(ThreadPoolExecutor(len(self.listeners)))
            for listener in self.listeners:
                self.streams.open(f"{listener.path}/stream", listener.take)
            self._wait("connected")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def say(self, message: str) -> list[float]:
        """Send the message to all and read the answers; return the seconds to each first token."""
        for listener in self.listeners:
            listener.came.clear()
        sent = [
            self.pool.submit(self._send, sender, listener, message)
            for sender, listener in zip(self.senders, self.listeners, strict=True)
        ]
        self._wait("assistant_message_complete")
        return [
            listener.came["content"][0] - at.result()
            for listener, at in zip(self.listeners, sent, strict=True)
        ]

    def _send(self, client: Client, listener: Listener, message: str) -> float:
        started = time.perf_counter()
        client.send("POST", f"{listener.path}/send-message", {"content": message}, 202)
        return started

    def _wait(self, event: str) -> None:
        def has_come() -> bool:
            for listener in self.listeners:
                if "execution_error" in listener.came:
                    raise BenchError(f"A run of {listener.path} failed.")
            return all(event in listener.came for listener in self.listeners)

        self.streams.read_until(has_come, TALK_PATIENCE)
