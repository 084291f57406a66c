"""A session: one conversation with an explicit lifecycle."""

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from amplifierd.common.formats import new_session_id
from amplifierd.common.statements import read_clock
from sessions_app.models import triggers
from sessions_app.models.querysets import SessionQuerySet
from sessions_app.search import search_vector
from sessions_app.states import SESSION_TERMINAL, SESSION_TRANSITIONS, SessionStatus, pairs


class Session(models.Model):
    """A conversation: its status, what it was created with, and the counters of its history.

    Written only by the services; `message_count` and `last_event_seq` number the transcript
    and the journal under the lock of this row.
    """

    id = models.CharField(primary_key=True, max_length=64, default=new_session_id, editable=False)
    name = models.CharField(max_length=200, blank=True, null=True)  # noqa: DJ001 - null: never named
    status = models.CharField(
        max_length=16, choices=SessionStatus.choices, default=SessionStatus.CREATED
    )
    # The owner of the API key that created it; empty if no keys are required.
    owner = models.CharField(max_length=64, blank=True, default="", editable=False)
    profile_name = models.CharField(max_length=200)
    amplified_dir = models.CharField(max_length=1024, default=".")
    parent = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="children",
        db_index=False,
    )
    settings_overrides = models.JSONField(default=dict, blank=True)
    # The profile at the creation of the session, resolved; later edits of it change nothing here.
    mount_plan = models.JSONField(default=dict, blank=True)
    metadata = models.JSONField(default=dict, blank=True)

    created_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)
    last_read_at = models.DateTimeField(null=True, blank=True)

    message_count = models.PositiveIntegerField(default=0)
    last_event_seq = models.BigIntegerField(default=0)
    # Bytes of its messages, and of the data of its events, as they were sent to the database.
    stored_bytes = models.BigIntegerField(default=0, db_default=0, editable=False)
    agent_invocations = models.PositiveIntegerField(default=0)
    token_usage = models.BigIntegerField(default=0)
    # The sum of the usage of its settled runs, with the same keys.
    usage = models.JSONField(default=dict, blank=True)
    # A summary that replaces the messages up to that seq in requests to a model, if its context is
    # too small for them.
    summary = models.TextField(blank=True, default="")
    summarised_seq = models.PositiveIntegerField(default=0)
    # The id of the last batch of run output that was written for it: see `services.journal`.
    last_batch = models.UUIDField(null=True, blank=True, editable=False)
    # When the pieces of output in its journal were joined, after its end.
    compacted_at = models.DateTimeField(null=True, blank=True, editable=False)
    error_message = models.TextField(null=True, blank=True)  # noqa: DJ001 - null: did not fail
    error_details = models.JSONField(null=True, blank=True)

    objects = SessionQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at", "-id")
        indexes = [
            # GET /sessions/, newest first, and its cursor
            models.Index("created_at", "id", name="session_newest"),
            # GET /sessions/?status=…
            models.Index("status", "created_at", "id", name="session_by_status"),
            # GET /sessions/?profile_name=…
            models.Index("profile_name", "created_at", "id", name="session_by_profile"),
            # the children of a session
            models.Index(
                "parent", "created_at", condition=Q(parent__isnull=False), name="session_children"
            ),
            # GET /sessions/?amplified_dir=…
            models.Index("amplified_dir", "created_at", "id", name="session_by_directory"),
            # GET /sessions/ by one owner, and the count of any filters together without the rows
            models.Index(
                "owner",
                "created_at",
                "id",
                include=["status", "profile_name", "amplified_dir", "parent"],
                name="session_by_owner",
            ),
            # the newest failures
            models.Index(
                "ended_at", condition=Q(status=SessionStatus.FAILED), name="session_failures"
            ),
            # those that ended first, and whose journals are still to be compacted
            models.Index(
                "ended_at",
                condition=Q(ended_at__isnull=False, compacted_at__isnull=True),
                name="session_to_compact",
            ),
            # GET /sessions/?metadata.KEY=…
            GinIndex(OpClass("metadata", "jsonb_path_ops"), name="session_by_metadata"),
            # GET /sessions/?q=…, by name
            GinIndex(search_vector("name"), name="session_by_words"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=SessionStatus.values), name="session_status_known"
            ),
            models.CheckConstraint(
                condition=Q(status__in=SESSION_TERMINAL, ended_at__isnull=False)
                | (~Q(status__in=SESSION_TERMINAL) & Q(ended_at__isnull=True)),
                name="session_ended_iff_terminal",
            ),
            models.CheckConstraint(
                condition=Q(status=SessionStatus.CREATED, started_at__isnull=True)
                | (~Q(status=SessionStatus.CREATED) & Q(started_at__isnull=False)),
                name="session_started_iff_not_created",
            ),
            models.CheckConstraint(
                condition=Q(status=SessionStatus.FAILED)
                | Q(error_message__isnull=True, error_details__isnull=True),
                name="session_error_only_where_failed",
            ),
        ]
        triggers = [
            triggers.initial("session_begins_created", SessionStatus.CREATED),
            triggers.transitions("session_transitions", pairs(SESSION_TRANSITIONS)),
            triggers.count_rows("session_counts_messages", "message_count", "sessions_app_message"),
            triggers.count_rows("session_counts_events", "last_event_seq", "sessions_app_event"),
        ]

    def __str__(self) -> str:
        return self.name or self.id

    @property
    def is_terminal(self) -> bool:
        return self.status in SESSION_TERMINAL

    @property
    def duration(self) -> float | None:
        """Return the seconds from start to end, or to now; None before the start."""
        if self.started_at is None:
            return None
        # Lists have read the clock of the database with their rows.
        until = self.ended_at or getattr(self, "clock", None) or read_clock()
        return (until - self.started_at).total_seconds()

    @property
    def is_unread(self) -> bool:
        return self.last_read_at is None or self.updated_at > self.last_read_at
