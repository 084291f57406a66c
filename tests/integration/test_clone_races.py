"""Copying and removing sessions while others are at them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection, transaction
from django.utils import timezone

from amplifierd.common.callers import Everyone
from sessions_app import invariants
from sessions_app.exceptions import SessionNotFound
from sessions_app.models import Event, Message, Session
from sessions_app.services import attempts, checkpoints, clone_fork, messages, runs, sessions
from sessions_app.worker.turns import read_turn
from tests.conftest import Api, claimed, say, started
from tests.harness.racing import race

pytestmark = pytest.mark.django_db(transaction=True)
Make = Callable[..., Session]


def findings() -> list[str]:
    with invariants.snapshot(30) as cursor:
        return [str(f) for check in invariants.CHECKS for f in invariants.broken(cursor, check, 9)]


@contextmanager
def elsewhere(call: Callable[[], object]) -> Iterator[None]:
    """Have something done on a connection of its own; wait for its end at the end."""

    def run() -> None:
        try:
            call()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join(30)
    assert not thread.is_alive()


def talking(make: Make, lines: int, **options: object) -> Session:
    session = make("active", **options)
    for number in range(lines):
        messages.add(session.id, f"line {number}")
    return session


def test_a_session_that_is_copied_goes_on(make: Make) -> None:
    session = talking(make, 2)
    with transaction.atomic():
        copy = clone_fork.clone(session.id, Everyone())
        with elsewhere(lambda: messages.add(session.id, "meanwhile")):
            pass
    assert Message.objects.filter(session=copy).count() == 2
    assert Message.objects.filter(session=session).count() == 3


def test_the_parent_of_a_session_that_is_forked_cannot_go_before_the_fork_is_there(
    make: Make,
) -> None:
    parent = make("active")
    child = talking(make, 1, parent_session_id=parent.id)
    with elsewhere(lambda: sessions.delete(parent.id)), transaction.atomic():
        copy = clone_fork.fork(child.id)
    copy.refresh_from_db()
    assert copy.parent_id is None
    assert findings() == []


def test_copies_appends_and_deletions_at_once_lose_and_mix_nothing(make: Make) -> None:
    for _ in range(10):
        root = talking(make, 5)
        child = talking(make, 5, parent_session_id=root.id)
        leaf = talking(make, 5, parent_session_id=child.id)
        calls: list[Callable[[], object]] = [
            lambda root=root: clone_fork.clone(root.id, Everyone()),
            lambda child=child: clone_fork.clone(child.id, Everyone()),
            lambda leaf=leaf: clone_fork.fork(leaf.id, 3),
            lambda root=root: clone_fork.clone(root.id, Everyone()),
            lambda root=root: [messages.add(root.id, "more") for _ in range(5)],
            lambda leaf=leaf: sessions.delete(leaf.id),
            lambda child=child: sessions.delete(child.id),
        ]
        results = race(calls)
        errors = [result for result in results if isinstance(result, Exception)]
        assert all(isinstance(error, SessionNotFound) for error in errors), errors
    assert findings() == []


def test_a_copy_has_a_transcript_from_its_beginning(make: Make) -> None:
    session = make("active")

    def talk() -> None:
        for number in range(40):
            messages.add(session.id, str(number))

    def copy() -> list[Session]:
        return [clone_fork.clone(session.id, Everyone()) for _ in range(5)]

    _, *made = race([talk, copy, copy])
    for each in [*made[0], *made[1]]:
        found = Message.objects.in_session(each.id).values_list("content", flat=True)
        assert list(found) == [str(number) for number in range(each.message_count)]
        assert Event.objects.filter(session=each).count() == each.message_count
    assert findings() == []


def test_two_cleanups_at_once_remove_each_session_once(make: Make) -> None:
    ids = [make("completed").id for _ in range(20)]
    long_ago = timezone.now() - timedelta(days=40)
    Session.objects.filter(pk__in=ids).update(created_at=long_ago, ended_at=long_ago)
    counts = race([lambda: sessions.remove(sessions.find_removable(Everyone()))] * 3)
    assert sum(counts) == 20
    assert not Session.objects.exists()


def test_a_cleanup_does_not_wait_for_a_copy(make: Make) -> None:
    session = make("completed")
    long_ago = timezone.now() - timedelta(days=40)
    Session.objects.filter(pk=session.id).update(created_at=long_ago, ended_at=long_ago)
    removed: list[int] = []
    with transaction.atomic():
        clone_fork.clone(session.id, Everyone())
        with elsewhere(
            lambda: removed.append(sessions.remove(sessions.find_removable(Everyone())))
        ):
            pass
    assert removed == [0]
    assert sessions.remove(sessions.find_removable(Everyone())) == 1


def test_a_key_makes_one_cleanup_of_two(make: Make, api: Api) -> None:
    session = make("completed")
    Session.objects.filter(pk=session.id).update(created_at=timezone.now() - timedelta(days=40))
    path, body, key = "/sessions/cleanup", {"older_than_days": 0}, {"Idempotency-Key": "tidy"}
    first, second = (api("post", path, body, **key) for _ in range(2))
    assert first.json() == second.json()
    assert (second["Idempotent-Replayed"], second.json()["removed_count"]) == ("true", 1)


def with_tools(session: Session, content: str = "Look.") -> None:
    """Have a message answered by a run that has called a tool."""
    attempt = claimed(session, content)
    call = {"type": "tool_call", "id": "c1", "name": "look", "arguments": '{"at": "/srv"}'}
    answer = {"role": "assistant", "parts": [call]}
    result = {"id": "c1", "name": "look", "content": "It is there.", "error": False}
    checkpoints.keep(attempt, 1, [answer, {"role": "tool", "results": [result]}], {})
    say(attempt, "Done.")
    attempts.succeed(attempt, "Done.", {}, [], 3)


def told(session: Session) -> list[list[str]]:
    """What a model would be told of tools, by the messages before the next one."""
    runs.send(session.id, "And now?")
    attempt = attempts.claim(session.id, "worker-1")
    assert attempt is not None
    history = read_turn(attempt).history
    return [[step["role"] for step in each.checkpoints] for each in history if each.role == "user"]


@pytest.mark.parametrize(
    "make_copy",
    [partial(clone_fork.clone, sees=Everyone()), clone_fork.fork],
    ids=["clone", "fork"],
)
def test_a_model_is_told_in_a_copy_what_was_done_with_tools(
    session: Session, make_copy: Callable[..., Session]
) -> None:
    with_tools(session)
    copy = started(make_copy(session.id).id)
    again = started(make_copy(copy.id).id)
    assert told(copy) == told(again) == [["assistant", "tool"]]
    assert findings() == []


def test_a_fork_before_an_answer_knows_nothing_of_it(session: Session) -> None:
    with_tools(session)
    assert told(started(clone_fork.fork(session.id, 1).id)) == [[]]


def test_without_the_original_the_text_is_left(session: Session) -> None:
    with_tools(session)
    copy = started(clone_fork.clone(session.id, Everyone()).id)
    sessions.delete(session.id)
    assert told(copy) == [[]]
    assert copy.messages.get(role="assistant").content == "Done."
