"""An event: one entry of a session's journal."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from sessions_app.events import EventType
from sessions_app.models import triggers
from sessions_app.models.querysets import EventQuerySet


class Event(models.Model):
    """An entry of the journal, numbered 1..n in its session, never changed.

    The journal is the truth: streams, console and clients read it, nothing else.
    """

    pk = models.CompositePrimaryKey("session_id", "seq")
    session = models.ForeignKey(
        "Session", on_delete=models.CASCADE, related_name="events", db_index=False
    )
    seq = models.BigIntegerField()
    type = models.CharField(max_length=64)
    data = models.JSONField(default=dict)
    # A run is deleted only with its session; a constraint would search the whole journal whenever a
    # run is deleted.
    run = models.ForeignKey(
        "Run",
        null=True,
        on_delete=models.DO_NOTHING,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    created_at = models.DateTimeField(db_default=Now())

    objects = EventQuerySet.as_manager()

    class Meta:
        ordering = ("session_id", "seq")
        indexes = [
            # the pending actions of a run, which a stream repeats to a new client
            models.Index("run", condition=Q(type__endswith=":required"), name="event_requires"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(seq__gte=1), name="event_seq_from_one"),
            # Each run has one outcome, and every outcome ends with this event.
            models.UniqueConstraint(
                fields=["run"],
                condition=Q(type=EventType.ASSISTANT_MESSAGE_COMPLETE),
                name="event_one_outcome_per_run",
            ),
        ]
        triggers = [
            triggers.number_rows("event_numbered", "last_event_seq"),
            triggers.unchangeable("event_unchangeable"),
            triggers.keep_history("event_kept"),
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.type}"
