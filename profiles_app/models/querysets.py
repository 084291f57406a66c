"""What is read, by name."""

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Self

from django.db import models

if TYPE_CHECKING:
    from profiles_app.models import AmplifiedDirectory, Profile

ROOT = "."


class ProfileQuerySet(models.QuerySet["Profile"]):
    """Profiles."""

    def newest_first(self) -> Self:
        """Order as lists show them; those that were loaded together are in order of their names."""
        return self.order_by("-created_at", "collection", "name")

    def shipped(self) -> Self:
        """Return the profiles that come with the daemon."""
        return self.filter(source="shipped")

    def active(self) -> "Profile | None":
        """Return the active profile, of which there is at most one."""
        return self.filter(is_active=True).first()

    def named(self, name: str) -> Self:
        """Return what `collection/name`, or a name without its collection, can mean."""
        collection, _, bare = name.rpartition("/")
        found = self.filter(name=bare).order_by("collection")
        return found.filter(collection=collection) if collection else found


class AmplifiedDirectoryQuerySet(models.QuerySet["AmplifiedDirectory"]):
    """Amplified directories."""

    def at(self, path: str) -> "AmplifiedDirectory | None":
        """Return the directory of exactly this path."""
        return self.filter(relative_path=path).first()

    def default_profiles(self) -> dict[str, str]:
        """Return the default profile of each path; an empty one is inherited."""
        return dict(self.values_list("relative_path", "default_profile"))

    def lineage(self, path: str) -> Self:
        """Return the amplified ones among a path and its parents."""
        return self.filter(relative_path__in=lineage(path))


def lineage(path: str) -> list[str]:
    """Return a path and its parents up to the root, nearest first."""
    return [path, *map(str, PurePosixPath(path).parents)]
