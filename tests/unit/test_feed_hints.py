"""Hints on their way: one of a kind and session, in payloads that PostgreSQL takes."""

import pytest

from sessions_app.streaming import notifier
from sessions_app.streaming.notifier import (
    HINTS_LIMIT,
    HINTS_LOST,
    HintBuffer,
    SentHint,
    pack_hints,
    unpack_hints,
)


def updated(session_id: str, **data: object) -> SentHint:
    return SentHint("session_updated", session_id, "", data)


def told(gathering: HintBuffer) -> list[SentHint]:
    return [hint for payload in gathering.take() for hint in unpack_hints(payload)]


def test_a_thousand_changes_of_a_session_are_one_hint_of_the_newest() -> None:
    gathering = HintBuffer()
    for count in range(1000):
        gathering.add(updated("a", messageCount=count))
    assert told(gathering) == [updated("a", messageCount=999)]


def test_what_different_changes_of_a_session_say_is_merged() -> None:
    gathering = HintBuffer()
    gathering.add(updated("a", status="active"))
    gathering.add(updated("a", messageCount=1))
    assert told(gathering) == [updated("a", status="active", messageCount=1)]


def test_hints_keep_the_order_of_the_last_changes() -> None:
    gathering = HintBuffer()
    for kind, run in [("run_started", "1"), ("run_ended", "1"), ("run_started", "2")]:
        gathering.add(SentHint(kind, "a", "", {"runId": run}))
    assert [(hint.kind, hint.data["runId"]) for hint in told(gathering)] == [
        ("run_ended", "1"),
        ("run_started", "2"),
    ]


def test_hints_are_due_a_moment_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    gathering = HintBuffer()
    assert not gathering.is_due()
    gathering.add(updated("a"))
    due = gathering.due
    gathering.add(updated("b"))
    assert gathering.due == due
    assert not gathering.is_due()
    monkeypatch.setattr(notifier.time, "monotonic", lambda: due)
    assert gathering.is_due()


def test_the_first_hints_may_go_along_and_further_ones_a_moment_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gathering = HintBuffer()
    gathering.add(updated("a"))
    assert gathering.may_go_along()
    gathering.take()
    gathering.add(updated("a"))
    assert not gathering.may_go_along()
    due = gathering.due
    monkeypatch.setattr(notifier.time, "monotonic", lambda: due)
    assert gathering.may_go_along()


def test_more_hints_than_are_kept_become_the_word_to_read_the_list() -> None:
    gathering = HintBuffer()
    for number in range(HINTS_LIMIT + 2):
        gathering.add(updated(f"session_{number}"))
    lost, *rest = gathering.take()
    assert lost == HINTS_LOST
    assert [hint.session_id for line in rest for hint in unpack_hints(line)] == ["session_1001"]


def test_what_could_not_be_told_is_told_first_the_next_time() -> None:
    gathering = HintBuffer()
    gathering.add(updated("a"))
    payloads = gathering.take()
    gathering.add(updated("b"))
    gathering.put_back(payloads)
    assert gathering.is_due()
    assert told(gathering) == [updated("a")]
    assert gathering.is_due()
    assert told(gathering) == [updated("b")]
    assert not gathering.is_due()


def test_payloads_are_smaller_than_postgresql_takes_whatever_the_names() -> None:
    hints = [updated(f"session_{number:032x}", name="😀" * 200) for number in range(50)]
    payloads = pack_hints(hints)
    assert max(len(payload.encode()) for payload in payloads) < 8000
    assert [hint for payload in payloads for hint in unpack_hints(payload)] == hints


def test_a_hint_too_large_for_a_payload_says_only_which_session() -> None:
    [payload] = pack_hints([updated("a", name="x" * 9000)])
    assert list(unpack_hints(payload)) == [updated("a")]


@pytest.mark.parametrize(
    "line", ["", "lost", "7", "[]", "{}", '["a", "b", "", 1]', "[1, 2, 3, {}]"]
)
def test_what_is_no_hint_is_passed_over(line: str) -> None:
    good = updated("a", name="line\nbreak\u2028")
    assert list(unpack_hints("\n".join([line, *pack_hints([good])]))) == [good]
