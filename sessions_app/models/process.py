"""A process of a daemon: a web process or a worker, as it last told of itself."""

from django.db import models
from django.utils import timezone


class ProcessKind(models.TextChoices):
    """What a process does."""

    WEB = "web"
    WORKER = "worker"


class Process(models.Model):
    """A process that tells every few seconds that it is there. Nothing depends on it."""

    name = models.CharField(primary_key=True, max_length=200)
    kind = models.CharField(max_length=16, choices=ProcessKind.choices)
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)
    # Open streams of sessions, and feeds of all sessions, of a web process.
    streams = models.PositiveIntegerField(default=0)
    feeds = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ("kind", "name")
        verbose_name_plural = "processes"

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"
