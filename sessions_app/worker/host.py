"""What the executor does for an engine in the middle of an attempt."""

from collections.abc import Sequence
from typing import Any

from sessions_app.engine.base import Cancelled
from sessions_app.exceptions import LeaseLost
from sessions_app.services import compaction, parking, usage
from sessions_app.worker import database
from sessions_app.worker.output_writer import Recorder, Voice
from sessions_app.worker.turns import newest_response


class Desk:
    """The host of one attempt: see `Host`."""

    def __init__(self, voice: Voice, recorder: Recorder) -> None:
        self._voice = voice
        self._recorder = recorder
        # Steps of the run that are kept already.
        self.steps = 0

    async def settled(self) -> None:
        """Return when all that was said is in the journal; raise Cancelled if nothing holds."""
        await self._recorder.write()
        if self._voice.lost.is_set():
            raise Cancelled

    async def keep(self, steps: Sequence[dict[str, Any]], used: dict[str, Any]) -> None:
        """Keep steps after all that was said before; raise Cancelled if the attempt is lost."""
        await self.settled()
        attempt = self._voice.attempt
        try:
            await database.insist(parking.keep, attempt, self.steps + 1, steps, used)
        except LeaseLost:
            raise Cancelled from None
        self.steps += len(steps)

    async def compact(self, upto: int, summary: str, used: dict[str, Any]) -> None:
        """Keep the summary of the transcript up to a seq; raise Cancelled if nothing holds."""
        await self.settled()
        try:
            await database.insist(compaction.keep, self._voice.attempt, upto, summary, used)
        except LeaseLost:
            raise Cancelled from None

    async def spent(self) -> dict[str, Any]:
        """Return what the other runs of the session's tree have used."""
        attempt = self._voice.attempt
        return await database.insist(usage.of_tree, attempt.session_id, attempt.run_id)

    async def recall(self, tool: str) -> str | None:
        """Return the tool's newest response in the session."""
        return await database.insist(newest_response, self._voice.attempt.session_id, tool)
