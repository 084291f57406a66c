"""Sessions: created, taken from status to status, renamed, deleted, cleaned up.

A status changes together with its event, or not at all.
"""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Greatest, Now

from amplifierd.common.callers import Nobody, Visibility
from amplifierd.common.formats import stamp
from amplifierd.common.statements import allow_statements, fetch_prepared
from profiles_app.models import Profile
from profiles_app.services.directories import find_default_profile, require_directory
from profiles_app.services.mount_plans import build_mount_plan
from profiles_app.services.profiles import resolve_profile
from sessions_app.events import EventType, SessionDeletedHint, SessionUpdatedHint
from sessions_app.exceptions import InvalidTransition, MetadataTooLarge, SessionNotFound
from sessions_app.models import Checkpoint, Event, Message, Run, Session, SubSessionCall
from sessions_app.models.querysets import SessionQuerySet
from sessions_app.models.triggers import PURGE_SETTING
from sessions_app.services import hints, journal, owner_limits, runs, statements
from sessions_app.services.journal import Entry
from sessions_app.states import SESSION_TERMINAL, SESSION_TRANSITIONS, SessionStatus

# Events of a session that one statement deletes, however short its time is limited.
SHORT_HISTORY = 1000


def create(
    *,
    amplified_dir: str | None = None,
    profile_name: str | None = None,
    parent_session_id: str | None = None,
    settings_overrides: dict[str, Any] | None = None,
    name: str | None = None,
    metadata: dict[str, Any] | None = None,
    owner: str = "",
    sees: Visibility = Nobody(),
) -> Session:
    """Create a session in `created`, with its own copy of the mount plan.

    Without a directory it is the root, or the caller's own; without a profile the directory's
    default is taken. Raises what profiles_app refuses
    (directory or profile), also a directory that the caller may not read, OwnerLimitReached, and
    SessionNotFound for a parent that is unknown, or that the caller may not see.
    """
    directory = require_directory(amplified_dir, sees)
    profile = resolve_profile(profile_name or find_default_profile(directory))
    session = Session(
        name=name,
        owner=owner,
        amplified_dir=directory.relative_path,
        profile_name=str(profile),
        parent_id=parent_session_id,
        settings_overrides=settings_overrides or {},
        metadata=metadata or {},
    )
    # The statement that inserts it writes the time, into the plan as well.
    session.mount_plan = _build_plan(session, profile, datetime.min.replace(tzinfo=UTC))
    if parent_session_id is None:
        _insert(session)
        return session
    with transaction.atomic():
        if not Session.objects.visible_to(sees).is_held(parent_session_id):
            raise SessionNotFound(f"There is no parent session {parent_session_id!r}.")
        _insert(session)
    return session


def _build_plan(session: Session, profile: Profile, created_at: datetime) -> dict[str, Any]:
    return build_mount_plan(
        profile,
        session_id=session.id,
        parent_session_id=session.parent_id,
        amplified_dir=session.amplified_dir,
        settings_overrides=session.settings_overrides,
        created_at=created_at,
    )


def _insert(session: Session) -> None:
    """Insert a new session, and announce it after the commit."""
    plain = ("id", "name", "owner", "profile_name", "amplified_dir", "parent_id")
    values = {name: getattr(session, name) for name in plain}
    for name in ("settings_overrides", "mount_plan", "metadata"):
        values[name] = json.dumps(getattr(session, name), ensure_ascii=False)
    values |= {"status": str(session.status), **owner_limits.parameters()}
    while not (created := fetch_prepared(statements.INSERT_SESSION, values)):
        # Unless this raises there is room again meanwhile.
        owner_limits.require_room(session.owner, sessions=1)
    session.created_at = session.updated_at = created[0][0].astimezone(UTC)
    session.mount_plan["session"]["createdAt"] = stamp(session.created_at)
    hints.send_created(session)


def start(session_id: str) -> None:
    """Take a session from created to active: from now on it takes messages."""
    _transition(session_id, SessionStatus.ACTIVE)


def complete(session_id: str) -> None:
    """End an active session whose work is done."""
    _transition(session_id, SessionStatus.COMPLETED)


def fail(session_id: str, error_message: str, error_details: dict[str, Any] | None = None) -> None:
    """End an active session because of an error, which it keeps."""
    _transition(session_id, SessionStatus.FAILED, error_message, error_details)


def terminate(session_id: str) -> None:
    """End an active session early."""
    _transition(session_id, SessionStatus.TERMINATED)


def update(session_id: str, changes: dict[str, Any]) -> Session:
    """Change a session's name, and merge into its metadata; a metadata value of None removes.

    `changes` has `name`, `metadata` or both. Raises SessionNotFound, or MetadataTooLarge.
    """
    with transaction.atomic():
        session = Session.objects.lock(session_id)
        if "name" in changes:
            session.name = changes["name"]
        if "metadata" in changes:
            merged = {**session.metadata, **changes["metadata"]}
            kept = {key: value for key, value in merged.items() if value is not None}
            size = len(json.dumps(kept, ensure_ascii=False).encode())
            # What is too large already, by an earlier limit, may still become smaller.
            if size > settings.METADATA_BYTES and changes["metadata"].keys() & kept.keys():
                raise MetadataTooLarge.beyond(settings.METADATA_BYTES)
            session.metadata = kept
        session.save(update_fields=["name", "metadata"])
        # The end of a session is the end of its journal.
        if session.is_terminal:
            named = {"name": session.name} if "name" in changes else {}
            hints.send(SessionUpdatedHint, session_id, session.owner, **named)
        else:
            fields = {key: getattr(session, key) for key in changes}
            journal.append(session_id, [Entry(EventType.SESSION_UPDATED, fields)])
            session.refresh_from_db()
    return session


def change_profile(session_id: str, profile_name: str) -> Session:
    """Give an active session another profile, from its next attempt on; its overrides stay.

    A run that is running goes on with what it began with. Raises SessionNotFound,
    InvalidTransition (not active), ProfileNotFound, or InvalidDefinition where the overrides do
    not fit the profile.
    """
    with transaction.atomic():
        session = Session.objects.lock(session_id)
        if session.status != SessionStatus.ACTIVE:
            raise InvalidTransition.not_active(session.status, "changes its profile")
        profile = resolve_profile(profile_name)
        session.profile_name = str(profile)
        session.mount_plan = _build_plan(session, profile, session.created_at)
        session.save(update_fields=["profile_name", "mount_plan"])
        changed = Entry(EventType.SESSION_UPDATED, {"profileName": session.profile_name})
        session.last_event_seq = journal.append(session_id, [changed]).last_event_seq
    return session


def mark_read(session_id: str) -> Session:
    """Mark a session as read up to now; nothing is written if nothing is unread.

    Read marks are not in the journal: only a hint says that they changed. Raises SessionNotFound.
    """
    unread = Session.objects.filter(pk=session_id).unread()
    # Not before what is there, whatever the clock of the process that wrote it said.
    changed = unread.update(last_read_at=Greatest(Now(), F("updated_at")))
    return _get_marked(session_id, is_changed=bool(changed))


def mark_unread(session_id: str) -> Session:
    """Mark a session as unread, as if nobody had ever read it. Raises SessionNotFound."""
    read = Session.objects.filter(pk=session_id, last_read_at__isnull=False)
    return _get_marked(session_id, is_changed=bool(read.update(last_read_at=None)))


def _get_marked(session_id: str, is_changed: bool) -> Session:
    session = Session.objects.with_active_run().filter(pk=session_id).first()
    if session is None:
        raise SessionNotFound.of(session_id)
    if is_changed:
        unread = session.is_unread
        hints.send(SessionUpdatedHint, session_id, session.owner, isUnread=unread)
    return session


def delete(session_id: str) -> None:
    """Delete a session with its messages, runs and journal; its children stay, without a parent.

    Works in any state. Its runs are cancelled first, in a transaction of their own: a long history
    takes its time to go, and a worker that had something to write for it would wait as long, with
    all else that it executes. Its streams end. Raises SessionNotFound.
    """
    deleted = []
    # One statement is enough unless the history is long, or another session has to do with it.
    if not connection.in_atomic_block:
        parameters = {"session": session_id, "most": SHORT_HISTORY}
        # A constraint fails if something that refers to it was added meanwhile.
        with suppress(IntegrityError):
            deleted = fetch_prepared(statements.DELETE, parameters)
    if deleted:
        [(last_event_seq, owner)] = deleted
        return _announce_deletion(session_id, last_event_seq, owner)
    runs.cancel_open(session_id)
    end_sub_sessions(session_id)
    with transaction.atomic():
        purge(Session.objects.lock(session_id, whole=True))


def _announce_deletion(session_id: str, last_event_seq: int, owner: str) -> None:
    journal.notify({session_id: last_event_seq + 1})
    hints.send(SessionDeletedHint, session_id, owner)


def end_sub_sessions(session_id: str) -> None:
    """End the sub-sessions that work for a session: once it is deleted, nobody else would."""
    calls = SubSessionCall.objects.filter(
        session_id=session_id, sub_session__status=SessionStatus.ACTIVE
    )
    for child_id in list(calls.values_list("sub_session_id", flat=True)):
        # Else somebody else has ended or deleted it.
        with suppress(InvalidTransition, SessionNotFound):
            terminate(child_id)


# Seconds for each statement that deletes a long history.
PURGE_SECONDS = 600.0


def purge(session: Session) -> None:
    """Delete a session that is locked whole, in the caller's transaction.

    A long history takes its time: what limits the statements of requests does not count here.
    """
    allow_statements(PURGE_SECONDS)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config(%s, %s, true), set_config('statement_timeout', '0', true)",
            [PURGE_SETTING, session.id],
        )
    Checkpoint.objects.filter(run__session_id=session.id)._raw_delete("default")
    for model in (Event, Message):
        model.objects.filter(session=session)._raw_delete("default")
    # Late, because the children go on: nobody who writes for them waits for the history to go.
    children = Session.objects.filter(parent=session)
    # By id: the order of every lock.
    list(children.select_for_update(no_key=True).order_by("pk").values_list("pk"))
    children.update(parent=None)
    runs.forget_actions(session.id)
    Run.objects.filter(session=session)._raw_delete("default")
    Session.objects.filter(pk=session.id)._raw_delete("default")
    _announce_deletion(session.id, session.last_event_seq, session.owner)


# Days after which a cleanup removes sessions, and at most: no session is a hundred years old.
CLEANUP_DAYS, MOST_DAYS = 30, 36_500
# Statuses of sessions that a cleanup removes; never an active one.
REMOVABLE = (str(SessionStatus.CREATED), *(str(status) for status in SESSION_TERMINAL))
# Sessions that a cleanup looks for at a time.
BATCH = 500


def find_removable(
    sees: Visibility, older_than_days: int = CLEANUP_DAYS, status: str | None = None
) -> SessionQuerySet:
    """Return the sessions that ended so many days ago, or that were created then and never started.

    Only those in `status`, if one is given, and of what the caller `sees`.
    """
    cutoff = Now() - timedelta(days=older_than_days)
    old = Q(status__in=SESSION_TERMINAL, ended_at__lt=cutoff) | Q(status=SessionStatus.CREATED)
    # What ended before then was created before then: the index on status begins with that.
    found = Session.objects.visible_to(sees).filter(
        old, status__in=[status] if status else REMOVABLE, created_at__lt=cutoff
    )
    return found.defer("mount_plan", "settings_overrides", "metadata", "error_details")


def remove(found: SessionQuerySet) -> int:
    """Delete what was found, each session in a transaction of its own; return how many.

    What is done is done, whatever comes in between. One that was started, touched or deleted
    meanwhile is left to whoever did so; children of what is removed stay, without a parent.
    """
    ids, last, removed = found.order_by("id").values_list("id", flat=True), "", 0
    while batch := list(ids.filter(id__gt=last)[:BATCH]):
        for session_id in batch:
            # What it gave to sub-sessions has ended with it, even if no worker has come to that.
            end_sub_sessions(session_id)
            with transaction.atomic():
                # Whoever copies it holds it, and is not waited for.
                free = found.select_for_update(skip_locked=True)
                if session := free.filter(pk=session_id).first():
                    purge(session)
                    removed += 1
        last = batch[-1]
    return removed


def _transition(
    session_id: str,
    target: SessionStatus,
    error_message: str | None = None,
    error_details: dict[str, Any] | None = None,
) -> None:
    """Make one step of the table of transitions, with its event; of racing callers one wins.

    An end settles the session's open runs first, so that their outcome is told before it.
    """
    is_end = target in SESSION_TERMINAL
    data: dict[str, Any] = {"status": str(target)}
    if is_end:
        data |= {"errorMessage": error_message, "errorDetails": error_details}
    entry = Entry(EventType.SESSION_ENDED if is_end else EventType.SESSION_STARTED, data)
    values: dict[str, Any] = {
        "status": str(target),
        "is_end": is_end,
        "error_message": error_message,
        "error_details": None if error_details is None else journal.encode(error_details),
        "from": [str(source) for source, to in SESSION_TRANSITIONS.items() if target in to],
    }
    if journal.add_one(statements.MOVE, session_id, entry, **values):
        return
    with transaction.atomic():
        session = Session.objects.lock(session_id)
        if target not in SESSION_TRANSITIONS[session.status]:
            raise InvalidTransition.between(session.status, target)
        if is_end:
            runs.cancel_open(session_id)
        if not journal.add_one(statements.MOVE, session_id, entry, **values):
            raise RuntimeError(f"Session {session_id} is locked and has an open run.")
