"""A message: one line of a session's transcript."""

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from amplifierd.common.formats import new_message_id
from sessions_app.models import triggers
from sessions_app.models.querysets import MessageManager
from sessions_app.search import search_vector
from sessions_app.states import FinishReason, Role


class Message(models.Model):
    """A line of the transcript, numbered 1..n in its session, never changed."""

    id = models.CharField(primary_key=True, max_length=64, default=new_message_id, editable=False)
    session = models.ForeignKey(
        "Session", on_delete=models.CASCADE, related_name="messages", db_index=False
    )
    seq = models.PositiveIntegerField()
    role = models.CharField(max_length=16, choices=Role.choices)
    content = models.TextField()
    created_at = models.DateTimeField(db_default=Now())
    agent = models.CharField(max_length=200, null=True, blank=True)  # noqa: DJ001 - null: no agent
    token_count = models.PositiveIntegerField(null=True, blank=True)
    # The run that executes a user's message, or that answered with an assistant's. It is deleted
    # only with the session; a constraint would search all messages whenever a run is deleted.
    run = models.ForeignKey(
        "Run",
        null=True,
        blank=True,
        on_delete=models.DO_NOTHING,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    # For a copied message: the run of the original, whose tool calls and results models get as in
    # the original session. If that session is deleted, only the text remains.
    source_run_id = models.CharField(max_length=64, blank=True, default="", db_default="")
    # Why it ended, if it is the answer of a run. Null: it is not, or the reason is unknown.
    finish_reason = models.CharField(  # noqa: DJ001 - null: unknown
        max_length=16, choices=FinishReason.choices, null=True, blank=True
    )
    metadata = models.JSONField(default=dict, blank=True)
    # Only for searches: stored, so that ranking does not have to parse the texts again.
    words = models.GeneratedField(
        expression=search_vector("content"), output_field=SearchVectorField(), db_persist=True
    )

    objects = MessageManager()

    class Meta:
        ordering = ("session_id", "seq")
        indexes = [
            # GET /sessions/?q=…, by words of messages
            # each search reads the whole list of pending entries, so it must be short: kilobytes
            GinIndex(fields=["words"], gin_pending_list_limit=1024, name="message_by_words"),
        ]
        constraints = [
            # the transcript in order, and no seq twice
            models.UniqueConstraint("session", "seq", name="message_seq_once"),
            models.CheckConstraint(condition=Q(seq__gte=1), name="message_seq_from_one"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="message_role_known"),
            models.CheckConstraint(
                condition=Q(finish_reason__isnull=True) | Q(finish_reason__in=FinishReason.values),
                name="message_finish_reason_known",
            ),
        ]
        triggers = [
            triggers.number_rows(
                "message_numbered", "message_count", triggers.takes_no_messages("s")
            ),
            triggers.unchangeable("message_unchangeable"),
            triggers.keep_history("message_kept"),
        ]

    def __str__(self) -> str:
        return f"{self.role} {self.seq}: {self.content[:60]}"

    @property
    def exchange_run_id(self) -> str:
        """Return the id of the run in whose exchange with a model this message is, if any."""
        return self.run_id or self.source_run_id
