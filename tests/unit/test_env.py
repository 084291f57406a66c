"""Settings from the environment: the database's."""

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from amplifierd.common import program
from amplifierd.env import CONNECT_SECONDS_EACH, VIGILANCE, database

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


SEVERAL = "postgresql://me:secret@one.example:5432,two.example:5433/mine"


def test_of_several_hosts_the_one_that_takes_writes_is_used() -> None:
    found = database(SEVERAL, pool_size=3)
    assert (found["HOST"], found["PORT"]) == ("one.example,two.example", "5432,5433")
    assert found["OPTIONS"]["target_session_attrs"] == "read-write"
    assert found["OPTIONS"]["connect_timeout"] == CONNECT_SECONDS_EACH
    assert "target_session_attrs" not in options(URL)
    assert options(f"{SEVERAL}?target_session_attrs=any")["target_session_attrs"] == "any"


def test_a_proxy_that_pools_transactions_gets_no_options() -> None:
    found = database(URL, pool_size=3, direct="postgresql://me@other.example/mine")
    assert "options" not in found["OPTIONS"]
    assert found["DISABLE_SERVER_SIDE_CURSORS"]
    assert found["DIRECT"]["HOST"] == "other.example"
    assert "tcp_keepalives_idle=" in found["DIRECT"]["OPTIONS"]["options"]


@pytest.mark.parametrize("name", ["DATABASE_URL", "AMPLIFIERD_LISTEN_URL"])
def test_a_url_that_cannot_be_read_is_refused_without_its_password(name: str) -> None:
    url = "postgresql://me:secret@[::1/mine"
    with pytest.raises(ImproperlyConfigured, match=f"{name} cannot be read") as caught:
        database(url, pool_size=3, name=name)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("is_checkout", "text"), [(True, "manage.py"), (False, "amplifierd")])
def test_messages_say_what_to_type_here(
    monkeypatch: pytest.MonkeyPatch, is_checkout: bool, text: str
) -> None:
    monkeypatch.setattr(program, "IS_CHECKOUT", is_checkout)
    assert program.command("migrate") == f"{text} migrate"
