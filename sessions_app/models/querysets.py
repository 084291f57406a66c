"""The queries, by name."""

import re
from collections.abc import Sequence
from datetime import datetime
from functools import reduce
from itertools import product
from typing import TYPE_CHECKING, Any, Self

from django.db import models
from django.db.models import F, FilteredRelation, Q
from django.db.models.functions import Now

from amplifierd.common.callers import Everyone, Nobody, Owner, Visibility
from sessions_app.exceptions import SessionNotFound
from sessions_app.states import RUN_OPEN, RUN_UNDER_WAY, ActionStatus, RunStatus

if TYPE_CHECKING:
    from sessions_app.models import Session


# A part of an id that is long enough to search for.
ID_PIECE = re.compile("[0-9a-f]{4,}")


class Dated(models.QuerySet[Any]):
    """Rows that lists order by their creation: sessions and runs."""

    def newest_first(self) -> Self:
        """Order as lists show them; the id breaks ties, so that a cursor is exact."""
        return self.order_by("-created_at", "-id")

    def newer_than(self, created_at: datetime, row_id: str) -> Self:
        """Return the rows before that row in a list, newest first."""
        return self.filter(
            Q(created_at__gte=created_at) & (Q(created_at__gt=created_at) | Q(id__gt=row_id))
        )

    def older_than(self, created_at: datetime, row_id: str) -> Self:
        """Return the rows after that row in a list, newest first."""
        # The first condition makes PostgreSQL use an index on (created_at, id).
        return self.filter(
            Q(created_at__lte=created_at) & (Q(created_at__lt=created_at) | Q(id__lt=row_id))
        )


class Owned(Dated):
    """Rows that belong to an owner: sessions, and their pending actions."""

    owner_field = "owner"

    def visible_to(self, sees: Visibility) -> Self:
        match sees:
            case Everyone():
                return self
            case Owner(name):
                return self.filter(**{self.owner_field: name})
            case Nobody():
                return self.none()
        raise TypeError(f"{sees!r} is no Visibility.")


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
            raise SessionNotFound.of(session_id) from None

    def is_held(self, session_id: str) -> bool:
        """Return whether the session exists; if so, nobody can delete it in this transaction."""
        return self.select_for_update(no_key=True).filter(pk=session_id).exists()

    def unread(self) -> Self:
        """Return those that changed since they were last read."""
        return self.filter(Q(last_read_at__isnull=True) | Q(updated_at__gt=F("last_read_at")))

    def with_metadata(self, path: Sequence[str], meanings: Sequence[Any]) -> Self:
        """Return the sessions whose metadata has one of these values under this path.

        A path of several keys leads through nested objects, or is one key with dots in it.
        """
        paths = {tuple(path), (".".join(path),)}
        contained = Q()
        for keys, value in product(paths, meanings):
            # The object that has the value at the end of the path.
            nested = reduce(lambda inner, key: {key: inner}, reversed(keys), value)
            contained |= Q(metadata__contains=nested)
        return self.filter(contained)

    def lookup(self, text: str) -> Self:
        """Return the sessions that a person may mean by this text.

        The first of these that match: the id, the name, the beginning of the id, a part of either.
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
        """Return the sessions as the API shows them, without large columns.

        Each has `active_run_id` and `active_run_status`, and the time as `clock`.
        """
        # At most one: a constraint ensures it.
        active = FilteredRelation("runs", condition=Q(runs__status__in=RUN_UNDER_WAY))
        return self.defer("mount_plan", "settings_overrides", "summary").annotate(
            active=active,
            active_run_id=F("active__id"),
            active_run_status=F("active__status"),
            clock=Now(),
        )


class Numbered(models.QuerySet[Any]):
    """Rows that are numbered 1..n in their session: messages and events."""

    def in_session(self, session_id: str) -> Self:
        """Return those of one session, oldest first."""
        return self.filter(session_id=session_id).order_by("seq")

    def after(self, seq: int) -> Self:
        return self.filter(seq__gt=seq)

    def between(self, after: int | None, before: int | None) -> Self:
        """Return the rows strictly between two seqs; None is no bound."""
        bounds = {"seq__gt": after, "seq__lt": before}
        return self.filter(**{key: seq for key, seq in bounds.items() if seq is not None})


# The type checker accepts such a base class only if it has a name.
_MessageManager = models.Manager.from_queryset(Numbered)


class MessageManager(_MessageManager):
    """Messages without the column that only searches need."""

    def get_queryset(self) -> Numbered:
        # Of a manager that is made from a queryset, the stub does not know which one it returns.
        return super().get_queryset().defer("words")  # type: ignore[return-value]


class EventQuerySet(Numbered):
    """The journal."""


class RunQuerySet(Dated):
    """Runs."""

    def open(self) -> Self:
        """Return those that are not settled, in the order of their execution."""
        return self.filter(status__in=RUN_OPEN).order_by("message__seq")

    def claimed_by(self, run_id: str, attempt: int) -> Self:
        """Return the run if this attempt still holds it: the fencing token of every write."""
        return self.filter(id=run_id, attempt=attempt, status=RunStatus.RUNNING)

    def with_expired_lease(self) -> Self:
        """Return the runs whose lease has expired, by the clock of the database."""
        return self.filter(status=RunStatus.RUNNING, lease_expires_at__lt=Now())


class ActionQuerySet(Owned):
    """Pending actions, of one kind or all."""

    owner_field = "session__owner"

    def pending(self) -> Self:
        """Return those without an answer, the oldest first."""
        return self.filter(status=ActionStatus.PENDING).order_by("created_at", "id")

    def overdue(self) -> Self:
        """Return the pending ones that have expired, by the clock of the database."""
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
