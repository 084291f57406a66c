"""The work: who does it, what waits for it, and what nobody holds any more."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Max, Min, Q
from django.db.models.functions import Now
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateWorker

from amplifierd.doctor import daemon
from amplifierd.doctor.findings import Finding, error, ok, warning
from sessions_app.models import Run
from sessions_app.states import RunStatus

# Seconds after which a worker's heart has stopped; it beats every 10.
SILENCE = 35
# Seconds for which a run may wait before it is worth a word.
LONG = 60.0


def alive() -> int:
    """Return how many workers live, by the clock of the database."""
    recently = Now() - timedelta(seconds=SILENCE)
    return ProcrastinateWorker.objects.filter(last_heartbeat__gt=recently).count()


def workers() -> Iterator[Finding]:
    """Look who executes runs."""
    living, served = alive(), daemon.noted()
    if living:
        held = _runs().get("running") or 0
        yield ok("workers", f"{living} alive, {held} runs under way")
    elif served:
        yield error(
            "workers",
            f"none is alive, though the daemon runs (pid {served['pid']})",
            "Read what it says on its terminal: `serve` starts a dead worker anew.",
        )
    else:
        yield warning(
            "workers",
            "none is alive: messages are accepted, and wait",
            "Start the daemon with `make run`, or `manage.py run_worker`.",
        )


def queue() -> Iterator[Finding]:
    """Look what waits, and for how long."""
    waiting = _runs()
    seconds = _since(waiting["oldest"])
    says = f"{waiting['queued']} queued"
    if not waiting["queued"]:
        yield ok("queue", "nothing waits")
    elif seconds <= LONG:
        yield ok("queue", f"{says}, the oldest for {seconds:.0f} s")
    elif alive():
        todo = "Add workers (AMPLIFIERD_WORKERS) or raise AMPLIFIERD_CONCURRENCY."
        yield warning("queue", f"{says}, the oldest for {_long(seconds)}", todo)
    else:
        todo = "Start the daemon with `make run`: nobody executes them."
        yield error("queue", f"{says}, the oldest for {_long(seconds)}", todo)


def leases() -> Iterator[Finding]:
    """Look for runs whose worker has gone without a word."""
    found = Run.objects.expired().aggregate(
        count=Count("id"), last=Max("worker"), first=Min("lease_expires_at")
    )
    if not found["count"]:
        yield ok("leases", "none has expired")
        return
    seconds = _since(found["first"])
    says = f"{found['count']} expired, one of {found['last']}, for {_long(seconds)}"
    if not alive():
        yield error("leases", says, "Start the daemon with `make run`: it takes them up again.")
    elif seconds > settings.LEASE_SECONDS:
        yield error("leases", says, "Restart the workers: those that live take nothing up.")
    else:
        todo = f"Wait: a worker takes them up within {settings.LEASE_SECONDS // 3 + 1} s."
        yield warning("leases", says, todo)


def _runs() -> dict[str, Any]:
    """Return how many runs wait and are under way, and since when the oldest one waits."""
    queued, running = Q(status=RunStatus.QUEUED), Q(status=RunStatus.RUNNING)
    # The index of open runs is entered by the two statuses.
    found = Run.objects.filter(status__in=("queued", "running"))
    return found.aggregate(
        queued=Count("id", filter=queued),
        running=Count("id", filter=running),
        oldest=Min("created_at", filter=queued),
    )


def _since(then: datetime | None) -> float:
    return max(0.0, (timezone.now() - then).total_seconds()) if then else 0.0


def _long(seconds: float) -> str:
    """Return a time in the largest unit that fits."""
    for length, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
