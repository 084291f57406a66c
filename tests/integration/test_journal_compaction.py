"""A compacted journal says the same: pieces are joined, numbers stay, and no cursor misleads."""

import asyncio
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now
from pytest_django import Settings

from amplifierd.common.callers import Everyone
from sessions_app.exceptions import JournalWasCompacted, SessionNotEnded
from sessions_app.models import Event, Message, Session
from sessions_app.models.triggers import COMPACT_SETTING
from sessions_app.services import attempts, clone_fork, journal_compaction, runs, sessions
from sessions_app.services.journal_compaction import Compacted, compact
from sessions_app.streaming.hub import Hub
from sessions_app.streaming.journal_reader import decode
from tests.conftest import Api, claimed, say, session_in, write_events
from tests.integration.test_invariants import findings

pytestmark = pytest.mark.django_db(transaction=True)

TOOL = {"hook_data": {"tool_call_id": "call_1", "tool_name": "list", "tool_input": {}}}


def think(attempt: Any, *pieces: str) -> None:
    data = ({"hook_data": {"delta": piece}, "runId": attempt.run_id} for piece in pieces)
    write_events(attempt, *(("hook:thinking:delta", each) for each in data))


def answer(session: Session, *pieces: str) -> None:
    """Have a run think, call a tool, and answer in pieces."""
    attempt = claimed(session)
    think(attempt, "let ", "me ", "see")
    say(attempt, "I ", "look: ")
    write_events(attempt, ("hook:tool:pre", TOOL), ("hook:tool:post", TOOL))
    say(attempt, *pieces)
    attempts.succeed(attempt, "I look: " + "".join(pieces), {})


@pytest.fixture
def ended(catalogue: None) -> Session:
    """An ended session with an interrupted attempt and two answers."""
    session = session_in("active")
    attempt = claimed(session)
    say(attempt, "vo", "id")
    attempts.release(attempt)
    again = attempts.claim(session.id, "worker")
    assert again
    say(again, "first ", "answer")
    attempts.succeed(again, "first answer", {})
    answer(session, *(f"ü{number} " for number in range(20)))
    sessions.complete(session.id)
    session.refresh_from_db()
    return session


def read(session: Session) -> list[tuple[int, int, str, Any]]:
    return list(Event.objects.in_session(session.id).values_list("seq", "span", "type", "data"))


def join(events: list[tuple[int, int, str, Any]]) -> list[Any]:
    """Return what a client that puts pieces together has of these events."""
    told: list[Any] = []
    for _, _, type_, data in events:
        text = data.get("content") if type_ == "content" else data.get("hook_data", {}).get("delta")
        if type_ in ("content", "hook:thinking:delta") and told and told[-1][0] == type_:
            told[-1][1] += text
        elif type_ in ("content", "hook:thinking:delta"):
            told.append([type_, text])
        else:
            told.append([type_, data])
    return told


def follow(session_id: str, after: int | None) -> list[tuple[int | None, str, Any]]:
    """Return what a stream sends after a cursor, to the end of the session."""

    async def run() -> list[tuple[int | None, str, Any]]:
        hub = Hub()
        try:
            subscription = await hub.subscribe(session_id, after, 10)
            found = b"".join([frames async for frames in subscription])
            subscription.close()
        finally:
            await hub.close()
        return list(decode(found))

    return asyncio.run(run())


def test_pieces_are_joined_and_everything_else_stays(ended: Session) -> None:
    before, updated = read(ended), ended.updated_at
    done = compact(ended.id)
    after = read(ended)
    assert join(after) == join(before)
    assert [each[1] for each in after if each[1] > 1] == [2, 2, 3, 2, 20]
    assert (done.pieces, done.events, done.sessions) == (29, 5, 1)
    assert sum(each[1] for each in after) == ended.last_event_seq
    kept = {each[0]: each for each in before}
    assert all(kept[each[0]] == each for each in after if each[1] == 1)
    ended.refresh_from_db()
    assert ended.compacted_at and ended.updated_at == updated
    assert findings() == []
    # Once more changes nothing.
    assert compact(ended.id).pieces == 0
    assert read(ended) == after


def test_a_long_answer_is_joined_in_portions_and_windows(
    catalogue: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_in("active")
    answer(session, *("x" * 10 for _ in range(100)))
    sessions.complete(session.id)
    before = join(read(session))
    monkeypatch.setattr(journal_compaction, "WINDOW", 40)
    monkeypatch.setattr(journal_compaction, "EVENT_BYTES", 200)
    compact(session.id)
    lengths = [len(data["content"]) for _, span, _, data in read(session) if span > 5]
    assert len(lengths) > 5 and max(lengths) <= 200
    assert join(read(session)) == before
    assert findings() == []


def test_a_cursor_at_a_boundary_goes_on_and_one_within_is_told(ended: Session, api: Api) -> None:
    compact(ended.id)
    events = read(ended)
    boundaries = {seq for seq, *_ in events} | {0}
    for cursor in range(ended.last_event_seq):
        path = f"/sessions/{ended.id}/events?after={cursor}"
        found = api("get", path)
        if cursor in boundaries:
            rest = [each for each in events if each[0] > cursor]
            assert [each["id"] for each in found.json()] == [each[0] for each in rest]
            assert [each[0] for each in follow(ended.id, cursor)] == [each[0] for each in rest]
        else:
            problem = found.json()
            assert (found.status_code, problem["code"]) == (410, "journal_reset")
            assert problem["after"] == max(each for each in boundaries if each < cursor)
            with pytest.raises(JournalWasCompacted):
                follow(ended.id, cursor)
    assert follow(ended.id, None) == []


def test_the_frame_has_the_last_id_and_the_whole_text(ended: Session) -> None:
    compact(ended.id)
    frames = follow(ended.id, 0)
    assert [(seq, data["content"]) for seq, name, data in frames if name == "content"][-1] == (
        ended.last_event_seq - 2,
        "".join(f"ü{number} " for number in range(20)),
    )


def test_readers_of_the_journal_say_what_they_said(ended: Session, api: Api) -> None:
    def views() -> list[Any]:
        trace = api("get", f"/sessions/{ended.id}/execution-trace").json()
        run = runs.Run.objects.filter(session=ended).latest("created_at")
        return [trace, runs.read_output(run), api("get", f"/sessions/{ended.id}/transcript").json()]

    before = views()
    compact(ended.id)
    assert views() == before
    copy = clone_fork.clone(ended.id, Everyone())
    assert Message.objects.filter(session=copy).count() == ended.message_count
    tree = api("get", f"/sessions/{ended.id}/events?include_children=true").json()
    assert tree["total"] == Event.objects.filter(session=ended).count()
    assert findings() == []


def test_a_session_that_goes_on_is_left_alone(session: Session) -> None:
    answer(session, "one ", "two")
    before = read(session)
    with pytest.raises(SessionNotEnded):
        compact(session.id)
    assert journal_compaction.compact_old(0).sessions == 0
    assert read(session) == before


FORBIDDEN = {
    "no setting": ("", "UPDATE sessions_app_event SET span = 2 WHERE seq = 5"),
    "a gap": ("{}", "DELETE FROM sessions_app_event WHERE seq = 5"),
    "too many": ("{}", "UPDATE sessions_app_event SET span = 3 WHERE type = 'content'"),
    "another event": ("{}", "UPDATE sessions_app_event SET data = '{{}}' WHERE seq = 1"),
    "text changed": ("{}", "UPDATE sessions_app_event SET data = '{{}}' WHERE type = 'content'"),
    "another session": ("other", "DELETE FROM sessions_app_event WHERE seq = 5"),
}


@pytest.mark.parametrize("attempted", FORBIDDEN)
def test_postgresql_allows_nothing_else(ended: Session, attempted: str) -> None:
    before = read(ended)
    setting, statement = FORBIDDEN[attempted]
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config(%s, %s, true)", [COMPACT_SETTING, setting.format(ended.id)]
        )
        cursor.execute(statement.format())
    assert read(ended) == before


def test_old_journals_are_compacted_if_the_policy_says_so(
    ended: Session, settings: Settings
) -> None:
    assert journal_compaction.compact_by_policy().sessions == 0
    settings.COMPACT_AFTER_DAYS = 7
    assert journal_compaction.compact_by_policy().sessions == 0
    Session.objects.filter(pk=ended.pk).update(ended_at=Now() - timedelta(days=8))
    assert journal_compaction.compact_by_policy().sessions == 1
    assert journal_compaction.compact_by_policy().sessions == 0


def test_a_session_that_is_deleted_meanwhile_is_passed_over(
    ended: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete_first(session_id: str) -> Compacted:
        sessions.delete(session_id)
        return compact(session_id)

    monkeypatch.setattr(journal_compaction, "compact", delete_first)
    assert journal_compaction.compact_old(0) == Compacted()


def test_the_command_compacts_and_says_what_it_did(ended: Session) -> None:
    out = StringIO()
    call_command("compact_journals", "--days", "0", stdout=out)
    assert out.getvalue() == "29 events are 5 now, in 1 sessions.\n"
