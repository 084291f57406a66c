"""A profile: what a session is made of."""

from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from profiles_app import definition
from profiles_app.definition import NAME, SCHEMA_VERSION
from profiles_app.models import triggers


class Source(models.TextChoices):
    """Where a profile comes from; this decides whether it can be changed."""

    SHIPPED = "shipped"  # a file of the daemon; replaced when the daemon starts
    LOCAL = "local"  # created on this installation, in the collection `local`
    COLLECTION = "collection"  # a file of a collection that was added; replaced when it is synced


class ProfileQuerySet(models.QuerySet["Profile"]):
    """Profiles, by name, and in the order of lists."""

    def newest_first(self) -> Self:
        """Return them newest first; those that were loaded together in order of their names."""
        return self.order_by("-created_at", "collection", "name")

    def older_than(self, created_at: datetime, row_id: str) -> Self:
        """Return what follows the profile `collection/name` in a list, newest first."""
        collection, _, name = row_id.partition("/")
        follows = Q(collection__gt=collection) | Q(collection=collection, name__gt=name)
        return self.filter(Q(created_at__lt=created_at) | Q(created_at=created_at) & follows)

    def active(self) -> "Profile | None":
        """Return the active profile, of which there is at most one."""
        return self.filter(is_active=True).first()

    def named(self, name: str) -> Self:
        """Return what `collection/name`, or a name without its collection, can mean."""
        collection, _, bare = name.rpartition("/")
        found = self.filter(name=bare).order_by("collection")
        return found.filter(collection=collection) if collection else found


class Profile(models.Model):
    """What a session is made of: providers, tools, hooks, agents, context and an instruction.

    Sessions have mount plans of their own, so a profile may change or go at any time. Each change
    of its content makes a new version, which PostgreSQL adds itself.
    """

    collection = models.CharField(max_length=64)
    name = models.CharField(max_length=64)
    version = models.CharField(max_length=64)
    description = models.TextField(blank=True, default="")
    source = models.CharField(max_length=16, choices=Source.choices)
    # Below the folder of its source; empty if there is no file.
    source_path = models.TextField(blank=True, default="")
    schema_version = models.PositiveSmallIntegerField(default=SCHEMA_VERSION)
    # As `definition.validate_definition` returns it. `${NAME}` stays as it is written.
    definition = models.JSONField(default=definition.empty_definition)
    instruction = models.TextField(blank=True, default="")
    # SHA-256 of the file, in hex; empty if there is no file.
    digest = models.CharField(max_length=64, blank=True, default="")
    is_active = models.BooleanField(default=False)
    # The number of its newest version; PostgreSQL counts it, whatever is written here.
    version_number = models.PositiveIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = ProfileQuerySet.as_manager()

    class Meta:
        ordering = ("collection", "name")
        constraints = [
            models.UniqueConstraint(fields=["collection", "name"], name="profile_unique"),
            models.UniqueConstraint(
                fields=["is_active"], condition=Q(is_active=True), name="profile_one_active"
            ),
            models.CheckConstraint(
                condition=Q(collection__regex=NAME, name__regex=NAME), name="profile_name_valid"
            ),
            models.CheckConstraint(
                condition=Q(source__in=Source.values), name="profile_source_known"
            ),
            models.CheckConstraint(
                condition=Q(source="local", collection="local")
                | (~Q(source="local") & ~Q(collection="local")),
                name="profile_local_iff_in_local",
            ),
            models.CheckConstraint(
                condition=Q(source="local") | Q(digest__regex=r"^[0-9a-f]{64}$"),
                name="profile_file_has_digest",
            ),
            models.CheckConstraint(
                condition=Q(definition__has_keys=definition.SECTIONS),
                name="profile_definition_complete",
            ),
            models.CheckConstraint(
                condition=Q(schema_version=SCHEMA_VERSION), name="profile_schema_known"
            ),
        ]
        triggers = [
            triggers.CountsVersions(name="profile_counts_versions"),
            triggers.AddsVersion(name="profile_adds_version"),
            triggers.HasCollection(name="profile_has_collection"),
        ]

    def __str__(self) -> str:
        return f"{self.collection}/{self.name}"

    @property
    def is_local(self) -> bool:
        """Whether it was created on this installation, and so can be changed."""
        return self.source == Source.LOCAL


class ProfileVersionQuerySet(models.QuerySet["ProfileVersion"]):
    """The versions of one profile, in the order of lists."""

    def newest_first(self) -> Self:
        return self.order_by("-number")

    def older_than(self, created_at: datetime, row_id: str) -> Self:
        """Return the versions before the number `row_id`; none if it is not a number."""
        return self.filter(number__lt=int(row_id) if row_id.isdecimal() else 0)


class ProfileVersion(models.Model):
    """The content of a profile after one change, numbered 1..n in its profile, never changed.

    PostgreSQL adds it when the content of a profile changes; it is deleted with its profile.
    """

    profile = models.ForeignKey(
        "Profile", on_delete=models.CASCADE, related_name="versions", db_index=False
    )
    number = models.PositiveIntegerField()
    # As in the profile: `triggers.CONTENT`.
    version = models.CharField(max_length=64)
    description = models.TextField(blank=True)
    definition = models.JSONField()
    instruction = models.TextField(blank=True)
    digest = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    objects = ProfileVersionQuerySet.as_manager()

    class Meta:
        ordering = ("profile", "-number")
        constraints = [
            # Serves the list of versions; and no number is there twice.
            models.UniqueConstraint("profile", "number", name="profile_version_once"),
            models.CheckConstraint(condition=Q(number__gte=1), name="profile_version_from_one"),
        ]
        triggers = [
            triggers.NewestOnly(name="profile_version_newest_only"),
            triggers.Unchangeable(name="profile_version_unchangeable"),
            triggers.StaysWithProfile(name="profile_version_kept"),
        ]

    def __str__(self) -> str:
        return f"{self.profile} @{self.number}"
