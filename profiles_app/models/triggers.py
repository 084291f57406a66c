"""Rules of profiles, versions and collections that PostgreSQL enforces for every writer.

Every error is a `check_violation`, so it reaches Python as an IntegrityError.
"""

import pgtrigger

# The columns of a profile whose change makes a new version.
CONTENT = ("version", "description", "definition", "instruction", "digest")

PROFILES = "profiles_app_profile"
VERSIONS = "profiles_app_profileversion"
COLLECTIONS = "profiles_app_collection"

# Migrations compare the texts of the functions with their white space, so that stays as it is.


def _columns(row: str) -> str:
    return ", ".join(f"{row}.{column}" for column in CONTENT)


def _refuse(message: str) -> str:
    return f"RAISE EXCEPTION '{message}' USING ERRCODE = 'check_violation';"


class CountsVersions(pgtrigger.Trigger):
    """Counts a profile's versions: one more for each change of content.

    A value that a statement writes into the counter is ignored.
    """

    when = pgtrigger.Before
    operation = pgtrigger.Insert | pgtrigger.Update
    func = f"""
            IF TG_OP = 'INSERT' THEN
                NEW.version_number = 1;
            ELSIF ({_columns("NEW")}) IS DISTINCT FROM ({_columns("OLD")}) THEN
                NEW.version_number = OLD.version_number + 1;
            ELSE
                NEW.version_number = OLD.version_number;
            END IF;
            RETURN NEW;
        """


class AddsVersion(pgtrigger.Trigger):
    """Adds a version when the counter of a profile has changed."""

    when = pgtrigger.After
    operation = pgtrigger.Insert | pgtrigger.Update
    func = f"""
            IF TG_OP = 'INSERT' OR NEW.version_number <> OLD.version_number THEN
                INSERT INTO {VERSIONS} (profile_id, number, created_at, {", ".join(CONTENT)})
                VALUES (NEW.id, NEW.version_number, now(), {_columns("NEW")});
            END IF;
            RETURN NULL;
        """


class NewestOnly(pgtrigger.Trigger):
    """A new version has the newest number of its profile.

    With the unique (profile, number) this makes the numbers 1..n without a gap.
    """

    when = pgtrigger.Before
    operation = pgtrigger.Insert
    func = f"""
            IF NOT EXISTS (
                SELECT FROM {PROFILES}
                WHERE id = NEW.profile_id AND version_number = NEW.number
            ) THEN
                {_refuse("a version is added by a change of its profile")}
            END IF;
            RETURN NEW;
        """


class Unchangeable(pgtrigger.Trigger):
    """A version is never updated."""

    when = pgtrigger.Before
    operation = pgtrigger.Update
    level = pgtrigger.Statement
    func = _refuse("versions of a profile are append-only")


class StaysWithProfile(pgtrigger.Trigger):
    """A version is only deleted together with its profile."""

    when = pgtrigger.After
    timing = pgtrigger.Deferred
    operation = pgtrigger.Delete
    func = f"""
            IF EXISTS (SELECT FROM {PROFILES} WHERE id = OLD.profile_id) THEN
                {_refuse("a version is kept as long as its profile")}
            END IF;
            RETURN NULL;
        """


class HasCollection(pgtrigger.Trigger):
    """A profile of a collection needs its collection."""

    when = pgtrigger.Before
    operation = pgtrigger.Insert | pgtrigger.Update
    condition = pgtrigger.Q(new__source="collection")
    func = f"""
            PERFORM FROM {COLLECTIONS} WHERE name = NEW.collection FOR KEY SHARE;
            IF NOT FOUND THEN
                {_refuse("a profile of a collection needs its collection")}
            END IF;
            RETURN NEW;
        """


class GoesLast(pgtrigger.Trigger):
    """A collection is only deleted together with its profiles."""

    when = pgtrigger.After
    timing = pgtrigger.Deferred
    operation = pgtrigger.Delete
    func = f"""
            IF EXISTS (
                SELECT FROM {PROFILES} WHERE collection = OLD.name AND source <> 'local'
            ) AND NOT EXISTS (SELECT FROM {COLLECTIONS} WHERE name = OLD.name) THEN
                {_refuse("a collection is kept as long as its profiles")}
            END IF;
            RETURN NULL;
        """


class LocalStays(pgtrigger.Trigger):
    """The collection `local` is never deleted."""

    when = pgtrigger.Before
    operation = pgtrigger.Delete
    condition = pgtrigger.Q(old__kind="local")
    func = _refuse("the collection local stays")


class KeepsName(pgtrigger.Trigger):
    """A collection is never renamed: profiles refer to it by its name."""

    when = pgtrigger.Before
    operation = pgtrigger.Update
    condition = pgtrigger.Q(old__name__df=pgtrigger.F("new__name"))
    func = _refuse("a collection keeps its name")
