"""A worker beside the test: it claims what was sent, and does with it what the test says."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connection

from sessions_app.models import Attempt, Run
from sessions_app.services import attempts
from sessions_app.services.attempts import Failure
from tests.conftest import say, write_events
from tests.integration.terminal import DEADLINE

Act = Callable[[Attempt], object]


def until(found: Callable[[], object]) -> None:
    """Wait for something that is about to happen."""
    deadline = time.monotonic() + DEADLINE
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def claim() -> Attempt:
    """Wait for a run to be queued, and claim it."""
    claimed: list[Attempt] = []

    def look() -> bool:
        queued = Run.objects.filter(status="queued").values_list("session_id", flat=True).first()
        attempt = attempts.claim(queued, "worker") if queued else None
        claimed.extend([attempt] if attempt else [])
        return bool(attempt)

    until(look)
    return claimed[0]


@contextmanager
def worker(*acts: Act) -> Iterator[None]:
    """A worker beside the test that does this with one run after the other."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for act in acts:
                act(claim())
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert errors == []


def answer(*pieces: str) -> Act:
    def act(attempt: Attempt) -> None:
        say(attempt, *pieces)
        attempts.succeed(attempt, "".join(pieces), {})

    return act


def break_down(attempt: Attempt) -> None:
    say(attempt, "half")
    attempts.fail(attempt, Failure("missing_key", "Set OPENAI_API_KEY."))


def go_away(attempt: Attempt) -> None:
    say(attempt, "void")
    attempts.release(attempt)


def use_tools(attempt: Attempt) -> None:
    retry = {"attempt": 1, "delay": 2.0, "error": "The provider is busy.", "provider": "mock"}
    call = {"tool_name": "read_file", "tool_call_id": "1"}
    given = {"tool_input": {"path": "a.txt", "lines": 3}}
    other = {"tool_name": "run", "tool_call_id": "2"}
    happened = [
        ("provider_retry", retry),
        ("hook:tool:pre", {"hook_data": {**call, **given}}),
        ("hook:tool:post", {"hook_data": {**call, "tool_response": "one\ntwo"}}),
        ("hook:tool:pre", {"hook_data": other}),
        ("hook:tool:post", {"hook_data": {**other, "error": "it is not allowed"}}),
    ]
    write_events(attempt, *happened)
    answer("done")(attempt)


def think(attempt: Attempt) -> None:
    delta = {"hook_data": {"delta": "hm"}}
    write_events(attempt, ("hook:thinking:delta", delta))
    answer("yes")(attempt)
