"""What PostgreSQL itself holds of the catalogue, whoever writes."""

from typing import Any

import pytest
from django.db import IntegrityError, transaction

from profiles_app.models import AmplifiedDirectory, Profile

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_catalogue")]

DIGEST = "0" * 64
SHIPPED = {"collection": "c", "version": "1", "source": "shipped", "digest": DIGEST}
LOCAL = {"collection": "local", "version": "1", "source": "local"}


@pytest.fixture
def root() -> AmplifiedDirectory:
    return AmplifiedDirectory.objects.create(relative_path=".", default_profile="foundation/base")


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"name": "Upper"}, "profile_name_valid"),
        ({"name": ""}, "profile_name_valid"),
        ({"name": "line\n"}, "profile_name_valid"),
        ({"collection": "a b"}, "profile_name_valid"),
        ({"source": "elsewhere"}, "profile_source_known"),
        ({"collection": "local"}, "profile_local_iff_in_local"),
        ({"source": "local"}, "profile_local_iff_in_local"),
        ({"digest": ""}, "profile_file_has_digest"),
        ({"schema_version": 1}, "profile_schema_known"),
    ],
)
def test_a_wrong_profile_is_refused(change: dict[str, Any], constraint: str) -> None:
    with pytest.raises(IntegrityError, match=constraint):
        Profile.objects.create(**{"name": "p", **SHIPPED, **change})


def test_a_name_stands_once_in_its_collection() -> None:
    Profile.objects.create(name="p", **SHIPPED)
    Profile.objects.create(name="p", **SHIPPED | {"collection": "d"})
    with pytest.raises(IntegrityError, match="profile_unique"):
        Profile.objects.create(name="p", **SHIPPED)


def test_at_most_one_profile_is_active() -> None:
    Profile.objects.create(name="a", is_active=True, **LOCAL)
    Profile.objects.create(name="b", is_active=False, **LOCAL)
    with pytest.raises(IntegrityError, match="profile_one_active"):
        Profile.objects.create(name="c", is_active=True, **LOCAL)


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a/.", "a\\b"])
def test_a_path_that_is_not_canonical_is_refused(path: str) -> None:
    with pytest.raises(IntegrityError, match="directory_path_canonical"):
        AmplifiedDirectory.objects.create(relative_path=path)


@pytest.mark.parametrize("path", ["a", "a/b", ".hidden", "a..b/c", "...", "a b/ü"])
def test_a_canonical_path_is_taken(path: str) -> None:
    AmplifiedDirectory.objects.create(relative_path=path)
    assert AmplifiedDirectory.objects.filter(relative_path=path).exists()


def test_the_root_cannot_be_removed(root: AmplifiedDirectory) -> None:
    with pytest.raises(IntegrityError, match="root directory"), transaction.atomic():
        root.delete()
    assert AmplifiedDirectory.objects.at(".")


def test_the_root_cannot_be_renamed(root: AmplifiedDirectory) -> None:
    with pytest.raises(IntegrityError, match="root directory"):
        AmplifiedDirectory.objects.update(relative_path="a")


def test_the_root_always_has_a_default_profile(root: AmplifiedDirectory) -> None:
    with pytest.raises(IntegrityError, match="directory_root_has_profile"):
        AmplifiedDirectory.objects.update(default_profile="")


def test_other_directories_can_be_removed_and_renamed(root: AmplifiedDirectory) -> None:
    directory = AmplifiedDirectory.objects.create(relative_path="a")
    directory.relative_path = "b"
    directory.save()
    directory.delete()
    assert AmplifiedDirectory.objects.get() == root
