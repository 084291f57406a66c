"""The table of API keys."""

from datetime import datetime

import pgtrigger
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from amplifierd.common.statements import read_clock


class Scope(models.TextChoices):
    """What a key may do. Each scope includes those before it."""

    READ = "read"  # look at the sessions of its owner, and at the catalogue
    WRITE = "write"  # make and change sessions
    ADMIN = "admin"  # change the catalogue, see the sessions of every owner


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    """API keys."""

    def not_revoked(self) -> "ApiKeyQuerySet":
        """Return the keys that were not revoked; they may have expired."""
        return self.filter(revoked_at=None)

    def with_clock(self) -> "ApiKeyQuerySet":
        """Read the time of the database with each key, as its `clock`."""
        return self.annotate(clock=Now())


class ApiKey(models.Model):
    """What a program sends with its requests. Only the SHA-256 of the key is stored.

    Written only by `amplifierd.auth.keys`. What a key allows never changes; it expires or is
    revoked.
    """

    # The part of the key by which it is looked up and shown to people.
    prefix = models.CharField(max_length=8, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    name = models.CharField(max_length=64, help_text="What it is for: notebook, web app …")
    owner = models.CharField(
        max_length=64, help_text="Whose sessions it makes and sees; keys of one owner share them."
    )
    scope = models.CharField(
        max_length=8,
        choices=Scope.choices,
        default=Scope.WRITE,
        help_text="read: look; write: make and change sessions; admin: also the catalogue, and "
        "the sessions of every owner.",
    )
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: never.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    # To the minute, so that not every request writes.
    last_used_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ("-created_at", "-id")
        constraints = [
            models.CheckConstraint(
                condition=Q(prefix__regex="^[a-z0-9]{8}$", digest__regex="^[0-9a-f]{64}$"),
                name="apikey_digest_only",
            ),
            models.CheckConstraint(condition=Q(scope__in=Scope.values), name="apikey_scope_known"),
            models.CheckConstraint(condition=~Q(owner="") & ~Q(name=""), name="apikey_has_owner"),
        ]
        triggers = [
            pgtrigger.Protect(
                name="apikey_opens_the_same",
                operation=pgtrigger.Update,
                condition=pgtrigger.AnyChange(
                    "prefix", "digest", "owner", "scope", "expires_at", "created_at"
                ),
            ),
            pgtrigger.Protect(
                name="apikey_stays_revoked",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__revoked_at__isnull=False)
                & pgtrigger.Q(old__revoked_at__df=pgtrigger.F("new__revoked_at")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix})"

    @property
    def state(self) -> str:
        """The state of the key: usable, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        is_over = self.expires_at is not None and self.expires_at <= self.now
        return "expired" if is_over else "usable"

    @property
    def now(self) -> datetime:
        """The time of the database: when the key was read, if it was read `with_clock`."""
        return getattr(self, "clock", None) or read_clock()
