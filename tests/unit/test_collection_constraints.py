"""What PostgreSQL holds of collections, whoever writes."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from profiles_app.models import Collection, Profile

pytestmark = pytest.mark.usefixtures("catalogue")

FOLDER = {"name": "mine", "kind": "folder", "source": "/a"}


def mine(**fields: Any) -> Collection:
    return Collection.objects.create(**{**FOLDER, **fields})


def one(**fields: Any) -> Profile:
    names = {"collection": "mine", "name": "one", "version": "1", "source": "collection"}
    return Profile.objects.create(**{**names, "digest": "0" * 64, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "Upper"},
        {"name": ""},
        {"kind": "svn"},
        {"kind": "local", "source": ""},
        {"name": "local"},
        {"name": "foundation"},
        {"source": ""},
        {"kind": "shipped"},
        {"commit": "0" * 40},
        {"ref": "main"},
    ],
)
def test_a_wrong_collection_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        mine(**fields)


def test_a_profile_of_a_collection_needs_its_collection() -> None:
    with pytest.raises(IntegrityError, match="needs its collection"), transaction.atomic():
        one()
    mine()
    assert one().pk


def removed() -> None:
    Collection.objects.filter(name="mine").delete()
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def test_a_collection_stays_as_long_as_its_profiles() -> None:
    mine()
    profile = one()
    with pytest.raises(IntegrityError, match="as long as its profiles"), transaction.atomic():
        removed()
    profile.delete()
    removed()
    assert not Collection.objects.filter(name="mine").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda: Collection.objects.filter(name="local").delete(),
        lambda: Collection.objects.filter(name="local").update(kind="shipped"),
        lambda: Collection.objects.filter(name="foundation").update(name="other"),
    ],
)
def test_local_stays_and_names_are_kept(change: Callable[[], object]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        change()
