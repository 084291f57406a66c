"""Identifiers."""

import re
from typing import Any
from unittest import mock

import pytest
from django.core.exceptions import ImproperlyConfigured

from amplifierd import env
from amplifierd.common.formats import new_id, new_session_id


def test_a_session_id_is_its_kind_and_32_hex_digits() -> None:
    assert re.fullmatch(r"session_[0-9a-f]{32}", new_session_id())


def test_ids_sort_by_the_millisecond_they_were_made_in() -> None:
    with mock.patch("time.time_ns", side_effect=[n * 1_000_000 for n in range(1, 100)]):
        ids = [new_id("run") for _ in range(99)]
    assert ids == sorted(ids)


def test_ids_of_one_millisecond_differ() -> None:
    with mock.patch("time.time_ns", return_value=1):
        assert len({new_id("run") for _ in range(1000)}) == 1000


def test_id_carries_the_cell_that_made_it(settings: Any) -> None:
    settings.CELL = "0a"
    assert re.fullmatch(r"run_[0-9a-f]{12}0a[0-9a-f]{18}", new_id("run"))
    assert len({new_id("run") for _ in range(1000)}) == 1000


@pytest.mark.parametrize("value", ["1", "0A", "xx", "001"])
def test_cell_is_two_hex_digits(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AMPLIFIERD_CELL", value)
    with pytest.raises(ImproperlyConfigured, match="two hex digits"):
        env.cell("AMPLIFIERD_CELL")
