"""Owners: what an admin allows each, and what each has stored."""

from django.db import models
from django.db.models.functions import Now


class OwnerLimits(models.Model):
    """What one owner may use, where it differs from the settings; further limits are columns here.

    Empty: the setting `AMPLIFIERD_OWNER_…` counts. 0: no limit.
    """

    owner = models.CharField(
        primary_key=True, max_length=64, help_text="The owner of API keys and of their sessions."
    )
    runs = models.PositiveIntegerField(
        null=True, blank=True, help_text="Runs at once, over all workers. 0: no limit."
    )
    queued = models.PositiveIntegerField(
        null=True, blank=True, help_text="Runs that wait for a place. 0: no limit."
    )
    streams = models.PositiveIntegerField(
        null=True, blank=True, help_text="Streams of its sessions in each web process. 0: no limit."
    )
    sessions = models.PositiveIntegerField(null=True, blank=True, help_text="0: no limit.")
    stored_bytes = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Bytes of messages and events. 0: no limit."
    )
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("owner",)
        verbose_name_plural = "owner limits"

    def __str__(self) -> str:
        return self.owner


class OwnerUsage(models.Model):
    """What an owner has stored, as maintenance has counted it: the truth is in the sessions."""

    owner = models.CharField(primary_key=True, max_length=64)
    sessions = models.BigIntegerField()
    stored_bytes = models.BigIntegerField()
    counted_at = models.DateTimeField()

    class Meta:
        ordering = ("owner",)
        verbose_name_plural = "owner usage"

    def __str__(self) -> str:
        return self.owner
