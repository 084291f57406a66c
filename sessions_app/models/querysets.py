"""What is read, by name."""

import re
from collections.abc import Sequence
from datetime import datetime
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, Self

from django.db import models
from django.db.models import F, FilteredRelation, Q
from django.db.models.functions import Now

from amplifierd.common.callers import Everyone, Nobody, Owner, Visibility
from sessions_app.exceptions import SessionNotFound
from sessions_app.states import RUN_OPEN, RUN_UNDER_WAY, ActionStatus, RunStatus

if TYPE_CHECKING:
    from sessions_app.models import Approval, Event, Message, Run, Session  # noqa: F401


# A part of a session's id that is long enough to mean it.
ID_PIECE = re.compile("[0-9a-f]{4,}")


class Dated(models.QuerySet[Any]):
    """Rows that are listed by when they were made: sessions and runs."""

    def newest_first(self) -> Self:
        """Order as lists show them; the id breaks ties, so that a cursor is exact."""
        return self.order_by("-created_at", "-id")

    def newer_than(self, created_at: datetime, row_id: str) -> Self:
        """Return what comes before that row in a list, newest first."""
        return self.filter(
            Q(created_at__gte=created_at) & (Q(created_at__gt=created_at) | Q(id__gt=row_id))
        )

    def older_than(self, created_at: datetime, row_id: str) -> Self:
        """Return what follows that row in a list, newest first."""
        # The first condition is the one that an index on (created_at, id) is entered by.
        return self.filter(
            Q(created_at__lte=created_at) & (Q(created_at__lt=created_at) | Q(id__lt=row_id))
        )


class Owned(Dated):
    """Rows that belong to an owner: sessions, and what waits in them for an answer."""

    owner_field = "owner"

    def visible_to(self, sees: Visibility) -> Self:
        """Return the rows that a caller may see."""
        match sees:
            case Everyone():
                return self
            case Owner(name):
                return self.filter(**{self.owner_field: name})
            case Nobody():
                return self.none()
        raise TypeError(f"Say whose rows are visible, not {sees!r}.")


class SessionQuerySet(Owned):
    """Sessions."""

    def lock(self, session_id: str, *, whole: bool = False) -> "Session":
        """Return the session, locked until the transaction ends; raise SessionNotFound.

        This lock orders everything that happens to one session: whoever writes for a session locks
        its row first, its run's row after that. One order for all, so that no two can wait for
        each other. To lock it `whole` is for its deletion: it waits here for transactions that
        refer to the session or copy it. If the deletion waited for them later, it could wait in a
        circle.
        """
        try:
            # Otherwise not the key: rows that only refer to the session need not wait.
            return self.select_for_update(no_key=not whole).get(pk=session_id)
        except self.model.DoesNotExist:
            raise SessionNotFound(f"There is no session {session_id!r}.") from None

    def is_held(self, session_id: str) -> bool:
        """Tell whether the session is among these; if so, nobody deletes it in this transaction."""
        return self.select_for_update(no_key=True).filter(pk=session_id).exists()

    def unread(self) -> Self:
        """Return those to which something was added since they were last read."""
        return self.filter(Q(last_read_at__isnull=True) | Q(updated_at__gt=F("last_read_at")))

    def with_metadata(self, path: Sequence[str], meanings: Sequence[Any]) -> Self:
        """Return the sessions whose metadata has one of these values there.

        A path of several keys leads through nested objects; a key may also have dots in it.
        """
        paths = {tuple(path), (".".join(path),)}
        contained = [_nest(keys, value) for keys in paths for value in meanings]
        return self.filter(reduce(or_, (Q(metadata__contains=part) for part in contained)))

    def lookup(self, text: str) -> Self:
        """Return the sessions that a person may mean by this text.

        Those that fit best: by their id, their name, the beginning of the id, a part of either.
        """
        beginning = "session_" + text.removeprefix("session_")
        part = Q(name__icontains=text)
        if ID_PIECE.fullmatch(text):
            part |= Q(id__contains=text)
        for fit in (Q(id=beginning), Q(name=text), Q(id__startswith=beginning)):
            if (found := self.filter(fit)).exists():
                return found
        return self.filter(part)

    def with_active_run(self) -> Self:
        """Return the sessions as the API shows them: `active_run_id` added, large columns left.

        `active_run_status` is added as well.
        """
        # At most one: PostgreSQL sees to it.
        active = FilteredRelation("runs", condition=Q(runs__status__in=RUN_UNDER_WAY))
        return self.defer("mount_plan", "settings_overrides", "summary").annotate(
            active=active, active_run_id=F("active__id"), active_run_status=F("active__status")
        )


class Numbered(models.QuerySet[Any]):
    """Rows that are numbered 1..n in their session: messages and events."""

    def in_session(self, session_id: str) -> Self:
        """Return those of one session, oldest first."""
        return self.filter(session_id=session_id).order_by("seq")

    def after(self, seq: int) -> Self:
        """Return those that follow."""
        return self.filter(seq__gt=seq)

    def between(self, after: int | None, before: int | None) -> Self:
        """Return those that lie strictly between two seqs; None is no bound."""
        bounds = {"seq__gt": after, "seq__lt": before}
        return self.filter(**{key: seq for key, seq in bounds.items() if seq is not None})


class MessageQuerySet(Numbered):
    """The transcript."""

    def newest(self, count: int) -> list["Message"]:
        """Return the newest `count`, oldest first."""
        return list(self.order_by("-seq")[:count])[::-1]


# The type checker knows such a base class by a name only.
_MessageManager = models.Manager.from_queryset(MessageQuerySet)


class MessageManager(_MessageManager):
    """Messages without the words that only searching needs."""

    def get_queryset(self) -> MessageQuerySet:
        """Return all messages; their words are left in the database."""
        # Of a manager that is made from a queryset, the stub does not know which one it returns.
        return super().get_queryset().defer("words")  # type: ignore[return-value]


class EventQuerySet(Numbered):
    """The journal."""


class RunQuerySet(Dated):
    """Runs."""

    def open(self) -> Self:
        """Return those that are not settled, in the order in which they run."""
        return self.filter(status__in=RUN_OPEN).order_by("message__seq")

    def under_way(self, session_id: str) -> "Run | None":
        """Return the session's run that has begun and is not settled."""
        return self.filter(session_id=session_id, status__in=RUN_UNDER_WAY).first()

    def waiting(self) -> Self:
        """Return the parked runs that wait for a person, or for a sub-session."""
        return self.filter(
            pending_actions__status=ActionStatus.PENDING, status=RunStatus.PARKED
        ).distinct()

    def next_queued(self, session_id: str) -> "Run | None":
        """Return the run that the session's next worker takes."""
        return (
            self.filter(session_id=session_id, status=RunStatus.QUEUED)
            .order_by("message__seq")
            .first()
        )

    def claimed_by(self, run_id: str, attempt: int) -> Self:
        """Return the run if this attempt of it still holds: the fence of every write for it."""
        return self.filter(id=run_id, attempt=attempt, status=RunStatus.RUNNING)

    def with_expired_lease(self) -> Self:
        """Return the runs whose lease has run out, by the clock of the database."""
        return self.filter(status=RunStatus.RUNNING, lease_expires_at__lt=Now())


class ActionQuerySet(Owned):
    """Pending actions, of one kind or all."""

    owner_field = "session__owner"

    def pending(self) -> Self:
        """Return those that wait for an answer, the oldest first."""
        return self.filter(status=ActionStatus.PENDING).order_by("created_at", "id")

    def overdue(self) -> Self:
        """Return those that nobody has answered in time, by the clock of the database."""
        return self.pending().filter(expires_at__lt=Now())


_ActionManager = models.Manager.from_queryset(ActionQuerySet)


class KindManager(_ActionManager):
    """Pending actions of one kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def get_queryset(self) -> ActionQuerySet:
        # As above.
        return super().get_queryset().filter(kind=self.kind)  # type: ignore[return-value]


def _nest(path: Sequence[str], value: Any) -> Any:
    """Return the object that has the value at the end of the path."""
    return reduce(lambda inner, key: {key: inner}, reversed(path), value)
