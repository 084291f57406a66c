"""Rows of the daemon itself: of the installation, its processes, and idempotency keys."""

from django.db import models
from django.db.models.functions import Now


class ProcessKind(models.TextChoices):
    """What a process does."""

    WEB = "web"
    WORKER = "worker"


class Process(models.Model):
    """A process that sends a heartbeat every few seconds, for monitoring only."""

    name = models.CharField(primary_key=True, max_length=200)
    kind = models.CharField(max_length=16, choices=ProcessKind.choices)
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())
    # Open streams of sessions, and feeds of all sessions, of a web process.
    streams = models.PositiveIntegerField(default=0)
    feeds = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ("kind", "name")
        verbose_name_plural = "processes"

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class IdempotencyKey(models.Model):
    """A key that a client chose, the request it came with, and the answer that it got.

    Written in the transaction of the request's effect: the key is there if and only if the effect
    is.
    """

    id = models.BigAutoField(primary_key=True)
    # The owner of the key: independent clients may choose the same key.
    owner = models.CharField(max_length=64, blank=True, default="", editable=False)
    key = models.CharField(max_length=255)
    # SHA-256 of method, path and body: the same key with another request is an error.
    fingerprint = models.BinaryField(max_length=32)
    status = models.PositiveSmallIntegerField()
    content_type = models.CharField(max_length=100, blank=True)
    body = models.BinaryField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint("owner", "key", name="idempotency_key_of_owner")]
        indexes = [
            # the oldest keys, to delete them
            models.Index("created_at", name="idempotency_oldest"),
        ]

    def __str__(self) -> str:
        return self.key


class Installation(models.Model):
    """The one row about the whole database; `services.epoch` replaces its value."""

    id = models.BooleanField(primary_key=True, default=True)
    # A part of the epoch of the journals: chosen at random when a history of the database begins.
    value = models.UUIDField()
    began_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(id=True), name="installation_only_one")
        ]

    def __str__(self) -> str:
        return str(self.value)
