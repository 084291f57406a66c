"""A run: the execution of one message, its attempts, and the checkpoints from which it goes on."""

from dataclasses import dataclass, field
from typing import Any

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from amplifierd.common.formats import new_run_id
from sessions_app.models import triggers
from sessions_app.models.querysets import RunQuerySet
from sessions_app.states import (
    FINISHED,
    RUN_OPEN,
    RUN_TERMINAL,
    RUN_TRANSITIONS,
    RUN_UNDER_WAY,
    FinishReason,
    RunStatus,
    pairs,
)


def tokens(key: str) -> models.Func:
    """Return the SQL of a number in a run's usage; 0 if it is missing or not a number."""
    value = f"%(expressions)s -> '{key}'"
    return models.Func(
        models.F("usage"),
        template=f"CASE jsonb_typeof({value}) WHEN 'number' THEN ({value})::bigint ELSE 0 END",
        output_field=models.BigIntegerField(),
    )


class Run(models.Model):
    """One execution of one message: queued, attempted once or more, settled exactly once.

    In between it may be parked, while a tool call waits for a person or a sub-session.

    A worker that executes it holds a lease on the current attempt; every write for the run matches
    run, attempt and status, so a worker that has lost its lease changes nothing.
    """

    id = models.CharField(primary_key=True, max_length=64, default=new_run_id, editable=False)
    session = models.ForeignKey(
        "Session", on_delete=models.CASCADE, related_name="runs", db_index=False
    )
    message = models.OneToOneField("Message", on_delete=models.CASCADE, related_name="+")
    # That of its session, which never changes: the runs of one owner are counted at every claim.
    owner = models.CharField(max_length=64, blank=True, default="", db_default="", editable=False)
    status = models.CharField(max_length=16, choices=RunStatus.choices, default=RunStatus.QUEUED)
    # 0 before the first claim; every claim adds one.
    attempt = models.PositiveIntegerField(default=0)
    # Attempts that were interrupted because their workers died.
    interruptions = models.PositiveIntegerField(default=0)
    # The journal seq at which the valid output begins: everything after it is the answer. An
    # attempt that resumes a parked run does not change it.
    attempt_seq = models.BigIntegerField(null=True, blank=True)
    worker = models.CharField(max_length=200, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    # When the journal got the first text or thinking of the current attempt.
    first_token_at = models.DateTimeField(null=True, blank=True, editable=False)
    ended_at = models.DateTimeField(null=True, blank=True)
    # Usage of all attempts together, as far as providers reported it; `Outcome` has the keys.
    usage = models.JSONField(default=dict, blank=True)
    # Copies from the usage, for sums over many runs.
    input_tokens = models.GeneratedField(
        expression=tokens("input_tokens"), output_field=models.BigIntegerField(), db_persist=True
    )
    output_tokens = models.GeneratedField(
        expression=tokens("output_tokens"), output_field=models.BigIntegerField(), db_persist=True
    )
    # Why its answer ended; null before, and for runs of earlier versions.
    finish_reason = models.CharField(  # noqa: DJ001 - null: unknown
        max_length=16, choices=FinishReason.choices, null=True, blank=True
    )
    error_code = models.CharField(max_length=64, blank=True)
    error = models.TextField(blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ("session_id", "created_at", "id")
        indexes = [
            # GET /sessions/{id}/runs
            models.Index("session", "created_at", name="run_of_session"),
            # the next run of a session, and all that are not settled
            models.Index("session", condition=Q(status__in=RUN_OPEN), name="run_open"),
            # how many runs of an owner are running, and wait
            models.Index(
                "owner",
                "status",
                condition=Q(status__in=(RunStatus.QUEUED, RunStatus.RUNNING)),
                name="run_of_owner",
            ),
            # leases that have expired
            models.Index(
                "lease_expires_at", condition=Q(status=RunStatus.RUNNING), name="run_leases"
            ),
            # outcomes and sums of the runs of a period, from the index alone
            models.Index(
                "ended_at",
                condition=Q(ended_at__isnull=False),
                include=["status", "started_at", "first_token_at", "input_tokens", "output_tokens"],
                name="run_by_end",
            ),
            # the newest failures
            models.Index("ended_at", condition=Q(status=RunStatus.FAILED), name="run_failures"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=RunStatus.values), name="run_status_known"
            ),
            models.UniqueConstraint(
                fields=["session"],
                condition=Q(status__in=RUN_UNDER_WAY),
                name="run_one_under_way_per_session",
            ),
            models.CheckConstraint(
                condition=Q(status__in=RUN_TERMINAL, ended_at__isnull=False)
                | (~Q(status__in=RUN_TERMINAL) & Q(ended_at__isnull=True)),
                name="run_ended_iff_terminal",
            ),
            models.CheckConstraint(
                condition=Q(status=RunStatus.RUNNING, lease_expires_at__isnull=False)
                | (~Q(status=RunStatus.RUNNING) & Q(lease_expires_at__isnull=True)),
                name="run_lease_iff_running",
            ),
            # An incomplete answer is never reported as complete.
            models.CheckConstraint(
                condition=Q(finish_reason__isnull=True)
                | Q(status=RunStatus.SUCCEEDED, finish_reason__in=FINISHED)
                | Q(status=RunStatus.FAILED, finish_reason=FinishReason.ERROR)
                | Q(status=RunStatus.CANCELLED, finish_reason=FinishReason.CANCELLED),
                name="run_finish_reason_fits",
            ),
        ]
        triggers = [
            triggers.initial("run_begins_queued", RunStatus.QUEUED),
            triggers.transitions("run_transitions", pairs(RUN_TRANSITIONS)),
            triggers.nothing_pending("run_goes_on_when_answered"),
        ]

    def __str__(self) -> str:
        return f"{self.id} ({self.status}, attempt {self.attempt})"


class Checkpoint(models.Model):
    """A stored result of an attempt that the next one can use, numbered 1..n in its run.

    It is one message of the exchange with a model. A run without tool calls has none: its answer is
    in the transcript.
    """

    run = models.ForeignKey(
        "Run", on_delete=models.CASCADE, related_name="checkpoints", db_index=False
    )
    number = models.PositiveIntegerField()
    # JSON of the engine that made it.
    data = models.JSONField()
    # The seq of the session's newest event at that time: results of its tool calls follow.
    event_seq = models.BigIntegerField()

    class Meta:
        ordering = ("run_id", "number")
        constraints = [
            # the checkpoints of a run in order, and none twice
            models.UniqueConstraint("run", "number", name="checkpoint_number_once"),
        ]
        triggers = [triggers.unchangeable("checkpoint_unchangeable")]

    def __str__(self) -> str:
        return f"{self.run_id} checkpoint {self.number}"


@dataclass(frozen=True)
class Attempt:
    """One attempt of a run: the worker that holds it may write for the run."""

    session_id: str
    run_id: str
    number: int
    # The journal seq of its beginning; its output comes after.
    seq: int = 0
    # Whether it resumes a parked run, and the output of the run until then.
    continues: bool = False
    said: str = field(default="", compare=False, repr=False)
    # The session's mount plan at that time: a change of its profile applies to later attempts.
    mount_plan: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    # Whether its session was started by a call of another session.
    is_sub_session: bool = field(default=False, compare=False, repr=False)
    # What its claim has read of the transcript, as JSON; empty if that was not certain to be all.
    opening: str = field(default="", compare=False, repr=False)
