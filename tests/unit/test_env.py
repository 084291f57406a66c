"""Settings from the environment: the database's."""

from typing import Any

import pytest

from amplifierd.common import program
from amplifierd.env import VIGILANCE, database

URL = "postgresql://me@db.example/mine"


def options(url: str) -> dict[str, Any]:
    return database(url, pool_size=3)["OPTIONS"]


def test_both_ends_of_a_connection_notice_when_the_other_has_gone() -> None:
    found = options(URL)
    assert {name: found[name] for name in VIGILANCE} == VIGILANCE
    assert found["tcp_user_timeout"] <= 10_000
    assert "tcp_keepalives_idle=" in found["options"]


@pytest.mark.parametrize(
    ("query", "name", "expected"),
    [("connect_timeout=30", "connect_timeout", "30"), ("sslmode=require", "sslmode", "require")],
)
def test_what_the_url_says_wins(query: str, name: str, expected: str) -> None:
    assert options(f"{URL}?{query}")[name] == expected


def test_options_of_the_url_are_kept_and_come_last() -> None:
    given = options(f"{URL}?options=-c%20tcp_keepalives_idle%3D60")["options"]
    assert given.endswith("-c tcp_keepalives_idle=60")
    assert given.count("tcp_keepalives_idle=") == 2


@pytest.mark.parametrize(("is_checkout", "text"), [(True, "manage.py"), (False, "amplifierd")])
def test_messages_say_what_to_type_here(
    monkeypatch: pytest.MonkeyPatch, is_checkout: bool, text: str
) -> None:
    monkeypatch.setattr(program, "IS_CHECKOUT", is_checkout)
    assert program.command("migrate") == f"{text} migrate"
