"""The tail: a bounded ring of frames without a gap."""

import asyncio

import pytest

from sessions_app.streaming import subscription as module
from sessions_app.streaming.journal_reader import Page
from sessions_app.streaming.subscription import Tail


def frames(first: int, last: int) -> list[bytes]:
    return [f"frame {seq}".encode() for seq in range(first, last + 1)]


def tail_at(last: int) -> Tail:
    tail = Tail("session_a")
    tail.open(Page(last, "active", False, [], last))
    return tail


def grow(tail: Tail, count: int, ended: bool = False) -> None:
    last = tail.last + count
    tail.take(Page(last, "active", ended, frames(tail.last + 1, last), last))


def test_a_client_gets_what_follows_its_cursor() -> None:
    tail = tail_at(5)
    grow(tail, 3)
    assert tail.after(6) == frames(7, 8)


def test_a_client_that_has_everything_gets_nothing() -> None:
    tail = tail_at(5)
    grow(tail, 3)
    assert tail.after(8) == tail.after(11) == []


def test_a_client_from_before_the_tail_gets_nothing() -> None:
    tail = tail_at(5)
    grow(tail, 3)
    assert tail.after(5) == frames(6, 8)
    assert tail.after(4) == []


def test_only_the_newest_frames_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RING_FRAMES", 4)
    tail = tail_at(0)
    grow(tail, 10)
    assert tail.after(6) == frames(7, 10)
    assert tail.after(5) == []


def test_large_frames_are_kept_up_to_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RING_BYTES", 2 * len(b"frame 1"))
    tail = tail_at(0)
    grow(tail, 5)
    assert tail.after(3) == frames(4, 5)
    assert tail.after(2) == []


def test_the_newest_frame_is_kept_however_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RING_BYTES", 1)
    tail = tail_at(0)
    grow(tail, 2)
    assert tail.after(1) == frames(2, 2)


def test_a_batch_has_a_limit_in_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_FRAMES", 3)
    tail = tail_at(0)
    grow(tail, 10)
    assert tail.after(2) == frames(3, 5)


def test_a_batch_has_a_limit_in_bytes_but_is_never_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 1)
    tail = tail_at(0)
    grow(tail, 10)
    assert tail.after(2) == frames(3, 3)


def test_a_second_look_does_not_move_the_tail() -> None:
    tail = tail_at(5)
    tail.open(Page(9, "active", False, [], 9))
    assert tail.last == 5


def test_the_end_of_the_session_is_where_its_journal_stops() -> None:
    tail = tail_at(5)
    grow(tail, 2)
    assert tail.end is None
    grow(tail, 1, ended=True)
    assert tail.end == 8


def test_every_change_wakes_the_followers() -> None:
    tail = tail_at(0)
    follower = asyncio.Event()
    tail.followers.add(follower)
    grow(tail, 1)
    assert follower.is_set()
    follower.clear()
    tail.take(None)
    assert follower.is_set()
    assert tail.deleted


def test_a_tail_keeps_no_frames_of_a_compacted_journal() -> None:
    tail = tail_at(5)
    # One frame that stands for four events.
    tail.take(Page(9, "completed", True, [b"frame 9"], 9))
    assert tail.is_lost
    assert tail.after(5) == []
