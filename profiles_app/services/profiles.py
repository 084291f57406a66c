"""Finds, creates, changes, copies, deletes and activates profiles, and reads their versions.

Only profiles of the collection `local` can change. Each change of a profile's content makes a new
version; PostgreSQL adds it. At most one profile is active: clients offer that one first. A new
session without a profile runs with the default profile of its directory, or the nearest parent's.
"""

import json
import re
from typing import Any

from django.db import connection, transaction

from amplifierd.common.redaction import find_secret
from amplifierd.common.statements import find_prepared, read_clock
from profiles_app import definition
from profiles_app.definition import NAME
from profiles_app.exceptions import (
    InvalidDefinition,
    LiteralSecret,
    ProfileActive,
    ProfileExists,
    ProfileNotFound,
    ProfileReadOnly,
    StaleVersion,
    VersionNotFound,
)
from profiles_app.models import Profile, ProfileVersion, Source
from profiles_app.profile_format import require_name
from profiles_app.services.known_modules import require_known

LOCAL = "local"
FIRST_VERSION = "1.0.0"
# Words that have the place of a name in the API's URLs.
RESERVED = ("active", "activate", "compile", "copy", "diff", "versions")
# Bytes of a definition as JSON.
DEFINITION_LIMIT = 256 * 1024

# A profile of a collection, or those of any collection.
NAMED = """
    name = %(name)s::text AND (%(collection)s::text = '' OR collection = %(collection)s::text)
    ORDER BY collection
"""

Definition = dict[str, Any]
# The key of a lock: any number that nothing else in the database uses.
CATALOGUE = 0x70726F66


def lock_catalogue() -> None:
    """Be the only transaction that loads, removes or activates profiles, until it ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [CATALOGUE])


def resolve_profile(name: str) -> Profile:
    """Return the profile `collection/name`, or a bare name that only one profile has.

    A bare name means the local profile of that name if there is one. Raises ProfileNotFound.
    """
    if not all(re.fullmatch(NAME, part) for part in name.split("/", 1)):
        raise ProfileNotFound
    collection, _, bare = name.rpartition("/")
    found = find_prepared(Profile, NAMED, {"collection": collection, "name": bare})
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


def find_version(profile: Profile, number: int) -> ProfileVersion:
    """Return a version by its number; raise VersionNotFound."""
    if version := profile.versions.filter(number=number).select_related("profile").first():
        return version
    raise VersionNotFound(
        f"{profile} has no version {number}. Its newest is {profile.version_number}."
    )


def find_pair(
    profile: Profile, first: int | None, second: int | None
) -> tuple[ProfileVersion, ProfileVersion]:
    """Return two versions to compare: by default the newest, and the one before the second.

    A profile with one version is compared with itself. Raises VersionNotFound.
    """
    second = profile.version_number if second is None else second
    first = max(second - 1, 1) if first is None else first
    return find_version(profile, first), find_version(profile, second)


def create(
    name: str,
    *,
    version: str = FIRST_VERSION,
    description: str = "",
    instruction: str = "",
    sections: Definition | None = None,
    modules: Definition | None = None,
) -> Profile:
    """Create `local/<name>` and return it.

    `sections` are those of a definition, `modules` the session's own (`orchestrator`, `context`).
    Raises InvalidDefinition, also for a module that the daemon does not have, LiteralSecret,
    ProfileExists.
    """
    content = _merge_sections(definition.empty_definition(), sections, modules)
    require_known(content)
    return _create(
        name, version=version, description=description, instruction=instruction, definition=content
    )


def copy(name: str, new_name: str) -> Profile:
    """Copy a profile of any collection to `local/<new_name>` and return the copy.

    Raises ProfileNotFound, ProfileExists, InvalidDefinition, and LiteralSecret for a profile that
    has one.
    """
    original = resolve_profile(name)
    return _create(
        new_name,
        version=original.version,
        description=original.description,
        instruction=original.instruction,
        definition=_check_secrets(original.definition),
    )


def update(
    name: str,
    *,
    expected_version: int | None = None,
    sections: Definition | None = None,
    modules: Definition | None = None,
    **texts: str,
) -> Profile:
    """Change the given parts of a profile and return it, with a new version if anything differs.

    A section replaces the old one; so does a module of the session, and None removes it. `texts`
    are `version`, `description` and `instruction`. `expected_version` is the number that the caller
    has seen. Raises ProfileNotFound, ProfileReadOnly, StaleVersion, LiteralSecret, and
    InvalidDefinition, also for a new module that the daemon does not have.
    """
    with transaction.atomic():
        profile = _lock_local(name)
        if expected_version not in (None, profile.version_number):
            raise StaleVersion(expected_version, profile.version_number)
        changed: dict[str, Any] = dict(texts)
        if sections or modules:
            base, sections = profile.definition, dict(sections or {})
            # Answers list the names of agents and context. A form for mappings turns that into
            # `{"0": "name"}`, and means the text of this name.
            for section in definition.TEXTS.keys() & sections.keys():
                known = base[section]
                sections[section] = dict(
                    (text, known[text]) if name.isdecimal() and text in known else (name, text)
                    for name, text in sections[section].items()
                )
            changed["definition"] = _merge_sections(base, sections, modules)
            require_known(changed["definition"], before=base)
        for field, value in changed.items():
            setattr(profile, field, value)
        # PostgreSQL compares and counts versions: for Python, true and 1 are equal.
        profile.updated_at = read_clock()
        profile.save(update_fields=[*changed, "updated_at"])
        profile.refresh_from_db()
    return profile


def delete(name: str) -> None:
    """Delete a local profile with its versions; sessions keep their mount plans.

    Raises ProfileNotFound, ProfileReadOnly, ProfileActive.
    """
    with transaction.atomic():
        profile = _lock_local(name)
        if profile.is_active:
            raise ProfileActive
        profile.delete()


def validate_content(content: Definition) -> Definition:
    """Return a definition in its full form; raise InvalidDefinition or LiteralSecret."""
    definition.check_storable(content, "definition")
    if len(json.dumps(content, ensure_ascii=False).encode()) > DEFINITION_LIMIT:
        limit = DEFINITION_LIMIT // 1024
        raise InvalidDefinition(f"The definition is larger than {limit} KB; shorten it.")
    return _check_secrets(definition.validate_definition(content))


def _create(name: str, **content: Any) -> Profile:
    if require_name(name, "name") in RESERVED:
        raise InvalidDefinition(f"name: {name!r} has a meaning in URLs; choose another.")
    profile, is_new = Profile.objects.get_or_create(
        collection=LOCAL, name=name, defaults={"source": Source.LOCAL, **content}
    )
    if not is_new:
        raise ProfileExists(
            f"There is a profile {profile} already. Change it with PATCH, or choose another name."
        )
    return profile


def _lock_local(name: str) -> Profile:
    """Return the profile, locked; raise ProfileReadOnly if it cannot change."""
    found = resolve_profile(name)
    if not found.is_local:
        raise ProfileReadOnly(
            f"{found} comes from a file and cannot change here. Copy it with POST "
            f"/api/v1/profiles/{found}/copy, and change the copy."
        )
    profile = Profile.objects.select_for_update().filter(pk=found.pk).first()
    if profile is None:
        raise ProfileNotFound
    return profile


def _merge_sections(
    base: Definition, sections: Definition | None, modules: Definition | None
) -> Definition:
    """Return the definition with sections and modules replaced, checked as a whole."""
    merged = base | (sections or {})
    session = merged["session"] | (modules or {})
    merged["session"] = {key: item for key, item in session.items() if item is not None}
    return validate_content(merged)


def _check_secrets(content: Definition) -> Definition:
    """Return the definition; raise LiteralSecret if it has one outside its texts."""
    for section in set(content) - set(definition.TEXTS):
        if place := find_secret(content[section], section):
            raise LiteralSecret(
                f"{place}: a secret is never stored. Write a reference such as ${{NAME}}, and set "
                "that variable where the worker runs."
            )
    return content


def activate(name: str) -> Profile:
    """Make a profile the only active one; raise ProfileNotFound."""
    with transaction.atomic():
        lock_catalogue()
        profile = resolve_profile(name)
        Profile.objects.filter(is_active=True).exclude(pk=profile.pk).update(is_active=False)
        if not Profile.objects.filter(pk=profile.pk).update(is_active=True):
            raise ProfileNotFound
    profile.is_active = True
    return profile


def deactivate() -> None:
    Profile.objects.filter(is_active=True).update(is_active=False)
