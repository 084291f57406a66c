"""Many callers that change profiles at the same moment."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from profiles_app.exceptions import ProfileActive, ProfileExists, ProfileNotFound, StaleVersion
from profiles_app.models import Profile, ProfileVersion
from profiles_app.services import profiles
from profiles_app.services.collections import load_shipped
from tests.harness.racing import race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def mine() -> Profile:
    load_shipped()
    return profiles.create("mine")


def edit(text: str, **options: Any) -> Callable[[], Profile]:
    return lambda: profiles.update("mine", description=text, **options)


def test_no_version_number_is_lost_or_given_twice(mine: Profile) -> None:
    edited = race([edit(f"by {n}") for n in range(16)])
    assert sorted(profile.version_number for profile in edited) == list(range(2, 18))
    versions = ProfileVersion.objects.filter(profile=mine).order_by("number")
    assert [version.number for version in versions] == list(range(1, 18))
    assert {version.description for version in versions[1:]} == {f"by {n}" for n in range(16)}
    mine.refresh_from_db()
    assert mine.description == versions.last().description


def test_of_editors_that_saw_the_same_version_one_wins() -> None:
    results = race([edit(f"by {n}", expected_version=1) for n in range(8)])
    assert sum(isinstance(result, Profile) for result in results) == 1
    assert sum(isinstance(result, StaleVersion) for result in results) == 7


def test_editors_of_different_sections_keep_each_others_change(mine: Profile) -> None:
    names = {"providers": "provider-mock", "tools": "tool-todo", "hooks": "hooks-mine"}
    calls = [
        lambda key=key, name=name: profiles.update(
            "mine", sections={key: [{"module": name, "source": "git+https://host/mine"}]}
        )
        for key, name in names.items()
    ]
    race(calls)
    mine.refresh_from_db()
    assert [len(mine.definition[key]) for key in ("providers", "tools", "hooks")] == [1, 1, 1]


def test_of_callers_that_create_the_same_profile_one_wins() -> None:
    results = race([lambda: profiles.create("yours")] * 8)
    assert sum(isinstance(result, Profile) for result in results) == 1
    assert sum(isinstance(result, ProfileExists) for result in results) == 7


def test_one_profile_is_active_whoever_activates() -> None:
    names = [str(profile) for profile in Profile.objects.all()]
    calls = [
        lambda name=name: (
            Client()
            .post(f"/api/v1/profiles/{name}/activate", content_type="application/json")
            .status_code
        )
        for name in names * 2
    ]
    assert set(race(calls)) == {200}
    assert Profile.objects.filter(is_active=True).count() == 1


def test_a_profile_is_activated_or_deleted() -> None:
    results = race([lambda: profiles.activate("mine"), lambda: profiles.delete("mine")])
    active = Profile.objects.active()
    if active:
        assert isinstance(results[1], ProfileActive)
    else:
        assert isinstance(results[0], ProfileNotFound)
        assert not Profile.objects.filter(name="mine").exists()
