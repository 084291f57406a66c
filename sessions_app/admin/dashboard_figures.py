"""The dashboard's figures: each is one query over an index, bounded by a time or by its result."""

from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any

from django.db.models import Count, Min, Q
from django.db.models.functions import Left

from sessions_app.models import Approval, Process, Run, Session
from sessions_app.models.process import ProcessKind
from sessions_app.services import processes
from sessions_app.states import RunStatus, SessionStatus

# Failures that are shown, and the characters of each reason.
FAILURES = 8
REASON = 300


def sessions_by_status() -> dict[str, int]:
    """Return how many sessions there are in each status."""
    counts = Session.objects.order_by().values_list("status").annotate(Count("id"))
    return {str(status): 0 for status in SessionStatus} | dict(counts)


def queue() -> dict[str, Any]:
    """Return how many runs wait, run and are parked, and since when the oldest waits."""
    waits = Q(status=RunStatus.QUEUED)
    return Run.objects.open().aggregate(
        waiting=Count("id", filter=waits),
        running=Count("id", filter=Q(status=RunStatus.RUNNING)),
        parked=Count("id", filter=Q(status=RunStatus.PARKED)),
        oldest=Min("created_at", filter=waits),
    )


def asked() -> dict[str, Any]:
    """Return how many approvals wait for an answer, and since when the oldest does."""
    pending = Approval.objects.pending().order_by()
    return pending.aggregate(count=Count("id"), oldest=Min("created_at"))


@dataclass
class Holder:
    """A worker, and what it holds."""

    name: str
    process: Process | None = None
    runs: int = 0
    # When the first of its leases runs out.
    lease: datetime | None = None


@dataclass(frozen=True)
class Machinery:
    """The processes that are there, of any daemon on this database."""

    workers: list[Holder] = field(default_factory=list)
    web: list[Process] = field(default_factory=list)

    @property
    def alive(self) -> int:
        """Return how many workers have told of themselves of late."""
        return sum(worker.process is not None for worker in self.workers)

    @property
    def streams(self) -> int:
        """Return how many streams of sessions are open, as the processes last told."""
        return sum(process.streams for process in self.web)

    @property
    def feeds(self) -> int:
        """Return how many feeds of all sessions are open."""
        return sum(process.feeds for process in self.web)


def machinery() -> Machinery:
    """Return who is there; workers that have gone stay as long as they hold a lease."""
    there = list(processes.alive())
    holders = {p.name: Holder(p.name, p) for p in there if p.kind == ProcessKind.WORKER}
    leases = Run.objects.filter(status=RunStatus.RUNNING).order_by().values_list("worker")
    for name, runs, lease in leases.annotate(Count("id"), Min("lease_expires_at")):
        holder = holders.setdefault(name, Holder(name))
        holder.runs, holder.lease = runs, lease
    web = [process for process in there if process.kind == ProcessKind.WEB]
    return Machinery(sorted(holders.values(), key=lambda holder: holder.name), web)


def failures() -> list[dict[str, Any]]:
    """Return the newest failures of runs and of sessions, with the beginning of their reasons."""
    runs = Run.objects.filter(status=RunStatus.FAILED).annotate(reason=Left("error", REASON))
    ended = Session.objects.filter(status=SessionStatus.FAILED)
    ended = ended.annotate(reason=Left("error_message", REASON))
    values = ("id", "ended_at", "reason")
    rows = runs.order_by("-ended_at").values(
        *values, "error_code", "session_id", "session__name", "session__profile_name"
    )[:FAILURES]
    others = ended.order_by("-ended_at").values(*values, "name", "profile_name")[:FAILURES]
    return sorted([*rows, *others], key=itemgetter("ended_at"), reverse=True)[:FAILURES]
