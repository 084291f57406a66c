"""What owners may use: places in turns, and limits of which each is told."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from sessions_app.exceptions import OwnerBusy, OwnerLimitReached
from sessions_app.models import Attempt, OwnerLimits, OwnerUsage, Session
from sessions_app.services import (
    attempts,
    clone_fork,
    journal,
    messages,
    owner_limits,
    runs,
    sessions,
)
from sessions_app.services.journal import Entry
from sessions_app.worker.queue import Queue
from tests.api.callers import Caller
from tests.conftest import MOCK, Api, session_in

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def require_keys(settings: Any) -> None:
    settings.REQUIRE_KEYS = True


def claim(session: Session) -> Attempt | None:
    runs.send(session.id, "hello")
    return attempts.claim(session.id, "worker")


@pytest.fixture
def owned(catalogue: None) -> Callable[[str], Session]:
    """`owned("alice")`: an active session of hers."""
    return lambda owner: session_in("active", owner=owner)


def test_an_owner_has_so_many_runs_at_once_and_another_one_its_own(
    owned: Callable[[str], Session], settings: Any
) -> None:
    settings.OWNER_RUNS = 2
    first = claim(owned("alice"))
    assert first and claim(owned("alice"))
    waiting = owned("alice")
    with pytest.raises(OwnerBusy, match="alice"):
        claim(waiting)
    assert claim(owned("bob"))
    assert attempts.find_work(10) == []
    attempts.succeed(first, "done", {})
    assert attempts.find_work(10) == [(waiting.id, "alice")]
    assert attempts.claim(waiting.id, "worker")


def test_the_queue_takes_owners_in_turns_those_with_the_fewest_runs_first(
    owned: Callable[[str], Session],
) -> None:
    claim(owned("alice"))
    queued = [owned(owner) for owner in ("alice", "alice", "alice", "bob", "bob", "carol")]
    for session in queued:
        runs.send(session.id, "hello")
    owners = [owner for _, owner in attempts.find_work(10)]
    # The second place of each is that of the other's second run.
    assert owners == ["bob", "carol", "alice", "bob", "alice", "alice"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT owner FROM sessions_app_run ORDER BY owner")
        assert cursor.fetchall() == [("alice",), ("bob",), ("carol",)]


def test_an_admin_sets_another_limit_for_one_owner_and_without_keys_there_is_none(
    owned: Callable[[str], Session], settings: Any
) -> None:
    settings.OWNER_RUNS = 1
    OwnerLimits.objects.create(owner="alice", runs=2)
    OwnerLimits.objects.create(owner="bob", runs=0)
    assert [bool(claim(owned(owner))) for owner in ("alice", "alice", "bob", "bob")] == [True] * 4
    with pytest.raises(OwnerBusy):
        claim(owned("alice"))
    claim(owned("carol"))
    with pytest.raises(OwnerBusy):
        claim(owned("carol"))
    settings.REQUIRE_KEYS = False
    assert claim(owned("carol"))


class Places:
    """A queue whose sessions keep their places until they are ended."""

    def __init__(self, places: int, busy: set[str] = frozenset()) -> None:
        self.begun: list[str] = []
        self.busy = set(busy)
        self.ends: dict[str, asyncio.Event] = {}
        self.queue = Queue(self.advance, places)

    async def advance(self, session_id: str) -> bool:
        if session_id[0] in self.busy:
            raise OwnerBusy(session_id[0])
        self.begun.append(session_id)
        end = self.ends[session_id] = asyncio.Event()
        await end.wait()
        return False

    def add(self, *session_ids: str) -> None:
        """Add sessions; the owner is the first letter of each."""
        for session_id in session_ids:
            self.queue.add(session_id, session_id[0])

    async def end(self, session_id: str) -> None:
        self.ends[session_id].set()
        await rest()


async def rest() -> None:
    """Let tasks go on until they wait."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_place_that_becomes_free_is_for_the_owner_with_the_fewest() -> None:
    async def run() -> None:
        places = Places(3)
        places.add(*(f"a{number}" for number in range(500)), "b1", "b2", "c1")
        await rest()
        assert places.begun == ["a0", "a1", "a2"]
        for ended in ("a0", "a1", "b1", "a2"):
            await places.end(ended)
        assert places.begun[3:] == ["b1", "c1", "b2", "a3"]
        await places.queue.drain(0)

    asyncio.run(run())


def test_the_last_places_of_a_worker_are_for_owners_that_have_none() -> None:
    async def run() -> None:
        places = Places(10)
        places.add(*(f"a{number}" for number in range(20)))
        await rest()
        assert len(places.begun) == 9
        places.add("b1", "b2")
        await rest()
        assert places.begun[9:] == ["b1"]
        await places.queue.drain(0)

    asyncio.run(run())


def test_an_owner_that_may_run_no_more_waits_for_its_own_runs_and_no_other_waits() -> None:
    async def run() -> None:
        places = Places(10)
        places.add("a0")
        await rest()
        places.busy = {"a"}
        places.add("a1", "a2", "b1")
        await rest()
        assert places.begun == ["a0", "b1"]
        places.busy = set()
        await places.end("b1")
        assert places.begun == ["a0", "b1"]
        await places.end("a0")
        assert places.begun == ["a0", "b1", "a1", "a2"]
        await places.queue.drain(0)

    asyncio.run(run())


def test_what_an_owner_may_not_is_refused_with_what_to_do(api: Api, settings: Any) -> None:
    settings.OWNER_SESSIONS, settings.OWNER_QUEUED = 2, 1
    alice, bob = Caller(api, "alice"), Caller(api, "bob")
    first, second = (f"/sessions/{alice.session()}" for _ in range(2))

    def refuse(path: str, body: object = None) -> str:
        answer = alice("post", path, body)
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many"), answer.content
        assert int(answer["Retry-After"]) >= 1
        return answer.json()["detail"]

    wanted = {"profile_name": MOCK, "amplified_dir": alice.directory}
    assert "AMPLIFIERD_OWNER_SESSIONS" in refuse("/sessions/", wanted)
    assert "AMPLIFIERD_OWNER_SESSIONS" in refuse(f"{first}/clone")
    assert "AMPLIFIERD_OWNER_SESSIONS" in refuse(f"{first}/fork")
    assert bob.session()
    for path in (first, second):
        alice("post", f"{path}/start")
    message = {"content": "hello"}
    assert alice("post", f"{first}/send-message", message).status_code == 202
    assert "AMPLIFIERD_OWNER_QUEUED" in refuse(f"{second}/send-message", message)
    settings.OWNER_QUEUED, settings.OWNER_BYTES = 0, 500
    assert alice("post", f"{first}/messages", message).status_code == 201
    assert owner_limits.count() == 2
    for path in ("messages", "send-message"):
        assert "AMPLIFIERD_OWNER_BYTES" in refuse(f"{first}/{path}", message)
    assert alice("delete", second).status_code == 204
    OwnerUsage.objects.all().delete()
    assert alice("post", f"{first}/messages", message).status_code == 201


def test_bytes_are_counted_with_each_append_and_once_in_a_while_for_the_owner(
    owned: Callable[[str], Session],
) -> None:
    session, other = owned("alice"), owned("bob")
    before = read_size(session)
    messages.add(session.id, "é" * 1000)
    assert 4000 < read_size(session) - before < 5000
    before = read_size(session)
    journal.append(session.id, [Entry("run_notice", {"a": "x" * 1000}), Entry("run_notice", {})])
    assert 1000 < read_size(session) - before < 1500
    attempt = claim(session)
    assert attempt
    before = read_size(session)
    journal.flush({attempt: [Entry("content", {"content": "x" * 1000}, attempt.run_id)]})
    assert 1000 < read_size(session) - before < 1500
    attempts.succeed(attempt, "x" * 1000, {})
    sessions.complete(session.id)
    assert owner_limits.count() == 2
    usage = OwnerUsage.objects.get(pk="alice")
    assert (usage.sessions, usage.stored_bytes) == (1, read_size(session))
    # Not again so soon; and what has no sessions any more is forgotten.
    assert owner_limits.count() == 0
    sessions.delete(other.id)
    OwnerUsage.objects.update(counted_at="2020-01-01T00:00:00Z")
    assert owner_limits.count() == 1
    assert list(OwnerUsage.objects.values_list("owner", flat=True)) == ["alice"]


def test_answers_that_are_kept_for_retries_count_and_large_ones_are_refused_in_the_end(
    api: Api, settings: Any
) -> None:
    """Each preview of a mount plan with a key stored what nothing limited."""
    alice = Caller(api, "alice")
    instruction = {"agents": {"one": "x" * 50_000}}
    body = {"profile_id": MOCK, "amplified_dir": alice.directory, "settings_overrides": instruction}

    def preview(key: str) -> int:
        answer = alice("post", "/mount-plans/generate", body, **{"Idempotency-Key": key})
        return int(answer.status_code)

    settings.OWNER_BYTES = 60_000
    assert [preview("one"), preview("two")] == [201, 201]
    owner_limits.count()
    assert OwnerUsage.objects.get(pk="alice").stored_bytes > 100_000
    assert preview("three") == 429
    # Its retries are answered, and small answers are kept: they end sessions.
    assert preview("two") == 201
    ended = alice("post", "/sessions/cleanup", {}, **{"Idempotency-Key": "four"})
    assert ended.status_code == 200


def read_size(session: Session) -> int:
    return Session.objects.values_list("stored_bytes", flat=True).get(pk=session.pk)


def test_a_copy_counts_what_it_has_copied(owned: Callable[[str], Session]) -> None:
    session = owned("alice")
    messages.add(session.id, "x" * 1000)
    copy = clone_fork.fork(session.id)
    assert 2000 < read_size(copy) < 3000


def test_a_refused_owner_is_told_by_an_exception(
    owned: Callable[[str], Session], settings: Any
) -> None:
    settings.OWNER_QUEUED = 1
    runs.send(owned("alice").id, "hello")
    with pytest.raises(OwnerLimitReached):
        runs.send(owned("alice").id, "hello")


def test_an_admin_sets_limits_of_an_owner_in_the_console(
    admin_client: Client, owned: Callable[[str], Session]
) -> None:
    owned("alice")
    owner_limits.count()
    page = "/admin/sessions_app/ownerlimits/"
    admin_client.post(f"{page}add/", {"owner": "alice", "runs": "3", "streams": "0"})
    limits = OwnerLimits.objects.get()
    assert (limits.owner, limits.runs, limits.queued, limits.streams) == ("alice", 3, None, 0)
    listed = admin_client.get(page).content.decode()
    for shown in ("alice", "no limit", "as set for all", "1 sessions"):
        assert shown in listed
    admin_client.post(f"{page}alice/change/", {"owner": "bob", "runs": "4"})
    assert list(OwnerLimits.objects.values_list("owner", "runs")) == [("alice", 4)]
