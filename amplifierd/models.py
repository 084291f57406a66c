"""API keys."""

import pgtrigger
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone


class Scope(models.TextChoices):
    """What a key may do, the least first. Each scope includes those before it."""

    READ = "read"  # look at the sessions of its owner, and at the catalogue
    WRITE = "write"  # make and change sessions
    ADMIN = "admin"  # change the catalogue, see the sessions of every owner


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    """API keys."""

    def not_revoked(self) -> "ApiKeyQuerySet":
        """Return those that nobody has revoked."""
        return self.filter(revoked_at=None)

    def usable(self) -> "ApiKeyQuerySet":
        """Return those that are let in now, by the clock of the database."""
        return self.not_revoked().filter(Q(expires_at=None) | Q(expires_at__gt=Now()))


class ApiKey(models.Model):
    """What a program shows to be let in. The key itself is nowhere: only its SHA-256 is kept.

    Written only by `amplifierd.auth.keys`. What a key opens never changes; it ends, by its date
    or by being revoked.
    """

    # The part of the key by which it is found, and by which people speak of it.
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
    # To the minute: not every request is worth a write.
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
        """Say whether the key is let in."""
        if self.revoked_at is not None:
            return "revoked"
        is_over = self.expires_at is not None and self.expires_at <= timezone.now()
        return "expired" if is_over else "usable"
