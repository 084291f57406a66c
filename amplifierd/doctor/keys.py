"""The variables that profiles name: whether they are set, never what they are."""

import os
from collections import defaultdict
from collections.abc import Iterator

from amplifierd.doctor.findings import Finding, error, ok, warning
from profiles_app.models import Profile
from sessions_app.engine.registry import find_variables as named

# Profiles that are named; of more only the number.
SHOWN = 3


def variables() -> Iterator[Finding]:
    """Look which of the variables that providers need are not set here."""
    users: dict[str, list[Profile]] = defaultdict(list)
    for profile in Profile.objects.order_by("-is_active", "collection", "name"):
        for name in sorted(named(profile.definition["providers"])):
            users[name].append(profile)
    missing = [name for name in sorted(users) if not os.environ.get(name)]
    for name in missing:
        level = error if is_silent(users[name][0]) else warning
        says = f"{name} is not set; needed by {_names(users[name])}"
        todo = f"Put {name}=… into the environment of the workers or into .env, and restart."
        yield level("keys", says, todo)
    if not missing:
        yield ok("keys", f"{', '.join(sorted(users))} set" if users else "no profile needs any")


def is_silent(profile: Profile) -> bool:
    """Tell whether the active profile is meant, and none of its providers has what it needs."""
    needs = (named([provider]) for provider in profile.definition["providers"])
    return profile.is_active and not any(all(map(os.environ.get, names)) for names in needs)


def _names(profiles: list[Profile]) -> str:
    more = f" and {len(profiles) - SHOWN} more" if len(profiles) > SHOWN else ""
    return ", ".join(map(str, profiles[:SHOWN])) + more
