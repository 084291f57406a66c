"""What engines say, gathered for a moment and written to the journal together."""

import asyncio
import logging
from typing import Any

from amplifierd.common.errors import DATABASE_UNAVAILABLE
from amplifierd.common.text import storable
from sessions_app.models.event import EventType
from sessions_app.services.attempts import Attempt
from sessions_app.services.flush import Said, flush, newest
from sessions_app.worker import database

logger = logging.getLogger(__name__)

# Seconds for which tokens are joined before they are journalled.
GATHER = 0.02


class Voice:
    """What one attempt says: pending for the journal, and as the text of its message."""

    def __init__(self, attempt: Attempt, wake: asyncio.Event) -> None:
        self.attempt = attempt
        # Set when the attempt no longer holds, or its run was cancelled: the engine stops.
        self.lost = asyncio.Event()
        # Set, with `lost`, when the journal refuses what this voice says: the run fails.
        self.refused = False
        self.pending: list[Said] = []
        # The seq of the attempt's newest event that is known to be in the journal.
        self.seq = attempt.seq
        self._pieces: list[str] = [attempt.said]
        self._wake = wake

    @property
    def text(self) -> str:
        """Return the text so far: the pieces in the journal, joined."""
        return "".join(self._pieces)

    def emit(self, kind: str, data: dict[str, Any]) -> None:
        """Take an event of the engine; never blocks. Text that follows text is joined to it."""
        if kind == EventType.CONTENT:
            data = {"type": "content", "content": storable(data["content"])}
            self._pieces.append(data["content"])
        elif kind == EventType.TOOL_POST:
            data = {**data, "hook_data": _with_result(data["hook_data"])}
        data = {**data, "runId": self.attempt.run_id}
        joined = self.pending and _joined(self.pending[-1], kind, data)
        if joined:
            self.pending[-1] = joined
        else:
            self.pending.append(Said(self.attempt, kind, data))
        self._wake.set()


class Recorder:
    """Writes what all voices of a worker say: one flush in flight, one commit for all."""

    def __init__(self) -> None:
        self._voices: dict[str, Voice] = {}
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._writes: set[asyncio.Task[None]] = set()

    def open(self, attempt: Attempt) -> Voice:
        """Return the voice of an attempt, to be closed when it is over."""
        if before := self._voices.get(attempt.run_id):
            # This worker was away for longer than its lease, and has its own run again.
            before.lost.set()
        voice = self._voices[attempt.run_id] = Voice(attempt, self._wake)
        return voice

    def close(self, voice: Voice) -> None:
        """Forget a voice; what is pending is dropped."""
        if self._voices.get(voice.attempt.run_id) is voice:
            del self._voices[voice.attempt.run_id]

    def voices(self) -> list[Voice]:
        """Return the voices of the attempts that are being executed."""
        return list(self._voices.values())

    async def run(self) -> None:
        """Write what is said, until cancelled."""
        clock = asyncio.get_running_loop().time
        written = clock() - GATHER
        while True:
            await self._wake.wait()
            # What comes after a silence is written at once, what follows is gathered.
            await asyncio.sleep(max(0.0, written + GATHER - clock()))
            self._wake.clear()
            written = clock()
            await self.write()

    async def write(self) -> None:
        """Write all that is pending, and return when it is in the journal.

        While the database is away this waits. A voice whose attempt no longer holds is lost, and
        one that says what the journal cannot keep is refused. It is written for all voices: that
        the caller's run is cancelled meanwhile stops nothing.
        """
        task = asyncio.create_task(self._write())
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        await asyncio.shield(task)

    async def _write(self) -> None:
        async with self._writing:
            batch = {voice: voice.pending for voice in self.voices() if voice.pending}
            for voice in batch:
                voice.pending = []
            if batch:
                await self._insist(batch)

    async def _insist(self, batch: dict[Voice, list[Said]]) -> None:
        """Write a batch; after a fault, write again what did not get there before it."""
        pause = database.FIRST_PAUSE
        while batch:
            try:
                said = [item for items in batch.values() for item in items]
                _note(batch, await database.call(flush, said))
                return
            except DATABASE_UNAVAILABLE as error:
                logger.warning("The journal cannot be written, trying again: %s", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, database.LAST_PAUSE)
                batch = await self._missing(batch)
            except Exception:
                await self._refuse(batch)
                return

    async def _refuse(self, batch: dict[Voice, list[Said]]) -> None:
        """Find whose words cannot be kept: nobody else's run shall end for them."""
        if len(batch) > 1:
            for voice, items in batch.items():
                await self._insist({voice: items})
            return
        (voice,) = batch
        logger.exception("The journal refuses what run %s says", voice.attempt.run_id)
        voice.refused = True
        voice.lost.set()

    async def _missing(self, batch: dict[Voice, list[Said]]) -> dict[Voice, list[Said]]:
        """Return what of a batch is not in the journal: its commit may have succeeded unheard."""
        missing = {}
        for voice, items in batch.items():
            seq = await database.insist(newest, voice.attempt, voice.seq)
            if seq == voice.seq:
                missing[voice] = items
            voice.seq = seq
        return missing


def _note(batch: dict[Voice, list[Said]], written: dict[str, int]) -> None:
    for voice in batch:
        if voice.attempt.run_id in written:
            voice.seq = written[voice.attempt.run_id]
        else:
            voice.lost.set()


def _with_result(call: dict[str, Any]) -> dict[str, Any]:
    """Return what a call came to, told as clients of either kind read it."""
    error = call.get("error")
    is_error = error is not None
    return {
        **call,
        "result": error if is_error else call.get("tool_response"),
        "is_error": is_error,
    }


def _joined(last: Said, kind: str, data: dict[str, Any]) -> Said | None:
    """Return the last event with this one joined to it, if both are pieces of one text."""
    if last.type != kind:
        return None
    if kind == EventType.CONTENT:
        whole = {**data, "content": last.data["content"] + data["content"]}
        return Said(last.attempt, kind, whole)
    if kind == EventType.THINKING_DELTA:
        delta = last.data["hook_data"]["delta"] + data["hook_data"]["delta"]
        return Said(last.attempt, kind, {**data, "hook_data": {"delta": delta}})
    return None
