"""Which profile a name means."""

import pytest

from profiles_app.exceptions import ProfileNotFound
from profiles_app.models import Profile
from profiles_app.services.profiles import resolve_profile

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_catalogue")]


def profile(full_name: str) -> Profile:
    collection, name = full_name.split("/")
    source, digest = ("local", "") if collection == "local" else ("shipped", "0" * 64)
    return Profile.objects.create(
        collection=collection, name=name, version="1", source=source, digest=digest
    )


def test_a_full_name_means_one_profile() -> None:
    base = profile("foundation/base")
    profile("other/base")
    assert resolve_profile("foundation/base") == base


def test_a_bare_name_that_only_one_profile_has_means_that_one() -> None:
    base = profile("foundation/base")
    assert resolve_profile("base") == base


def test_a_bare_name_means_the_local_profile_first() -> None:
    profile("foundation/base")
    mine = profile("local/base")
    profile("other/base")
    assert resolve_profile("base") == mine


def test_an_ambiguous_name_is_refused_with_the_choices() -> None:
    profile("foundation/base")
    profile("other/base")
    with pytest.raises(ProfileNotFound, match="give one of foundation/base, other/base"):
        resolve_profile("base")


@pytest.mark.parametrize(
    "name", ["missing", "foundation/missing", "", "/", "base/", "/base", "a/b/c", "a\0b", "\ud800"]
)
def test_an_unknown_name_is_refused(name: str) -> None:
    profile("foundation/base")
    with pytest.raises(ProfileNotFound):
        resolve_profile(name)
