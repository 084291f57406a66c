"""Executing runs in one worker process: claim, run the engine, journal, settle."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from django.conf import settings
from django.db import DataError, IntegrityError

from amplifierd.common.errors import DATABASE_UNAVAILABLE
from sessions_app.engine.base import Ask, Cancelled, Engine, EngineError, Outcome
from sessions_app.exceptions import LeaseLost
from sessions_app.services import attempts, parking, tasks
from sessions_app.services.attempts import Attempt, Failure
from sessions_app.services.parking import Wait
from sessions_app.states import FINISHED
from sessions_app.worker import database
from sessions_app.worker.host import Desk
from sessions_app.worker.output_writer import Recorder, Voice
from sessions_app.worker.standstill import now
from sessions_app.worker.turns import turn_of

logger = logging.getLogger(__name__)

# Seconds between two looks whether the runs are still ours: bounds how long a cancel takes.
WATCH = 0.5
# What becomes of a run of which the database refuses something for what it is.
UNKEPT = Failure("internal", "The answer could not be kept; the worker's log says why.")


class Executor:
    """Executes the runs that it claims, and holds their leases meanwhile."""

    def __init__(self, engine: Engine, worker: str) -> None:
        self.engine = engine
        self.worker = worker
        self.recorder = Recorder()

    async def advance(self, session_id: str) -> None:
        """Execute the session's queued runs, until none is left or another worker has one."""
        while attempt := await database.insist(attempts.claim, session_id, self.worker):
            await self.execute(attempt)
        await database.insist(tasks.close, session_id)

    async def execute(self, attempt: Attempt) -> None:
        """Execute one attempt up to its outcome; give it back if this worker has to stop."""
        voice = self.recorder.open(attempt)
        try:
            desk = Desk(voice, self.recorder)
            await self._settle_somehow(voice, desk, await self._ended(voice, desk))
        except (LeaseLost, Cancelled):
            logger.info("Attempt %s of %s no longer holds.", attempt.number, attempt.run_id)
        except asyncio.CancelledError:
            await self._give_back(voice)
            raise
        finally:
            self.recorder.close(voice)

    async def watch(self) -> None:
        """Keep the leases, and stop what is no longer held, until cancelled."""
        renewed = -float("inf")
        while True:
            await asyncio.sleep(WATCH)
            due = now() - renewed > settings.LEASE_SECONDS / 3
            done = await self.look(attempts.renew if due else attempts.still_held)
            renewed = now() if due and done else renewed

    async def look(self, question: Callable[[list[Attempt]], set[str]]) -> bool:
        """Ask once which attempts still hold, and stop the others; False where nobody answers."""
        voices = self.recorder.voices()
        if not voices:
            return True
        try:
            held = await database.call(question, [voice.attempt for voice in voices])
        except DATABASE_UNAVAILABLE as error:
            logger.warning("The leases cannot be looked at: %s", error)
            return False
        for voice in voices:
            if voice.attempt.run_id not in held:
                voice.lost.set()
        return True

    async def _ended(self, voice: Voice, desk: Desk) -> Outcome | Failure:
        """Run the engine; return how it ended. Raises Cancelled when the attempt was lost."""
        try:
            turn = await database.insist(turn_of, voice.attempt)
            desk.steps = len(turn.steps)
            return _checked(await self.engine.run(replace(turn, host=desk), voice.emit, voice.lost))
        except EngineError as error:
            return Failure(error.code, str(error), error.usage)
        except (Cancelled, LeaseLost):
            if voice.refused:
                return UNKEPT
            raise
        except Exception:
            logger.exception("The engine failed in run %s", voice.attempt.run_id)
            return Failure("internal", "The engine failed; the worker's log says why.")

    async def _settle_somehow(self, voice: Voice, desk: Desk, ended: Outcome | Failure) -> None:
        """Settle; an end that the database refuses for what it is becomes a failure."""
        try:
            await self._settle(voice, desk, ended)
        except (DataError, IntegrityError):
            logger.exception("The end of run %s could not be kept", voice.attempt.run_id)
            await self._settle(voice, desk, UNKEPT)

    async def _settle(self, voice: Voice, desk: Desk, ended: Outcome | Failure) -> None:
        """Write what is left to say, then the outcome, or that the run waits. Raises LeaseLost."""
        await self.recorder.write()
        if voice.refused:
            ended = UNKEPT
        elif voice.lost.is_set():
            raise LeaseLost
        if isinstance(ended, Failure):
            await database.insist(attempts.fail, voice.attempt, ended)
        elif ended.waits:
            waits = [_wait(ask) for ask in ended.waits]
            await database.insist(parking.park, voice.attempt, waits, ended.usage)
        else:
            answer = (voice.text, ended.usage, ended.steps, desk.steps + 1, ended.finish_reason)
            await database.insist(attempts.succeed, voice.attempt, *answer)

    async def _give_back(self, voice: Voice) -> None:
        """Hand the run to the next worker at once, without waiting for the lease to expire."""
        try:
            await self.recorder.write()
            await database.call(attempts.release, voice.attempt)
        except (LeaseLost, *DATABASE_UNAVAILABLE):
            logger.info("Run %s is left to its lease.", voice.attempt.run_id)


def _checked(outcome: Outcome) -> Outcome | Failure:
    """Return the outcome; a failure in place of an answer of which nobody can say how it ended."""
    if outcome.waits or outcome.finish_reason in FINISHED:
        return outcome
    return Failure(
        "bad_answer",
        f"The provider broke off its answer ({outcome.finish_reason[:80]}); send it again.",
        outcome.usage,
    )


def _wait(ask: Ask) -> Wait:
    return Wait(
        ask.call_id,
        ask.tool,
        ask.input,
        ask.profile,
        ask.message,
        ask.timeout,
        ask.fingerprint,
        ask.visible_input,
    )
