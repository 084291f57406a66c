"""Reading the journal for streams, as frames in the format of text/event-stream.

Plain SQL on connections of their own, never the ORM: Django's async ORM would hold a connection
and a thread for every stream.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg
from django.conf import settings
from psycopg.pq import TransactionStatus

from amplifierd.common.callers import Visibility, sql_visibility
from amplifierd.common.deadlines import AsyncConnection, StatementTimeout
from amplifierd.common.errors import DATABASE_UNAVAILABLE
from amplifierd.common.formats import dump_line, stamp
from amplifierd.common.text import escape_line_ends
from sessions_app import connections
from sessions_app.events import ApprovalRequired, Frame, Keepalive
from sessions_app.exceptions import StreamUnavailable

logger = logging.getLogger(__name__)

# What one read takes of one journal at most; one event is always taken, however large it is.
PAGE_FRAMES = 500
PAGE_BYTES = 64 * 1024
# Sessions of one tree that are followed together.
TREE_SESSIONS = 100
# Seconds until a read counts as failed.
PATIENCE = 10.0
# What a statement meets before the migrations.
NOT_MIGRATED = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction)

# Each statement returns the epoch of its snapshot first, and a row in any case.
#
# One snapshot shows for each session whether it exists, how far its journal goes, and what
# follows the cursor. The lengths are of the text that is sent, not of what is stored.
READ = """
SELECT (SELECT sessions_app_epoch()),
       wanted.session_id, session.last_event_seq, session.status,
       session.ended_at IS NOT NULL, event.span, event.seq, event.type, event.data
FROM (
    SELECT key AS session_id, value::bigint AS after FROM jsonb_each_text(%(cursors)s::jsonb)
) AS wanted
LEFT JOIN sessions_app_session AS session ON session.id = wanted.session_id
LEFT JOIN LATERAL (
    SELECT seq, span, type, data
    FROM (
        SELECT seq, span, type, data,
               sum(octet_length(data)) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING)
                   - octet_length(data) AS before
        FROM (
            SELECT seq, span, type, data::text AS data
            FROM sessions_app_event
            WHERE session_id = wanted.session_id AND seq > wanted.after
            ORDER BY seq
            LIMIT %(frames)s
        ) AS page
    ) AS measured
    WHERE before < %(bytes)s
) AS event ON true
ORDER BY wanted.session_id, event.seq
"""

# Where sessions stand, and what their open runs wait for: the events that asked, oldest first. It
# is one snapshot: each of these events lies before `last_event_seq`, and its answer after it. What
# else may be pending joins `pending`: the type of the event that asks for it, and how its data name
# it. The event is found by its index `event_requires`.
STATES = """
WITH pending AS (
    SELECT run.session_id, approval.run_id, %(required)s::text AS type, 'approval_id' AS key,
        approval.id
    FROM jsonb_array_elements_text(%(sessions)s::jsonb) AS wanted (session_id)
    JOIN sessions_app_run AS run
        ON run.session_id = wanted.session_id AND run.status = 'parked'
    JOIN sessions_app_pending_action AS approval ON approval.run_id = run.id
    WHERE approval.status = 'pending' AND approval.kind = 'approval'
)
SELECT (SELECT sessions_app_epoch()),
       wanted.session_id, session.last_event_seq, session.status,
       session.ended_at IS NOT NULL, session.owner,
       nullif(coalesce(limits.streams, %(owner_streams)s::bigint), 0),
       event.type, event.data::text
FROM jsonb_array_elements_text(%(sessions)s::jsonb) AS wanted (session_id)
LEFT JOIN sessions_app_session AS session ON session.id = wanted.session_id
LEFT JOIN sessions_app_ownerlimits AS limits ON limits.owner = session.owner
LEFT JOIN (
    pending JOIN sessions_app_event AS event
        ON event.run_id = pending.run_id
        AND event.type LIKE '%%:required'
        AND event.type = pending.type
        AND event.data ->> pending.key = pending.id
) ON pending.session_id = session.id
ORDER BY event.seq
"""

# A session and all below it, as far as the caller may see them; so many at most.
TREE = """
WITH RECURSIVE tree AS (
    SELECT id FROM sessions_app_session
    WHERE id = %(session)s AND (%(sees_all)s OR owner = %(owner)s)
    UNION
    SELECT child.id FROM sessions_app_session AS child JOIN tree ON child.parent_id = tree.id
    WHERE %(sees_all)s OR child.owner = %(owner)s
)
SELECT (SELECT sessions_app_epoch()), ARRAY(SELECT id FROM tree LIMIT %(most)s)
"""

# The sessions that have something to read, an end included, or less than before.
STALE = """
SELECT (SELECT sessions_app_epoch()), coalesce(array_agg(known.session_id), '{}')
FROM (
    SELECT key AS session_id, value::bigint AS last FROM jsonb_each_text(%(cursors)s::jsonb)
) AS known
LEFT JOIN sessions_app_session AS session ON session.id = known.session_id
WHERE session.id IS NULL OR session.ended_at IS NOT NULL OR session.last_event_seq <> known.last
"""

# The statements are always the same: planning them anew would take longer than they do. And a page
# is to be read along the index, however wrong the statistics are about one long session among
# many short ones: a bitmap would fetch all the rest of the journal for each page.
SETTINGS = """
SELECT set_config('plan_cache_mode', 'force_generic_plan', %(local)s),
       set_config('enable_bitmapscan', 'off', %(local)s)
"""


def encode_event(seq: int, name: str, data_json: str) -> bytes:
    """Return the frame of a journal event; `data_json` is JSON text and is sent on one line.

    The client keeps `seq` as its cursor.
    """
    return f"id: {seq}\n".encode() + encode_without_id(name, data_json)


def encode_without_id(name: str, data_json: str) -> bytes:
    """Return the frame of an event without its id, for a client that has not read so far yet."""
    name = " ".join(name.split())
    return f"event: {name}\ndata: {escape_line_ends(data_json)}\n\n".encode()


def encode_notice(frame: type[Frame], data: Mapping[str, Any]) -> bytes:
    """Return a frame without an id: the client's cursor stays."""
    return encode_without_id(frame.meta.name, dump_line(data))


def encode_keepalive() -> bytes:
    """Return the frame that only shows that the stream is alive."""
    return encode_notice(Keepalive, {"timestamp": stamp(datetime.now(UTC))})


def encode_first_cursor(seq: int) -> bytes:
    """Return a keepalive that gives a client its cursor, before it is sent any event."""
    return f"id: {seq}\n".encode() + encode_keepalive()


def decode(frames: bytes) -> Iterator[tuple[int | None, str, Any]]:
    """Yield id, name and data of each of these whole frames."""
    for block in frames.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        seq = int(fields["id"]) if "id" in fields else None
        yield seq, fields["event"], json.loads(fields["data"])


@dataclass(slots=True)
class Page:
    """What a read found of one journal: its state, and frames that follow the cursor gaplessly."""

    last: int
    status: str
    ended: bool
    frames: list[bytes]
    # The seq of the newest of these frames; the cursor if there are none.
    reached: int
    # A cursor that is within an event that was joined can be gone on with from this one instead.
    better_cursor: int | None = None


@dataclass(slots=True)
class State:
    """Where a session stands, and notices of what its open run waits for."""

    last: int
    status: str
    ended: bool
    owner: str
    # How many streams of the owner's sessions one process may have; None is no limit.
    most_streams: int | None
    pending: list[bytes]


class Epoch:
    """The epoch of the journals that the streams of a process serve; its readers share it.

    What a read returns is of the epoch that its own snapshot had, so no rule about connections has
    to hold: a failover may also happen behind a pooler that keeps them open.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        # Empty until the first read.
        self.current = ""
        # How often it has changed.
        self.changes = 0
        self._on_change = on_change

    def check(self, found: str | None, changes: int) -> None:
        """Note the epoch that a read found that began after so many changes.

        Raises StreamUnavailable if nothing of that read may be used: on a server in recovery, which
        may be behind, or on one that was left meanwhile.
        """
        if found is None:
            raise StreamUnavailable
        if found == self.current:
            return
        if not self.current:
            self.current = found
            return
        if changes != self.changes:
            raise StreamUnavailable
        logger.warning(
            "The database was set back (a failover or a restore): the epoch of its journals was %s"
            " and is %s. Clients of streams are told to reload.",
            self.current,
            found,
        )
        self.current, self.changes = found, changes + 1
        self._on_change()


class JournalReader:
    """Reads on at most `limit` connections, which are opened when needed and kept.

    Every method raises StreamUnavailable if the database does not answer, is in recovery, or has no
    tables yet. It does so as soon as a new connection fails, because nothing here waits for a pool
    to recover. When the epoch changes, connections are opened anew: the old ones may lead to a
    server that was left.
    """

    def __init__(self, limit: int, epoch: Epoch) -> None:
        self._slots = asyncio.Semaphore(limit)
        self._epoch = epoch
        # Each with the number of changes of the epoch after which it was opened.
        self._idle: list[tuple[AsyncConnection, int]] = []
        self._closed = False
        # States that are wanted by clients, and the task that reads them until none is.
        self._wanted: dict[str, asyncio.Future[State | None]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def read(self, cursors: Mapping[str, int]) -> dict[str, Page | None]:
        """Return a page of each session after its cursor; None for a session that is not there."""
        parameters = {
            "cursors": connections.to_json(cursors),
            "frames": PAGE_FRAMES,
            "bytes": PAGE_BYTES,
        }
        pages: dict[str, Page | None] = {}
        for session_id, last, status, ended, span, *event in await self._fetch(READ, parameters):
            page = pages.get(session_id)
            if page is None:
                if last is not None:
                    page = Page(last, status, ended, [], cursors[session_id])
                pages[session_id] = page
            if page is None or span is None or page.better_cursor is not None:
                continue
            seq = event[0]
            if seq - span == page.reached:
                page.frames.append(encode_event(*event))
                page.reached = seq
            elif seq - span < page.reached and not page.frames:
                page.better_cursor = seq - span
            else:
                # A gap is never sent over.
                logger.error(
                    "The journal of %s has %d where %d belongs.", session_id, seq, page.reached + 1
                )
        return pages

    async def read_page(self, session_id: str, after: int) -> Page | None:
        """Return a page of one session after the cursor; None for one that is not there."""
        return (await self.read({session_id: after}))[session_id]

    async def read_state(self, session_id: str) -> State | None:
        """Return where a session stands now; None for one that is not there.

        Clients that come while a read is under way share the next one.
        """
        state = self._wanted.get(session_id)
        if state is None:
            state = self._wanted[session_id] = asyncio.get_running_loop().create_future()
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_wanted())
        return await asyncio.shield(state)

    async def _read_wanted(self) -> None:
        try:
            while wanted := self._wanted:
                self._wanted = {}
                try:
                    states = await self._read_states(list(wanted))
                except BaseException as error:
                    for future in wanted.values():
                        future.set_exception(error)
                        # Nobody reads it if all who wanted it have gone.
                        future.exception()
                    if not isinstance(error, Exception):
                        raise
                else:
                    for session_id, future in wanted.items():
                        future.set_result(states.get(session_id))
        finally:
            self._reading = None

    async def _read_states(self, sessions: list[str]) -> dict[str, State]:
        parameters = {
            "sessions": connections.to_json(sessions),
            "required": ApprovalRequired.meta.name,
            "owner_streams": settings.OWNER_STREAMS,
        }
        states: dict[str, State] = {}
        for row in await self._fetch(STATES, parameters):
            session_id, last, status, ended, owner, most_streams, *event = row
            if last is None:
                continue
            new = State(last, status, ended, owner, most_streams, [])
            state = states.setdefault(session_id, new)
            if event[0] is not None:
                state.pending.append(encode_without_id(*event))
        return states

    async def find_tree(self, session_id: str, sees: Visibility) -> list[str]:
        """Return the session and all below it that the caller may see."""
        parameters = {"session": session_id, **sql_visibility(sees), "most": TREE_SESSIONS}
        [(found,)] = await self._fetch(TREE, parameters)
        return list(found)

    async def find_stale(self, known: Mapping[str, int]) -> list[str]:
        """Return the sessions whose journal ends elsewhere than is known, or which have ended."""
        [(stale,)] = await self._fetch(STALE, {"cursors": connections.to_json(known)})
        return list(stale)

    async def close(self) -> None:
        """Close the idle connections; one that is in use is closed after its read."""
        self._closed = True
        while self._idle:
            await self._idle.pop()[0].close()

    async def _fetch(self, statement: LiteralString, parameters: dict[str, Any]) -> list[Any]:
        """Return the rows of a statement without the epoch that each begins with."""
        is_pooled = connections.is_pooled()
        try:
            async with asyncio.timeout(PATIENCE), self._slots:
                while True:
                    changes = self._epoch.changes
                    connection, kept = await self._take()
                    is_ready = kept
                    try:
                        async with contextlib.AsyncExitStack() as stack:
                            if is_pooled:
                                await stack.enter_async_context(connection.transaction())
                            if is_pooled or not is_ready:
                                await connection.execute(SETTINGS, {"local": is_pooled})
                                is_ready = True
                            cursor = await connection.execute(statement, parameters)
                            rows = await cursor.fetchall()
                        self._epoch.check(rows[0][0], changes)
                        return [row[1:] for row in rows]
                    except StatementTimeout:
                        raise
                    except DATABASE_UNAVAILABLE:
                        # A kept one may have died with its server; a new one shows if it is back.
                        if not kept:
                            raise
                    finally:
                        status = connection.info.transaction_status
                        is_usable = is_ready and status == TransactionStatus.IDLE
                        if is_usable and changes == self._epoch.changes and not self._closed:
                            self._idle.append((connection, changes))
                        else:
                            await connection.close()
        except (*DATABASE_UNAVAILABLE, *NOT_MIGRATED, OSError) as error:
            raise StreamUnavailable from error

    async def _take(self) -> tuple[AsyncConnection, bool]:
        """Return a connection, and whether it is a kept one, of which there may be none."""
        while self._idle:
            connection, changes = self._idle.pop()
            if changes == self._epoch.changes and not connection.is_distrusted:
                return connection, True
            await connection.close()
        prepare = 0 if settings.PREPARED_STATEMENTS else None
        return await connections.connect("journal", prepare_threshold=prepare), False
