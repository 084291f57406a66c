"""Executing runs in one worker process: claim, run the engine, write its output, settle."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.db import DataError, IntegrityError

from amplifierd.common.errors import DATABASE_UNAVAILABLE
from amplifierd.common.formats import uptime
from amplifierd.common.outage import call_service, retry_service
from sessions_app.engine.base import Cancelled, Engine, EngineError, Outcome, RunHost, Turn
from sessions_app.exceptions import LeaseLost
from sessions_app.models import Attempt
from sessions_app.services import attempts, runs, sub_sessions
from sessions_app.services.attempts import Failure
from sessions_app.services.checkpoints import keep, keep_summary
from sessions_app.services.pending_actions import ActionRequest, ApprovalRequest
from sessions_app.services.sub_sessions import SubSessionRequest
from sessions_app.states import FINISHED
from sessions_app.worker.output_writer import AttemptOutput, OutputWriter
from sessions_app.worker.turns import find_newest_response, read_turn

logger = logging.getLogger(__name__)

# Seconds between two checks of the leases: a cancelled run stops within this time.
CHECK_SECONDS = 0.5
# What it means that output cannot be stored: the database or the encoder of JSON refuses it.
NOT_STORABLE = (DataError, IntegrityError, TypeError, ValueError)
# How a run ends if the database refuses to store its output or its outcome.
NOT_STORED = Failure("internal", "The answer could not be kept; the worker's log says why.")


class AttemptHost(RunHost):
    """The host of one attempt: it stores everything with the attempt's lease."""

    def __init__(self, output: AttemptOutput, writer: OutputWriter) -> None:
        self._output = output
        self._writer = writer
        # The number of the run's next checkpoint.
        self.next_checkpoint = 1

    async def flush(self) -> None:
        await self._writer.write()
        if self._output.lost.is_set():
            raise Cancelled

    async def save_checkpoints(
        self, checkpoints: Sequence[dict[str, Any]], usage: dict[str, Any]
    ) -> None:
        await self._store(keep, self.next_checkpoint, checkpoints, usage)
        self.next_checkpoint += len(checkpoints)

    async def compact(self, upto: int, summary: str, usage: dict[str, Any]) -> None:
        await self._store(keep_summary, upto, summary, usage)

    async def read_tree_usage(self) -> dict[str, Any]:
        attempt = self._output.attempt
        return await retry_service(runs.sum_usage_of_tree, attempt.session_id, attempt.run_id)

    async def find_response(self, tool: str) -> str | None:
        return await retry_service(find_newest_response, self._output.attempt.session_id, tool)

    async def _store(self, service: Callable[..., None], *args: Any) -> None:
        await self.flush()
        try:
            await retry_service(service, self._output.attempt, *args)
        except LeaseLost:
            raise Cancelled from None


class Executor:
    """Executes the runs that it claims, and renews their leases meanwhile."""

    def __init__(self, engine: Engine, worker: str) -> None:
        self.engine = engine
        self.worker = worker
        self.writer = OutputWriter()

    async def advance(self, session_id: str) -> bool:
        """Resume the session's parked run if all is answered, or else execute its next queued one.

        Return whether the session may have a further run for this worker. Raises OwnerBusy.
        """

        def claim() -> tuple[Attempt, Turn | None] | None:
            # All in one call, to spare changes of threads.
            attempt = attempts.claim(session_id, self.worker)
            if attempt is None:
                return None
            try:
                return attempt, self.engine.prepare(read_turn(attempt))
            except Exception:
                # `execute` reads the turn again, and reports the error as the run's.
                logger.debug("The turn of run %s could not be read", attempt.run_id, exc_info=True)
                return attempt, None

        claimed = await retry_service(claim)
        may_be_more = claimed is not None and await self.execute(*claimed)
        if not may_be_more and (claimed is None or claimed[0].is_sub_session):
            await retry_service(sub_sessions.close, session_id)
        return may_be_more

    async def execute(self, attempt: Attempt, turn: Turn | None) -> bool:
        """Execute one attempt up to its outcome; release the run if this worker has to stop.

        Return False if the session is known to have no further run.
        """
        output = self.writer.open(attempt)
        host = AttemptHost(output, self.writer)
        try:
            outcome = await self._run_engine(output, host, turn)
            try:
                return await self._settle(output, host, outcome)
            except (DataError, IntegrityError):
                logger.exception("The outcome of run %s could not be stored", attempt.run_id)
                return await self._settle(output, host, NOT_STORED)
        except (LeaseLost, Cancelled):
            logger.info("Attempt %s of %s no longer holds its run.", attempt.number, attempt.run_id)
            return True
        except asyncio.CancelledError:
            # The next worker can have the run at once, without waiting for the lease to expire.
            try:
                await self.writer.write()
                await call_service(attempts.release, attempt)
            except (LeaseLost, *DATABASE_UNAVAILABLE):
                logger.info("Run %s is free when its lease expires.", attempt.run_id)
            raise
        finally:
            self.writer.close(output)

    async def watch_leases(self) -> None:
        """Renew the leases, and stop the runs that are no longer held, until cancelled."""
        renewed = uptime()
        while True:
            if not self.writer.is_open.is_set():
                await self.writer.is_open.wait()
                # The lease of a run is new when it is claimed.
                renewed = uptime()
            await asyncio.sleep(CHECK_SECONDS)
            is_due = uptime() - renewed > settings.LEASE_SECONDS / 3
            answered = await self.check_leases(attempts.renew if is_due else attempts.still_held)
            renewed = uptime() if is_due and answered else renewed

    async def check_leases(self, find_held: Callable[[list[Attempt]], set[str]]) -> bool:
        """Ask once which attempts hold their runs, and stop the others.

        Return False if the database did not answer.
        """
        outputs = self.writer.outputs()
        if not outputs:
            return True
        try:
            held = await call_service(find_held, [output.attempt for output in outputs])
        except DATABASE_UNAVAILABLE as error:
            logger.warning("The leases could not be checked: %s", error)
            return False
        for output in outputs:
            if output.attempt.run_id not in held:
                output.lost.set()
        return True

    async def _run_engine(
        self, output: AttemptOutput, host: AttemptHost, turn: Turn | None
    ) -> Outcome | Failure:
        """Run the engine; return how it ended. Raises Cancelled if the attempt is lost."""
        try:
            known: Turn = await retry_service(read_turn, output.attempt) if turn is None else turn
            host.next_checkpoint = len(known.checkpoints) + 1
            outcome = await self.engine.run(replace(known, host=host), output.emit, output.lost)
        except EngineError as error:
            return Failure(error.code, str(error), error.usage)
        except (Cancelled, LeaseLost):
            if output.refused:
                return NOT_STORED
            raise
        except Exception:
            logger.exception("The engine failed in run %s", output.attempt.run_id)
            return Failure("internal", "The engine failed; the worker's log says why.")
        if outcome.pending or outcome.finish_reason in FINISHED:
            return outcome
        # Nobody knows whether this answer is complete.
        reason = outcome.finish_reason[:80]
        message = f"The provider broke off its answer ({reason}); send it again."
        return Failure("bad_answer", message, outcome.usage)

    async def _settle(
        self, output: AttemptOutput, host: AttemptHost, ended: Outcome | Failure
    ) -> bool:
        """Write the rest of the output, and how the run ended or that it is parked.

        Return False if the session is known to have no further run. Raises LeaseLost.
        """
        attempt = output.attempt
        rest = await self.writer.take(output)
        if output.refused:
            ended = NOT_STORED
        elif output.lost.is_set():
            raise LeaseLost
        if isinstance(ended, Outcome) and not ended.pending:
            checkpoints = (ended.checkpoints, host.next_checkpoint)
            answer = (ended.usage, *checkpoints, ended.finish_reason, rest)
            try:
                return await retry_service(attempts.succeed, attempt, output.text, *answer)
            except NOT_STORABLE:
                logger.exception("The answer of run %s could not be stored", attempt.run_id)
                ended = NOT_STORED
        output.put_back(rest)
        await self.writer.write()
        if output.refused:
            ended = NOT_STORED
        elif output.lost.is_set():
            raise LeaseLost
        if isinstance(ended, Failure):
            await retry_service(attempts.fail, attempt, ended)
        else:
            requests: list[ActionRequest] = []
            for ask in ended.pending:
                call = (ask.call_id, ask.tool, ask.input)
                if ask.profile is not None:
                    requests.append(SubSessionRequest(*call, ask.profile, ask.message))
                else:
                    approval = (ask.timeout, ask.fingerprint, ask.visible_input)
                    requests.append(ApprovalRequest(*call, *approval))
            await retry_service(attempts.park, attempt, requests, ended.usage)
        return True
