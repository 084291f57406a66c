"""An event: one entry of a session's journal."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from sessions_app.models import triggers
from sessions_app.models.querysets import EventQuerySet


class EventType(models.TextChoices):
    """What can happen in a session, by the names that clients see."""

    SESSION_STARTED = "session_started"
    SESSION_UPDATED = "session_updated"
    SESSION_ENDED = "session_ended"
    MESSAGE_ADDED = "message_added"
    USER_MESSAGE_SAVED = "user_message_saved"
    ASSISTANT_MESSAGE_START = "assistant_message_start"
    CONTENT = "content"
    THINKING_DELTA = "hook:thinking:delta"
    TOOL_PRE = "hook:tool:pre"
    TOOL_POST = "hook:tool:post"
    ASSISTANT_MESSAGE_COMPLETE = "assistant_message_complete"
    EXECUTION_ERROR = "execution_error"
    EXECUTION_CANCELLED = "execution_cancelled"
    RUN_INTERRUPTED = "run_interrupted"
    PROVIDER_RETRY = "provider_retry"
    PROVIDER_FALLBACK = "provider_fallback"
    APPROVAL_REQUIRED = "hook:approval:required"
    APPROVAL_RESOLVED = "approval_resolved"
    RUN_PARKED = "run_parked"
    RUN_RESUMED = "run_resumed"
    CONTEXT_COMPACTED = "context_compacted"
    RUN_NOTICE = "run_notice"


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
    # Both live as long as the session; a constraint would look through the whole journal
    # whenever a run is deleted.
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
            # what a stream tells its client that a run waits for
            models.Index("run", condition=Q(type__endswith=":required"), name="event_requires"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(seq__gte=1), name="event_seq_from_one"),
            # Whatever a run came to, it is told once: every outcome ends with this event.
            models.UniqueConstraint(
                fields=["run"],
                condition=Q(type=EventType.ASSISTANT_MESSAGE_COMPLETE),
                name="event_one_outcome_per_run",
            ),
        ]
        triggers = [
            triggers.numbered("event_numbered", "last_event_seq"),
            triggers.unchangeable("event_unchangeable"),
            triggers.kept("event_kept"),
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.type}"
