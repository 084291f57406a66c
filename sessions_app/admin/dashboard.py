"""The console's first page: current work, usage and failures."""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.db.models import Count, F, Min, Q
from django.db.models.functions import Left
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect

from amplifierd.common.callers import Everyone
from amplifierd.common.errors import ServiceError
from amplifierd.common.statements import read_clock
from sessions_app.admin.rendering import page_url
from sessions_app.models import Approval, Process, Run, Session
from sessions_app.models.daemon import ProcessKind
from sessions_app.services import processes, sessions
from sessions_app.states import RunStatus, SessionStatus

# Waits are counted in classes, each so many times as long as the one before: percentiles are exact
# to 2.5 %, without sorting.
RATIO = 1.05
# Seconds of the shortest wait that has its own class.
LEAST = 0.001
# A series is cached for so many times as long as its query took: all dashboards together use at
# most a tenth of a processor for it.
SPARED = 10


@dataclass(frozen=True)
class TimeRange:
    """The time that the dashboard covers, in steps."""

    name: str
    label: str
    step: timedelta
    steps: int
    # Seconds for which its series may be shown again without being asked for.
    kept: float

    @property
    def hours(self) -> float:
        return self.step * self.steps / timedelta(hours=1)

    @property
    def unit(self) -> str:
        """Return a step in words: 15 min, 2 h."""
        minutes = int(self.step / timedelta(minutes=1))
        return f"{minutes // 60} h" if minutes >= 60 else f"{minutes} min"


WINDOWS = {
    window.name: window
    for window in (
        TimeRange("1h", "1 hour", timedelta(minutes=1), 60, 0.5),
        TimeRange("24h", "24 hours", timedelta(minutes=15), 96, 1),
        TimeRange("7d", "7 days", timedelta(hours=2), 84, 5),
        TimeRange("30d", "30 days", timedelta(hours=6), 120, 15),
    )
}
USUAL = WINDOWS["24h"]


@dataclass(frozen=True)
class SeriesStep:
    """The outcomes of the runs that ended in one step of a window, or in the whole window."""

    at: datetime | None
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    # Seconds from the claim to the first token: the middle one, and of 20 the second longest.
    p50: float | None = None
    p95: float | None = None

    @property
    def runs(self) -> int:
        return self.succeeded + self.failed + self.cancelled

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def success(self) -> float | None:
        """Return how many of a hundred that were not cancelled succeeded."""
        decided = self.succeeded + self.failed
        return 100 * self.succeeded / decided if decided else None


@dataclass(frozen=True)
class Series:
    """The steps of a window, oldest first, and their total."""

    steps: list[SeriesStep]
    total: SeriesStep


SERIES = """
SELECT date_bin(%(step)s, ended_at, 'epoch'),
    ceil(ln(greatest(date_part('epoch', first_token_at - started_at), %(least)s)) / %(ratio)s)::int,
    count(*) FILTER (WHERE status = 'succeeded'),
    count(*) FILTER (WHERE status = 'failed'),
    count(*) FILTER (WHERE status = 'cancelled'),
    sum(input_tokens)::bigint, sum(output_tokens)::bigint
FROM sessions_app_run
WHERE ended_at >= %(since)s
GROUP BY 1, 2
"""


def read_series(window: TimeRange) -> Series:
    """Return what became of the runs of a window; it may be a little older than now."""
    key = f"dashboard:{window.name}"
    found = cache.get(key)
    if found is not None:
        return found
    began = time.monotonic()
    size = int(window.step.total_seconds())
    # The last step is the one that is under way.
    last = int(read_clock().timestamp()) // size
    numbers = range(last - window.steps + 1, last + 1)
    times = [datetime.fromtimestamp(number * size, UTC) for number in numbers]
    given: dict[str, Any] = {
        "step": window.step,
        "since": times[0],
        "least": LEAST,
        "ratio": math.log(RATIO),
    }
    total, sums = StepSum(), defaultdict[datetime, StepSum](StepSum)
    with connection.cursor() as cursor:
        cursor.execute(SERIES, given)
        for at, wait, *columns in cursor.fetchall():
            sums[at].add(wait, columns)
            total.add(wait, columns)
    steps = [sums[at].make_step(at) if at in sums else SeriesStep(at) for at in times]
    found = Series(steps, total.make_step(None))
    cache.set(key, found, max(window.kept, SPARED * (time.monotonic() - began)))
    return found


@dataclass
class StepSum:
    """The sums of a step: the columns of the query, and the numbers of runs by their wait."""

    sums: list[int] = field(default_factory=lambda: [0] * 5)
    waits: Counter[int] = field(default_factory=Counter)

    def add(self, wait: int | None, columns: Sequence[int]) -> None:
        self.sums = [one + other for one, other in zip(self.sums, columns, strict=True)]
        if wait is not None:
            self.waits[wait] += sum(columns[:3])

    def make_step(self, at: datetime | None) -> SeriesStep:
        succeeded, failed, cancelled, sent, received = self.sums
        waits = _percentile(self.waits, 0.5), _percentile(self.waits, 0.95)
        return SeriesStep(at, succeeded, failed, cancelled, sent, received, *waits)


def _percentile(waits: Counter[int], share: float) -> float | None:
    """Return the wait in seconds that this share of all does not exceed; None without any."""
    left = share * waits.total()
    for wait in sorted(waits):
        left -= waits[wait]
        if left <= 0:
            return RATIO ** (wait - 0.5)
    return None


# Failures that are shown, and the characters of each reason.
FAILURES = 8
REASON = 300


def count_sessions() -> dict[str, int]:
    counts = Session.objects.order_by().values_list("status").annotate(Count("id"))
    return {str(status): 0 for status in SessionStatus} | dict(counts)


def count_queue() -> dict[str, Any]:
    """Return how many runs wait, run and are parked, and since when the oldest waits."""
    waits = Q(status=RunStatus.QUEUED)
    return Run.objects.open().aggregate(
        waiting=Count("id", filter=waits),
        running=Count("id", filter=Q(status=RunStatus.RUNNING)),
        parked=Count("id", filter=Q(status=RunStatus.PARKED)),
        oldest=Min("created_at", filter=waits),
    )


def count_approvals() -> dict[str, Any]:
    """Return how many approvals wait for an answer, and since when the oldest does."""
    pending = Approval.objects.pending().order_by()
    return pending.aggregate(count=Count("id"), oldest=Min("created_at"))


@dataclass
class WorkerState:
    """A worker, with the leases that it holds."""

    name: str
    process: Process | None = None
    runs: int = 0
    # When the first of its leases runs out.
    lease: datetime | None = None


@dataclass(frozen=True)
class Processes:
    """The running processes of all daemons on this database."""

    workers: list[WorkerState] = field(default_factory=list)
    web: list[Process] = field(default_factory=list)

    @property
    def alive(self) -> int:
        return sum(worker.process is not None for worker in self.workers)

    @property
    def streams(self) -> int:
        """The number of open streams of sessions in the latest reports of the processes."""
        return sum(process.streams for process in self.web)

    @property
    def feeds(self) -> int:
        return sum(process.feeds for process in self.web)


def find_processes() -> Processes:
    """Return the running processes, and workers that are gone but still hold a lease."""
    there = list(processes.alive())
    holders = {p.name: WorkerState(p.name, p) for p in there if p.kind == ProcessKind.WORKER}
    leases = Run.objects.filter(status=RunStatus.RUNNING).order_by().values_list("worker")
    for name, runs, lease in leases.annotate(Count("id"), Min("lease_expires_at")):
        holder = holders.setdefault(name, WorkerState(name))
        holder.runs, holder.lease = runs, lease
    web = [process for process in there if process.kind == ProcessKind.WEB]
    return Processes(sorted(holders.values(), key=lambda holder: holder.name), web)


def find_failures() -> list[dict[str, Any]]:
    """Return the newest failures of runs and of sessions, with the beginning of their reasons.

    Those of runs have a `run_id` and an `error_code`.
    """
    runs = Run.objects.filter(status=RunStatus.FAILED).order_by("-ended_at")
    rows = runs.values(
        "ended_at",
        "session_id",
        "error_code",
        run_id=F("id"),
        name=F("session__name"),
        profile=F("session__profile_name"),
        reason=Left("error", REASON),
    )[:FAILURES]
    ended = Session.objects.filter(status=SessionStatus.FAILED).order_by("-ended_at")
    others = ended.values(
        "ended_at",
        "name",
        session_id=F("id"),
        profile=F("profile_name"),
        reason=Left("error_message", REASON),
    )[:FAILURES]
    return sorted([*rows, *others], key=itemgetter("ended_at"), reverse=True)[:FAILURES]


# What the scripts draw, of each step.
DRAWN = ("succeeded", "failed", "cancelled", "input_tokens", "output_tokens", "p50", "p95")


def build_context(request: HttpRequest) -> dict[str, Any]:
    """Return the context of the template; empty for users who may not see sessions."""
    if not request.user.has_perm("sessions_app.view_session"):
        return {}
    window = WINDOWS.get(request.GET.get("window", ""), USUAL)
    series, statuses = read_series(window), count_sessions()
    rows = [asdict(step) for step in series.steps]
    return {
        "window": window,
        "windows": WINDOWS.values(),
        "statuses": statuses,
        "session_count": sum(statuses.values()),
        "total": series.total,
        "per_hour": series.total.runs / window.hours,
        "steps": [step for step in reversed(series.steps) if step.runs],
        # The columns of the charts.
        "drawn": {
            "at": [int(step.at.timestamp()) for step in series.steps if step.at],
            **{name: [row[name] for row in rows] for name in DRAWN},
        },
        "queue": count_queue(),
        "pending_approvals": count_approvals(),
        "processes": find_processes(),
        "now": read_clock(),
        "failures": find_failures(),
        # For the first steps: the URL of the API, and whether it requires a key.
        "api": request.build_absolute_uri(f"{settings.PREFIX}/api/v1"),
        "needs_key": settings.REQUIRE_KEYS,
        "may_try": request.user.has_perm("sessions_app.change_session"),
    }


def try_it(request: HttpRequest, admin: Any) -> HttpResponse:
    """Make a session with the usual profile, start it and show it; `admin` is that of sessions."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    if not request.user.has_perm("sessions_app.change_session"):
        raise PermissionDenied
    try:
        made = sessions.create(name="First session", sees=Everyone())
        sessions.start(made.id)
    except ServiceError as error:
        messages.error(request, f"No session was made. {error}")
        return HttpResponseRedirect("../")
    admin.log_addition(request, made, "Made to try it.")
    return HttpResponseRedirect(page_url("session", made.id))
