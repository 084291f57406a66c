"""A collection: where a group of profiles comes from."""

from datetime import datetime
from typing import Any, Self

from django.contrib.postgres.expressions import ArraySubquery
from django.db import models
from django.db.models import OuterRef, Q
from django.db.models.functions import Now

from profiles_app.definition import NAME
from profiles_app.models import triggers
from profiles_app.models.profile import Profile
from profiles_app.sources.location import Location

LOCAL = "local"


class Kind(models.TextChoices):
    """Where the files of a collection are; this decides whether it can be removed."""

    SHIPPED = "shipped"  # comes with the daemon
    LOCAL = "local"  # no files: profiles created on this installation
    FOLDER = "folder"  # a folder of the machine
    GIT = "git"  # a git repository


def nothing() -> dict[str, list[Any]]:
    """Return the contents of a collection that has not been read."""
    return {"agents": [], "context": [], "modules": []}


class CollectionQuerySet(models.QuerySet["Collection"]):
    """Collections, in the order of lists."""

    def with_profile_names(self) -> Self:
        """Return them with `profile_names`: those of their profiles, in order."""
        profiles = Profile.objects.filter(collection=OuterRef("name")).order_by("name")
        return self.annotate(profile_names=ArraySubquery(profiles.values("name")))

    def newest_first(self) -> Self:
        """Return them newest first; those of one moment in order of their names."""
        return self.order_by("-created_at", "name")

    def older_than(self, created_at: datetime, row_id: str) -> Self:
        """Return what follows the collection of the name `row_id` in a list, newest first."""
        return self.filter(Q(created_at__lt=created_at) | Q(created_at=created_at, name__gt=row_id))


class Collection(models.Model):
    """A source of profiles, and its contents when it was last read.

    Profiles refer to it by its name, which never changes.
    """

    name = models.CharField(max_length=64, unique=True)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    # The path of the folder or the URL of the repository; empty if it comes with the daemon.
    source = models.TextField(blank=True, default="")
    ref = models.CharField(max_length=201, blank=True, default="")
    subdirectory = models.TextField(blank=True, default="")
    # SHA-256 of everything that was read, in hex; the commit that was read.
    digest = models.CharField(max_length=64, blank=True, default="")
    commit = models.CharField(max_length=64, blank=True, default="")
    # Names of agents and context, and the modules: id, type, name, location, description.
    contents = models.JSONField(default=nothing)
    # When its source was last stored, and why the last attempt failed.
    synced_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = CollectionQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at", "name")
        constraints = [
            models.CheckConstraint(condition=Q(name__regex=NAME), name="collection_name_valid"),
            models.CheckConstraint(condition=Q(kind__in=Kind.values), name="collection_kind_known"),
            models.CheckConstraint(
                condition=Q(kind="local", name=LOCAL) | (~Q(kind="local") & ~Q(name=LOCAL)),
                name="collection_local_once",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["shipped", "local"], source="")
                | Q(kind__in=["folder", "git"]) & ~Q(source=""),
                name="collection_added_has_source",
            ),
            models.CheckConstraint(
                condition=Q(kind="git") | Q(ref="", subdirectory="", commit=""),
                name="collection_commit_is_git",
            ),
        ]
        triggers = [
            triggers.GoesLast(name="collection_goes_last"),
            triggers.LocalStays(name="collection_local_stays"),
            triggers.KeepsName(name="collection_keeps_name"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_added(self) -> bool:
        """Whether it was added on this installation, and so can be removed."""
        return self.kind in (Kind.FOLDER, Kind.GIT)

    @property
    def location(self) -> Location:
        return Location(self.kind, self.source, self.ref, self.subdirectory)

    @property
    def address(self) -> str:
        return str(self.location) if self.is_added else self.kind
