"""X-Total-Count: exact where a list is short, moments old where it is long."""

from collections.abc import Callable, Iterator

import pytest

from amplifierd.common import pagination
from sessions_app.models import Session
from tests.conftest import Api


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """No total of another test."""
    pagination.forget_totals()
    yield
    pagination.forget_totals()


def total(api: Api, query: str = "") -> str:
    return api("get", f"/sessions/{query}")["X-Total-Count"]


def test_a_short_list_is_counted_each_time(api: Api, make: Callable[..., Session]) -> None:
    assert total(api) == "0"
    make("created")
    assert total(api) == "1"


def test_a_long_lists_total_is_kept_for_a_moment(
    api: Api, make: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pagination, "LONG", 1)
    make("created", metadata={"team": "red"})
    assert (total(api), total(api, "?metadata.team=red")) == ("1", "1")
    make("created", metadata={"team": "blue"})
    assert (total(api), total(api, "?metadata.team=red")) == ("1", "1")
    assert total(api, "?metadata.team=blue") == "1"
    pagination.forget_totals()
    assert (total(api), total(api, "?metadata.team=red")) == ("2", "1")


def test_lists_that_only_begin_alike_have_totals_of_their_own(
    api: Api, make: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pagination, "LONG", 0)
    words = "of the same beginning and of the same length"
    make("created", metadata={"team": f"{words}: red"})
    assert total(api, f"?metadata.team={words}: red") == "1"
    assert total(api, f"?metadata.team={words}: sea") == "0"


def test_a_kept_total_is_counted_anew_when_its_time_is_up(
    api: Api, make: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pagination, "LONG", 1)
    monkeypatch.setattr(pagination, "TOTAL_SECONDS", 0.0)
    make("created")
    assert total(api) == "1"
    make("created")
    assert total(api) == "2"


def test_only_so_many_lists_are_kept(
    api: Api, make: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pagination, "LONG", 0)
    monkeypatch.setattr(pagination, "TOTALS", 3)
    for name in range(10):
        total(api, f"?metadata.team={name}")
    assert len(pagination._totals) <= 3
