"""X-Total-Count: exact where a list is short, moments old where it is long."""

from collections.abc import Callable, Iterator

import pytest

from sessions_app import totals
from sessions_app.models import Session
from tests.conftest import Api


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """No total of another test."""
    totals.forget()
    yield
    totals.forget()


def total(api: Api, query: str = "") -> str:
    return api("get", f"/sessions/{query}")["X-Total-Count"]


def test_a_short_list_is_counted_each_time(api: Api, make: Callable[..., Session]) -> None:
    assert total(api) == "0"
    make("created")
    assert total(api) == "1"


def test_a_long_lists_total_is_kept_for_a_moment(
    api: Api, make: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(totals, "LONG", 1)
    make("created", metadata={"team": "red"})
    assert (total(api), total(api, "?metadata.team=red")) == ("1", "1")
    make("created", metadata={"team": "blue"})
    assert (total(api), total(api, "?metadata.team=red")) == ("1", "1")
    assert total(api, "?metadata.team=blue") == "1"
    totals.forget()
    assert (total(api), total(api, "?metadata.team=red")) == ("2", "1")


def test_lists_that_only_begin_alike_have_totals_of_their_own(
    api: Api, make: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(totals, "LONG", 0)
    words = "of the same beginning and of the same length"
    make("created", metadata={"team": f"{words}: red"})
    assert total(api, f"?metadata.team={words}: red") == "1"
    assert total(api, f"?metadata.team={words}: sea") == "0"


def test_a_kept_total_is_counted_anew_when_its_time_is_up(
    api: Api, make: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(totals, "LONG", 1)
    monkeypatch.setattr(totals, "KEPT_SECONDS", 0.0)
    make("created")
    assert total(api) == "1"
    make("created")
    assert total(api) == "2"


def test_only_so_many_lists_are_kept(
    api: Api, make: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(totals, "LONG", 0)
    monkeypatch.setattr(totals, "KEPT_LISTS", 3)
    for name in range(10):
        total(api, f"?metadata.team={name}")
    assert len(totals._kept) <= 3
