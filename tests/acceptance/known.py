"""What a client knows of a session because it was acknowledged, and whether the API agrees."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sessions_app.states import RUN_TERMINAL, SessionStatus
from tests.acceptance.certain import Certain
from tests.harness.sse import Watcher
from tests.harness.waiting import until

OUTCOME = "assistant_message_complete"
# Events of a page of the journal.
PAGE = 1000


@dataclass(eq=False)
class Known:
    """A session as its client remembers it."""

    session_id: str
    client: Certain
    status: str = SessionStatus.CREATED
    # Messages of users, by id, as they were acknowledged.
    said: dict[str, str] = field(default_factory=dict)
    # The message that each accepted run executes.
    runs: dict[str, str] = field(default_factory=dict)
    watchers: list[Watcher] = field(default_factory=list)
    # The transcript and the journal as they were read last: both only grow.
    transcript: list[dict[str, Any]] = field(default_factory=list)
    journal: list[dict[str, Any]] = field(default_factory=list)

    def questions(self) -> list[dict[str, Any]]:
        """Return what waits for a person: nothing, for a model that calls no tool."""
        return []

    def note(self, questions: Iterable[dict[str, Any]], status: str) -> None:
        """Remember what must have become of questions."""

    def look(self) -> None:
        """Read everything, and compare it with what was acknowledged and what was read before."""
        assert self.client.get(self.session_id)["status"] == self.status
        self._grow(self.transcript, self._whole_transcript(), "seq")
        self._grow(self.journal, self._journal_of(self.session_id), "id")
        users = {line["messageId"]: line for line in self.transcript if line["role"] == "user"}
        assert {key: line["content"] for key, line in users.items()} == self.said
        executed = {line["runId"]: key for key, line in users.items() if line["runId"]}
        assert executed == self.runs
        for watcher in self.watchers:
            assert not watcher.finding, watcher.finding

    def settle(self) -> None:
        """Wait until every accepted run has its outcome; all must be told once, to everybody."""
        until(self._settled, f"the outcomes of {self.session_id}")
        self.look()
        told = Counter(e["data"]["runId"] for e in self.journal if e["event"] == OUTCOME)
        assert told == Counter(self.runs.keys())
        for watcher in self.watchers:
            self._compare(watcher)

    def _settled(self) -> bool:
        runs = self.client.get(f"{self.session_id}/runs?limit=1000")
        assert {run["runId"]: run["messageId"] for run in runs} == self.runs
        return all(run["status"] in RUN_TERMINAL for run in runs)

    def _compare(self, watcher: Watcher) -> None:
        """The frames of a stream are the journal from its cursor on, no more and no less."""
        expected = [(e["id"], e["event"], e["data"]) for e in self.journal[watcher.after :]]
        until(
            lambda: watcher.finding or len(watcher.seen) >= len(expected),
            f"{watcher.url} after {watcher.cursor}, the journal has {len(self.journal)}",
        )
        assert not watcher.finding, watcher.finding
        assert [(frame.id, frame.event, frame.data) for frame in watcher.seen] == expected

    def _grow(self, before: list[dict[str, Any]], now: list[dict[str, Any]], number: str) -> None:
        """Take what was read in place of what was read before, of which nothing may differ."""
        assert now[: len(before)] == before
        assert [row[number] for row in now] == list(range(1, len(now) + 1))
        before[:] = now

    def _whole_transcript(self) -> list[dict[str, Any]]:
        return list(self.client.get(f"{self.session_id}/transcript"))

    def _journal_of(self, session_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while page := self.client.get(f"{session_id}/events?after={len(found)}&limit={PAGE}"):
            found += page
        return found
