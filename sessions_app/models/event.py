"""An event: one entry of a session's journal."""

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from sessions_app.events import EventType
from sessions_app.models import triggers
from sessions_app.models.querysets import EventQuerySet

# Pieces of output, of which several in a row are worth as much as their text in one.
JOINABLE = (EventType.CONTENT, EventType.THINKING_DELTA)


class Event(models.Model):
    """An entry of the journal, numbered 1..n in its session, never changed.

    The journal is the truth: streams, console and clients read it, nothing else. Once the session
    has ended, pieces of one output may be joined to one entry, which has the last of their seqs
    (`services.journal_compaction`).
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
    # How many seqs it stands for, its own the last of them; and when the first of them was written,
    # if there are more.
    span = models.IntegerField(default=1, db_default=1)
    began_at = models.DateTimeField(null=True, blank=True)

    objects = EventQuerySet.as_manager()

    class Meta:
        ordering = ("session_id", "seq")
        indexes = [
            # the pending actions of a run, which a stream repeats to a new client
            models.Index("run", condition=Q(type__endswith=":required"), name="event_requires"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(seq__gte=1), name="event_seq_from_one"),
            models.CheckConstraint(
                condition=Q(span__gte=1, span__lte=F("seq")), name="event_span_within_journal"
            ),
            # Each run has one outcome, and every outcome ends with this event.
            models.UniqueConstraint(
                fields=["run"],
                condition=Q(type=EventType.ASSISTANT_MESSAGE_COMPLETE),
                name="event_one_outcome_per_run",
            ),
        ]
        triggers = [
            triggers.number_rows("event_numbered", "last_event_seq"),
            triggers.changed_by_compaction("event_unchangeable"),
            triggers.joined_gaplessly("event_joined_gaplessly", JOINABLE),
            triggers.keep_or_join("event_kept", JOINABLE),
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.type}"

    @property
    def first(self) -> int:
        """The first of the seqs that it stands for."""
        return self.seq - self.span + 1
