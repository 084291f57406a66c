"""A session whose model calls tools, as its client knows it: what it asks, and whom it employs."""

import random
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from sessions_app.states import RUN_TERMINAL, SESSION_TERMINAL, ActionStatus, Answer
from tests.acceptance.agents import BOSS
from tests.acceptance.effects import Row, disagreements, effects, faults_of, tally
from tests.acceptance.known import Known
from tests.harness.waiting import until

STATUS = {
    Answer.APPROVE: ActionStatus.APPROVED,
    Answer.ALWAYS: ActionStatus.APPROVED,
    Answer.DENY: ActionStatus.DENIED,
}


@dataclass(eq=False, kw_only=True)
class Agent(Known):
    """It, its sub-sessions, what they have asked and what it was acknowledged to have come to."""

    kind: str
    folder: Path
    # The URL of the approvals of all sessions.
    inbox: str
    dice: random.Random
    # Sub-sessions that were seen, and those of them that were deleted.
    children: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    # What must have become of approvals that were seen, by id.
    resolved: dict[str, str] = field(default_factory=dict)
    # How the calls ended, for the report.
    ends: Counter[str] = field(default_factory=Counter)

    def look(self) -> None:
        """Compare the approvals, too."""
        super().look()
        self._as_resolved(self._approvals(self.session_id))

    def living(self) -> list[str]:
        """Return the sub-sessions that are there."""
        if self.kind == BOSS:
            listed = self.client.get(f"?parent_session_id={self.session_id}&limit=1000")
            self.children.update(child["sessionId"] for child in listed)
        return sorted(self.children - self.removed)

    def questions(self) -> list[Row]:
        """Return what waits for a person, here and in the sub-sessions."""
        family = {self.session_id, *self.living()}
        pending = self.client.get(f"{self.inbox}?status={ActionStatus.PENDING}&limit=1000")
        return [row for row in pending if row["sessionId"] in family]

    def note(self, questions: Iterable[Row], status: str) -> None:
        """Remember what must have become of questions."""
        self.resolved.update({question["approvalId"]: status for question in questions})

    def respond(self, question: Row, response: str) -> httpx.Response:
        """Answer a question, whatever comes of it."""
        body = {"approval_id": question["approvalId"], "response": response}
        return self.client.post(f"{question['sessionId']}/approval-response", body)

    def answer(self, question: Row, response: str) -> None:
        """Answer a question that nobody else answers."""
        answer = self.respond(question, response)
        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] == STATUS[response]
        self.note([question], STATUS[response])

    def answer_at_once(self, given: list[tuple[Row, str]]) -> int:
        """Answer as several clients at the same time; of those who answer one question one does.

        Return how many were refused.
        """
        with ThreadPoolExecutor(len(given)) as pool:
            answers = list(pool.map(self.respond, *zip(*given, strict=True)))
        self._check(given, answers)
        return sum(answer.status_code == 409 for answer in answers)

    def remove(self, child: str) -> None:
        """Delete a sub-session, in the middle of what it does."""
        self.removed.add(child)
        self.client.delete(child)

    def is_quiet(self) -> bool:
        """Tell whether it asks something, or has nothing left to do."""
        return self.is_idle() or bool(self.questions())

    def is_idle(self) -> bool:
        """Tell whether it has nothing left to do."""
        runs = self.client.get(f"{self.session_id}/runs?limit=1000")
        return all(run["status"] in RUN_TERMINAL for run in runs)

    def settle(self) -> None:
        """Wait for the sub-sessions, too; then all that was called is as it was allowed."""
        super().settle()
        for child in self.living():
            until(lambda child=child: self._is_over(child), f"the end of sub-session {child}")
        self._compare_effects()

    def abandon(self) -> None:
        """What a deleted session has left to others comes to its end."""
        for child in sorted(self.children - self.removed):
            until(lambda child=child: self._is_over(child), f"the end of orphan {child}")

    def _settled(self) -> bool:
        # One after the other: `always` answers others, too.
        while questions := self.questions():
            self.answer(questions[0], self.dice.choice(Answer.values))
        return super()._settled()

    def _check(self, given: list[tuple[Row, str]], answers: list[httpx.Response]) -> None:
        """One answer counts of those to a question; `always` may have answered others."""
        won = [(*each, a) for each, a in zip(given, answers, strict=True) if a.status_code == 200]
        assert won, [answer.text for answer in answers]
        ids = [question["approvalId"] for question, _, _ in won]
        assert len(set(ids)) == len(ids)
        for question, response, _ in won:
            self.note([question], STATUS[response])
        always = any(response == Answer.ALWAYS for _, response, _ in won)
        for (question, _), answer in zip(given, answers, strict=True):
            if answer.status_code != 200:
                assert answer.status_code == 409, answer.text
                assert answer.json()["code"] == "already_answered", answer.text
                assert question["approvalId"] in ids or always, answer.text

    def _compare_effects(self) -> None:
        before = tally(self.folder)
        made = []
        for session_id in [self.session_id, *self.living()]:
            journal = self._journal_of(session_id)
            approvals = self._approvals(session_id)
            self._as_resolved(approvals)
            runs = self.client.get(f"{session_id}/runs?limit=1000")
            wrong = disagreements(journal, approvals, runs)
            assert not wrong, (session_id, wrong)
            made += effects(journal).values()
            self.ends.update(f"approval {approval['status']}" for approval in approvals)
        found = faults_of(made, before, tally(self.folder), is_all=not self.removed)
        assert not found, (found, self.session_id, [*made])
        self.ends.update(f"{each.tool} {ending(each)}" for each in made)

    def _approvals(self, session_id: str) -> list[Row]:
        return list(self.client.get(f"{session_id}/approvals?limit=1000"))

    def _as_resolved(self, approvals: list[Row]) -> None:
        for approval in approvals:
            expected = self.resolved.get(approval["approvalId"], approval["status"])
            assert approval["status"] == expected, approval

    def _is_over(self, session_id: str) -> bool:
        return self.client.get(session_id)["status"] in SESSION_TERMINAL


def ending(effect: Any) -> str:
    """Return how a call ended, for the report."""
    return "made" if effect.is_sure else "open" if effect.is_open else "refused"
