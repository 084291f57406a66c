"""Copying and removing sessions while others are at them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from sessions_app import invariants
from sessions_app.exceptions import SessionNotFound
from sessions_app.models import Event, Message, Session
from sessions_app.services import cleanup, copies, messages, sessions
from tests.conftest import Api
from tests.integration.racing import race

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
        copy = copies.clone(session.id)
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
        copy = copies.fork(child.id)
    copy.refresh_from_db()
    assert copy.parent_id is None
    assert findings() == []


def test_copies_appends_and_deletions_at_once_lose_and_mix_nothing(make: Make) -> None:
    for _ in range(10):
        root = talking(make, 5)
        child = talking(make, 5, parent_session_id=root.id)
        leaf = talking(make, 5, parent_session_id=child.id)
        calls: list[Callable[[], object]] = [
            lambda root=root: copies.clone(root.id),
            lambda child=child: copies.clone(child.id),
            lambda leaf=leaf: copies.fork(leaf.id, 3),
            lambda root=root: copies.clone(root.id),
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
        return [copies.clone(session.id) for _ in range(5)]

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
    counts = race([lambda: cleanup.remove(cleanup.removable())] * 3)
    assert sum(counts) == 20
    assert not Session.objects.exists()


def test_a_cleanup_does_not_wait_for_a_copy(make: Make) -> None:
    session = make("completed")
    long_ago = timezone.now() - timedelta(days=40)
    Session.objects.filter(pk=session.id).update(created_at=long_ago, ended_at=long_ago)
    removed: list[int] = []
    with transaction.atomic():
        copies.clone(session.id)
        with elsewhere(lambda: removed.append(cleanup.remove(cleanup.removable()))):
            pass
    assert removed == [0]
    assert cleanup.remove(cleanup.removable()) == 1


def test_a_key_makes_one_cleanup_of_two(make: Make, api: Api) -> None:
    session = make("completed")
    Session.objects.filter(pk=session.id).update(created_at=timezone.now() - timedelta(days=40))
    path, body, key = "/sessions/cleanup", {"older_than_days": 0}, {"Idempotency-Key": "tidy"}
    first, second = (api("post", path, body, **key) for _ in range(2))
    assert first.json() == second.json()
    assert (second["Idempotent-Replayed"], second.json()["removed_count"]) == ("true", 1)
