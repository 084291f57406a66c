"""What PostgreSQL itself holds of versions, whoever writes."""

from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from profiles_app.models import Profile, ProfileVersion
from profiles_app.models.triggers import CONTENT

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_catalogue")]


@pytest.fixture
def profile() -> Profile:
    return Profile.objects.create(collection="local", name="mine", version="1", source="local")


def numbers(profile: Profile) -> list[int]:
    return [version.number for version in profile.versions.order_by("number")]


def check_now() -> None:
    """Check what is else checked at commit."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")


def test_a_new_profile_has_its_first_version(profile: Profile) -> None:
    version = profile.versions.get()
    assert version.number == 1
    assert all(getattr(version, column) == getattr(profile, column) for column in CONTENT)


@pytest.mark.parametrize(
    "change",
    [
        {"version": "2"},
        {"description": "d"},
        {"instruction": "i"},
        {"digest": "0" * 64},
        {"definition": Profile().definition | {"agents": {"a": "b"}}},
    ],
)
def test_any_change_of_content_makes_a_version(profile: Profile, change: dict[str, Any]) -> None:
    Profile.objects.filter(pk=profile.pk).update(**change)
    profile.refresh_from_db()
    assert profile.version_number == 2
    newest = profile.versions.get(number=2)
    assert all(getattr(newest, column) == getattr(profile, column) for column in CONTENT)


@pytest.mark.parametrize("change", [{"is_active": True}, {"version": "1"}, {"name": "other"}])
def test_a_change_of_anything_else_makes_none(profile: Profile, change: dict[str, Any]) -> None:
    Profile.objects.filter(pk=profile.pk).update(**change)
    assert numbers(profile) == [1]


def test_the_counter_is_postgresqls_own(profile: Profile) -> None:
    Profile.objects.filter(pk=profile.pk).update(version_number=7)
    Profile.objects.filter(pk=profile.pk).update(version_number=9, description="x")
    profile.refresh_from_db()
    assert (profile.version_number, numbers(profile)) == (2, [1, 2])


def test_a_version_is_never_changed(profile: Profile) -> None:
    with pytest.raises(IntegrityError, match="append-only"):
        profile.versions.update(description="x")


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_version_is_added_by_a_change_alone(profile: Profile, number: int) -> None:
    with pytest.raises(IntegrityError):
        ProfileVersion.objects.create(
            profile=profile, number=number, version="1", definition=profile.definition
        )


def test_a_version_is_kept_as_long_as_its_profile(profile: Profile) -> None:
    with pytest.raises(IntegrityError, match="as long as its profile"), transaction.atomic():
        profile.versions.all().delete()
        check_now()
    assert numbers(profile) == [1]


def test_versions_go_with_their_profile(profile: Profile) -> None:
    profile.delete()
    check_now()
    assert not ProfileVersion.objects.exists()
