"""An approval: a call of a tool that waits for a person."""

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone

from amplifierd.common.formats import new_approval_id
from amplifierd.common.redaction import masked
from sessions_app.models import triggers
from sessions_app.models.querysets import ApprovalQuerySet
from sessions_app.states import APPROVAL_TRANSITIONS, ApprovalStatus, pairs


class Approval(models.Model):
    """A question to a person: may this tool be called like this? It lives as long as it must.

    The run that asks is parked: no worker holds it, and it goes on when all is answered.
    """

    id = models.CharField(primary_key=True, max_length=64, default=new_approval_id, editable=False)
    session = models.ForeignKey(
        "Session", on_delete=models.CASCADE, related_name="approvals", db_index=False
    )
    run = models.ForeignKey(
        "Run", on_delete=models.CASCADE, related_name="approvals", db_index=False
    )
    # The newest step of the run when it asked, and the call in it.
    step = models.PositiveIntegerField()
    tool_call_id = models.CharField(max_length=255)
    tool_name = models.CharField(max_length=255)
    # As the tool is called with it, secrets included; nothing but `visible_input` is shown.
    tool_input = models.JSONField(default=dict)
    # The same without the secrets that the worker knew by their values; null where it knew none.
    redacted_input = models.JSONField(null=True, blank=True)
    # SHA-256 of all that makes the tool what it is: module, source and config, name, description
    # and schema. An "always" holds as long as it is the same; without one it never does.
    fingerprint = models.CharField(max_length=64, blank=True, default="", db_default="")
    status = models.CharField(
        max_length=16, choices=ApprovalStatus.choices, default=ApprovalStatus.PENDING
    )
    # Why it was denied, as the model is told.
    reason = models.TextField(blank=True)
    # Whether the tool, as long as it stays as it is, goes on in this session without a question.
    always = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    answered_at = models.DateTimeField(null=True, blank=True)
    answered_by = models.CharField(max_length=200, blank=True)

    objects = ApprovalQuerySet.as_manager()

    # What may be answered.
    OPTIONS = ("approve", "deny", "always")

    class Meta:
        ordering = ("-created_at", "-id")
        indexes = [
            # GET /approvals/?status=pending, and those that nobody has answered in time
            models.Index(
                "created_at",
                "id",
                condition=Q(status=ApprovalStatus.PENDING),
                name="approval_pending",
            ),
            # GET /approvals/
            models.Index("created_at", "id", name="approval_newest"),
            # the approvals of a session, and what it lets go on
            models.Index("session", "created_at", name="approval_of_session"),
        ]
        constraints = [
            models.UniqueConstraint("run", "step", "tool_call_id", name="approval_asked_once"),
            models.CheckConstraint(
                condition=Q(status__in=ApprovalStatus.values), name="approval_status_known"
            ),
            models.CheckConstraint(
                condition=Q(status=ApprovalStatus.PENDING, answered_at__isnull=True)
                | (~Q(status=ApprovalStatus.PENDING) & Q(answered_at__isnull=False)),
                name="approval_answered_iff_not_pending",
            ),
        ]
        triggers = [
            triggers.initial("approval_begins_pending", ApprovalStatus.PENDING),
            triggers.transitions("approval_transitions", pairs(APPROVAL_TRANSITIONS)),
        ]

    def __str__(self) -> str:
        return f"{self.tool_name} ({self.status})"

    @property
    def visible_input(self) -> Any:
        """Return what the tool is to be called with, as people are shown it: without secrets."""
        return masked(self.tool_input if self.redacted_input is None else self.redacted_input)

    @property
    def prompt(self) -> str:
        """Return the question, as the journal has it."""
        return f"Allow {self.tool_name}?"
