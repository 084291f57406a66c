"""Creating, editing, copying and deleting profiles. Only those of the collection `local` change.

Each change of a profile's content makes a new version of it, which PostgreSQL adds itself.
"""

import json
from typing import Any

from django.db import transaction
from django.utils import timezone

from amplifierd.common.redaction import literal_secret
from profiles_app import definition, values
from profiles_app.exceptions import (
    InvalidDefinition,
    LiteralSecret,
    ProfileActive,
    ProfileExists,
    ProfileNotFound,
    ProfileReadOnly,
    StaleVersion,
)
from profiles_app.models import Profile, Source
from profiles_app.profile_file import profile_name
from profiles_app.services.profiles import resolve_profile

LOCAL = "local"
FIRST_VERSION = "1.0.0"
# Words that stand in the place of a name in the API's URLs.
RESERVED = ("active", "activate", "compile", "copy", "diff", "versions")
# Bytes of a definition as JSON.
DEFINITION_LIMIT = 256 * 1024

Definition = dict[str, Any]


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
    Raises InvalidDefinition, LiteralSecret, ProfileExists.
    """
    content = _merged(definition.empty(), sections, modules)
    return _created(
        name,
        version=version,
        description=description,
        instruction=instruction,
        definition=content,
    )


def copy(name: str, new_name: str) -> Profile:
    """Copy a profile of any collection to `local/<new_name>` and return the copy.

    Raises ProfileNotFound, ProfileExists, InvalidDefinition, and LiteralSecret for a profile that
    has one.
    """
    original = resolve_profile(name)
    return _created(
        new_name,
        version=original.version,
        description=original.description,
        instruction=original.instruction,
        definition=_without_secrets(original.definition),
    )


def update(
    name: str,
    *,
    expected_version: int | None = None,
    sections: Definition | None = None,
    modules: Definition | None = None,
    **texts: str,
) -> Profile:
    """Change what is given and return the profile, at its new version where anything differs.

    A section replaces the one that was there; a module of the session does so too, and None
    removes it. `texts` are `version`, `description` and `instruction`. `expected_version` is the
    number that the caller has seen. Raises ProfileNotFound, ProfileReadOnly, StaleVersion,
    InvalidDefinition, LiteralSecret.
    """
    with transaction.atomic():
        profile = _changeable(name)
        if expected_version not in (None, profile.version_number):
            raise StaleVersion(expected_version, profile.version_number)
        changed = dict(texts)
        if sections or modules:
            named = _unlisted(profile.definition, sections or {})
            changed["definition"] = _merged(profile.definition, named, modules)
        for field, value in changed.items():
            setattr(profile, field, value)
        # PostgreSQL compares, and counts: to Python, true and 1 are the same.
        profile.updated_at = timezone.now()
        profile.save(update_fields=[*changed, "updated_at"])
        profile.refresh_from_db()
    return profile


def delete(name: str) -> None:
    """Delete a local profile with its versions; sessions keep what they began with.

    Raises ProfileNotFound, ProfileReadOnly, ProfileActive.
    """
    with transaction.atomic():
        profile = _changeable(name)
        if profile.is_active:
            raise ProfileActive
        profile.delete()


def checked(content: Definition) -> Definition:
    """Return a definition in its full form; raise InvalidDefinition or LiteralSecret."""
    values.check(content, "definition")
    if len(json.dumps(content, ensure_ascii=False).encode()) > DEFINITION_LIMIT:
        limit = DEFINITION_LIMIT // 1024
        raise InvalidDefinition(f"The definition is larger than {limit} KB; shorten it.")
    return _without_secrets(definition.checked(content))


def _created(name: str, **content: Any) -> Profile:
    if profile_name(name, "name") in RESERVED:
        raise InvalidDefinition(f"name: {name!r} has a meaning in URLs; choose another.")
    profile, is_new = Profile.objects.get_or_create(
        collection=LOCAL, name=name, defaults={"source": Source.LOCAL, **content}
    )
    if not is_new:
        raise ProfileExists(
            f"There is a profile {profile} already. Change it with PATCH, or choose another name."
        )
    return profile


def _changeable(name: str) -> Profile:
    """Return the profile, locked, if it is one that may be changed."""
    found = resolve_profile(name)
    if not found.is_local:
        raise ProfileReadOnly(
            f"{found} comes from a file and does not change here. Copy it with POST "
            f"/api/v1/profiles/{found}/copy, and change the copy."
        )
    profile = Profile.objects.select_for_update().filter(pk=found.pk).first()
    if profile is None:
        raise ProfileNotFound
    return profile


def _unlisted(base: Definition, sections: Definition) -> Definition:
    """Return the sections with the texts that a form sends back as it was shown them.

    Answers list the names of agents and context. A form that edits mappings makes `{"0": "name"}`
    of that, and means the text that has this name.
    """
    listed = {key: sections[key] for key in definition.TEXTS if key in sections}
    for section, texts in listed.items():
        known = base[section]
        listed[section] = dict(
            (text, known[text]) if name.isdecimal() and text in known else (name, text)
            for name, text in texts.items()
        )
    return sections | listed


def _merged(
    base: Definition, sections: Definition | None, modules: Definition | None
) -> Definition:
    """Return the definition with sections and modules replaced, checked as a whole."""
    merged = base | (sections or {})
    session = merged["session"] | (modules or {})
    merged["session"] = {key: item for key, item in session.items() if item is not None}
    return checked(merged)


def _without_secrets(content: Definition) -> Definition:
    """Return the definition; raise LiteralSecret. What its texts say is the author's own."""
    for section in set(content) - set(definition.TEXTS):
        if place := literal_secret(content[section], section):
            raise LiteralSecret(
                f"{place}: a secret is never stored. Write a reference such as ${{NAME}}, and set "
                "that variable where the worker runs."
            )
    return content
