"""What a bell's payload says."""

from sessions_app.streaming.notifier import PAYLOAD_LIMIT, pack, unpack


def test_many_sessions_share_a_payload() -> None:
    assert pack({"session_a": 3, "session_b": 12}) == ["session_a:3,session_b:12"]


def test_payloads_stay_below_the_limit_and_lose_nothing() -> None:
    newest = {f"session_{number:032x}": number for number in range(1, 1000)}
    payloads = pack(newest)
    assert max(map(len, payloads)) <= PAYLOAD_LIMIT < 8000
    assert dict(pair for payload in payloads for pair in unpack(payload)) == newest


def test_nothing_to_notify_is_no_payload() -> None:
    assert pack({}) == []


def test_what_is_no_pair_is_passed_over() -> None:
    assert list(unpack("noise,:3,session_a:x,,session_b:2")) == [("session_b", 2)]
