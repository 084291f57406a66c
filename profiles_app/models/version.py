"""A version of a profile: what it was from one change to the next."""

from django.db import models
from django.db.models import Q
from django.utils import timezone

from profiles_app.models import triggers


class ProfileVersion(models.Model):
    """The content of a profile after one change, numbered 1..n in its profile, never changed.

    PostgreSQL adds it whenever the content of a profile changes, and it goes with its profile.
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
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("profile", "-number")
        constraints = [
            # the versions in order, and no number twice
            models.UniqueConstraint("profile", "number", name="profile_version_once"),
            models.CheckConstraint(condition=Q(number__gte=1), name="profile_version_from_one"),
        ]
        triggers = [
            triggers.newest_only("profile_version_newest_only"),
            triggers.unchangeable("profile_version_unchangeable"),
            triggers.kept("profile_version_kept"),
        ]

    def __str__(self) -> str:
        return f"{self.profile} @{self.number}"
