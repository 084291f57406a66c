"""Finding a profile by its name."""

import re

from profiles_app.definition import NAME
from profiles_app.exceptions import ProfileNotFound
from profiles_app.models import Profile


def resolve_profile(name: str) -> Profile:
    """Return the profile `collection/name`, or a bare name that only one profile has.

    A bare name means the local profile of that name where there is one. Raises ProfileNotFound.
    """
    if not all(re.fullmatch(NAME, part) for part in name.split("/", 1)):
        raise ProfileNotFound
    found = list(Profile.objects.named(name))
    if not found:
        raise ProfileNotFound(
            f"There is no profile {name!r}. List those that exist with GET /api/v1/profiles/."
        )
    if local := [profile for profile in found if profile.is_local]:
        return local[0]
    if len(found) > 1:
        choices = ", ".join(map(str, found))
        raise ProfileNotFound(f"Several profiles are named {name!r}; give one of {choices}.")
    return found[0]
