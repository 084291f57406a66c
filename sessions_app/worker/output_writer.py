"""Writing the output of runs to the journal: collected for a moment, then written together."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

from amplifierd.common.outage import retry_service
from amplifierd.common.text import make_storable
from sessions_app.events import Event, EventType, Producer
from sessions_app.models import Attempt
from sessions_app.services.journal import Entry, flush

logger = logging.getLogger(__name__)

# Seconds for which tokens are collected before they are written.
BATCH_SECONDS = 0.02
# Clients wait for output: it must not queue for a thread behind runs that begin or end.
_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="output")


class AttemptOutput:
    """What one attempt has produced: events that are not yet written, and the answer so far."""

    def __init__(self, attempt: Attempt, wake: asyncio.Event) -> None:
        self.attempt = attempt
        # Set when the attempt no longer holds its run, or the run was cancelled: the engine stops.
        self.lost = asyncio.Event()
        # Set, with `lost`, when the database refuses this output: the run fails.
        self.refused = False
        self._pieces: list[str] = [attempt.said]
        self._wake = wake
        self._events: list[Entry] = []
        # The newest event while it may grow: text that follows text is joined to it, and thinking
        # to thinking. Its pieces are joined once, when it is written.
        self._kind = ""
        self._data: dict[str, Any] = {}
        self._pieces_of_newest: list[str] = []

    @property
    def text(self) -> str:
        """The answer so far: the text of all its events, joined."""
        return "".join(self._pieces)

    @property
    def has_pending(self) -> bool:
        """Whether there is something to write."""
        return bool(self._pieces_of_newest or self._events)

    def emit(self, kind: str, data: dict[str, Any]) -> None:
        """Take an event of the engine; never blocks.

        Raises ValueError for an event that only services may write.
        """
        if kind == EventType.CONTENT:
            text = make_storable(data["content"])
            self._pieces.append(text)
            self._extend_newest(kind, data, text)
        elif kind == EventType.THINKING_DELTA:
            self._extend_newest(kind, data, data["hook_data"]["delta"])
        else:
            if kind in Event.registry and Event.registry[kind].meta.producer != Producer.ENGINE:
                raise ValueError(f"An engine may not write the event {kind}.")
            self._finish_newest()
            if kind == EventType.TOOL_POST:
                # Clients read the result of a call in two forms.
                call = data["hook_data"]
                error = call.get("error")
                is_error = error is not None
                result = error if is_error else call.get("tool_response")
                data = {**data, "hook_data": {**call, "result": result, "is_error": is_error}}
            self._add(kind, data)
        self._wake.set()

    def take(self) -> list[Entry]:
        """Return the events that are not yet written; whoever takes them writes them."""
        self._finish_newest()
        taken, self._events = self._events, []
        return taken

    def put_back(self, events: list[Entry]) -> None:
        """Give back events that were taken and not written."""
        self._events = [*events, *self.take()]

    def _extend_newest(self, kind: str, data: dict[str, Any], piece: str) -> None:
        if self._kind != kind:
            self._finish_newest()
            self._kind, self._data = kind, data
        self._pieces_of_newest.append(piece)

    def _finish_newest(self) -> None:
        if self._pieces_of_newest:
            text, data = "".join(self._pieces_of_newest), self._data
            if self._kind == EventType.CONTENT:
                self._add(self._kind, {"type": "content", "content": text})
            else:
                self._add(self._kind, {**data, "hook_data": {**data["hook_data"], "delta": text}})
            self._pieces_of_newest = []
        self._kind = ""

    def _add(self, kind: str, data: dict[str, Any]) -> None:
        run_id = self.attempt.run_id
        self._events.append(Entry(kind, {**data, "runId": run_id}, run_id))


class OutputWriter:
    """Writes the output of all runs of a worker: one batch at a time, one commit for all runs."""

    def __init__(self) -> None:
        # Set while attempts are being executed.
        self.is_open = asyncio.Event()
        self._outputs: dict[str, AttemptOutput] = {}
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._writes: set[asyncio.Task[None]] = set()

    def open(self, attempt: Attempt) -> AttemptOutput:
        """Return the output of an attempt; it must be closed when the attempt is over."""
        if before := self._outputs.get(attempt.run_id):
            # This worker was paused for longer than its lease, and has claimed its own run again.
            before.lost.set()
        output = self._outputs[attempt.run_id] = AttemptOutput(attempt, self._wake)
        self.is_open.set()
        return output

    def close(self, output: AttemptOutput) -> None:
        """Remove an output; what is pending is dropped."""
        if self._outputs.get(output.attempt.run_id) is output:
            del self._outputs[output.attempt.run_id]
        if not self._outputs:
            self.is_open.clear()

    def outputs(self) -> list[AttemptOutput]:
        """Return the outputs of the attempts that are being executed."""
        return list(self._outputs.values())

    async def take(self, output: AttemptOutput) -> list[Entry]:
        """Return what of an output is not written yet, once nothing of it is being written.

        The caller writes it.
        """
        async with self._writing:
            return output.take()

    async def run(self) -> None:
        """Write whatever is emitted, until cancelled."""
        clock = asyncio.get_running_loop().time
        written = clock() - BATCH_SECONDS
        while True:
            await self._wake.wait()
            # Output after a silence is written at once; what follows is collected.
            await asyncio.sleep(max(0.0, written + BATCH_SECONDS - clock()))
            self._wake.clear()
            written = clock()
            await self.write()

    async def write(self) -> None:
        """Write all that is pending, and return when it is in the journal.

        During an outage of the database this waits. An output whose attempt no longer holds its
        run is marked as lost. A batch has the output of many runs, so it is written even if the
        caller's own run is cancelled meanwhile.
        """

        async def write_pending() -> None:
            async with self._writing:
                if batch := {each: each.take() for each in self.outputs() if each.has_pending}:
                    await self._write_batch(batch)

        task = asyncio.create_task(write_pending())
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        await asyncio.shield(task)

    async def _write_batch(self, batch: dict[AttemptOutput, list[Entry]]) -> None:
        """Write a batch once, however often the database has to be asked.

        If the database refuses it, each output is written alone: only the run whose output cannot
        be stored may fail.
        """
        try:
            events_of = {output.attempt: events for output, events in batch.items()}
            written = await retry_service(flush, events_of, uuid4(), threads=_thread)
        except Exception:
            if len(batch) > 1:
                for output, events in batch.items():
                    await self._write_batch({output: events})
                return
            (output,) = batch
            logger.exception("The journal refuses the output of run %s", output.attempt.run_id)
            output.refused = True
            output.lost.set()
            return
        for output in batch:
            if output.attempt.run_id not in written:
                output.lost.set()
