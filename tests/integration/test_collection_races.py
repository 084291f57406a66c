"""Collections that several processes change at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from django.db import connection

from profiles_app.exceptions import CollectionExists, ProfilesError
from profiles_app.models import Collection, Profile
from profiles_app.services import collections, collections_sync
from profiles_app.services.collections import load_shipped
from tests.harness.repositories import profile, write

pytestmark = pytest.mark.django_db(transaction=True)
WRITERS = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    load_shipped()
    return write(tmp_path / "mine", {"profiles/one.md": profile("one")})


def at_once(act: Callable[[], Any]) -> list[Any]:
    """Return what came of the same act on several connections, or the refusals."""
    barrier = Barrier(WRITERS)

    def acted(_: int) -> Any:
        try:
            barrier.wait(timeout=30)
            return act()
        except ProfilesError as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(acted, range(WRITERS)))


def test_of_many_that_add_a_collection_one_succeeds(folder: Path) -> None:
    answers = at_once(lambda: collections.add("mine", str(folder)))
    assert sum(isinstance(answer, CollectionExists) for answer in answers) == WRITERS - 1
    assert Profile.objects.filter(collection="mine").count() == 1


def test_many_syncs_at_once_take_a_change_over_once(folder: Path) -> None:
    collections.add("mine", str(folder))
    write(folder, {"profiles/one.md": profile("one", body="More.")})
    answers = at_once(lambda: collections_sync.sync_all(["mine"])[0])
    assert {answer.status for answer in answers} <= {"synced", "unchanged"}
    changed = Profile.objects.get(collection="mine")
    assert (changed.instruction, changed.version_number) == ("More.", 2)


def test_a_collection_that_is_removed_while_it_is_synced_is_gone(folder: Path) -> None:
    collections.add("mine", str(folder))
    seen = Collection.objects.get(name="mine")
    reading = collections_sync.read_collection(seen)
    collections.remove("mine")
    assert "removed meanwhile" in collections_sync.store_reading(seen, reading).error
    assert not Profile.objects.filter(collection="mine").exists()


def test_what_was_read_before_another_sync_does_not_undo_it(folder: Path) -> None:
    collections.add("mine", str(folder))
    seen = Collection.objects.get(name="mine")
    old = collections_sync.read_collection(seen)
    write(folder, {"profiles/one.md": profile("one", body="More.")})
    collections_sync.sync_all(["mine"])
    assert collections_sync.store_reading(seen, old).status == "failed"
    assert Profile.objects.get(collection="mine").instruction == "More."
    assert Collection.objects.get(name="mine").last_error == ""
