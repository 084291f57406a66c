"""Reading the versions of a profile. PostgreSQL adds them; nobody changes one."""

from django.db.models import QuerySet

from profiles_app.exceptions import VersionNotFound
from profiles_app.models import Profile, ProfileVersion


def versions_of(profile: Profile) -> QuerySet[ProfileVersion]:
    """Return the versions of a profile, newest first."""
    return profile.versions.order_by("-number")


def version_of(profile: Profile, number: int) -> ProfileVersion:
    """Return a version by its number; raise VersionNotFound."""
    if version := profile.versions.filter(number=number).select_related("profile").first():
        return version
    raise VersionNotFound(
        f"{profile} has no version {number}. Its newest is {profile.version_number}."
    )


def pair_of(
    profile: Profile, first: int | None, second: int | None
) -> tuple[ProfileVersion, ProfileVersion]:
    """Return two versions to compare: by default the newest, and the one before the second.

    A profile with one version is compared with itself. Raises VersionNotFound.
    """
    second = profile.version_number if second is None else second
    first = max(second - 1, 1) if first is None else first
    return version_of(profile, first), version_of(profile, second)
