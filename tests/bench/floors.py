"""The floors: what a request and a commit cost on this machine with nothing around them."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

import psutil
import psycopg

from tests.bench.client import Client, checked
from tests.bench.figures import Figures
from tests.bench.load import Call, drive, timed

HELLO = "hello"
HELLO_MODULE = "tests.bench.hello"
HELLO_ALONE = "hello, 1 connection"
INSERT = "INSERT"

TABLE = "CREATE TABLE bench_floor (id bigserial PRIMARY KEY, at timestamptz, body text)"
ROW = "INSERT INTO bench_floor (at, body) VALUES (now(), %s)"
# About as long as the message that is appended.
BODY = "x" * 100
# Seconds that a server gets to stop.
STOP = 5.0


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
            timed(partial(lambda client: checked(client.ask("GET", "/"), 200, HELLO), client))
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


@contextmanager
def serving(module: str) -> Iterator[tuple[int, psutil.Process]]:
    """Run a module that serves an inherited socket, in a process; give its port and process."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        descriptor, port = listener.fileno(), listener.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(descriptor)],
            pass_fds=[descriptor],
            env=dict(os.environ),
            start_new_session=True,
        )
    try:
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Return the processor time that the processes have used so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _insert(connection: psycopg.Connection) -> Call:
    return timed(lambda: connection.execute(ROW, [BODY]))
