"""A state machine that does at random what clients do, and what happens to machines."""

import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from sessions_app.services.runs import Strategy
from sessions_app.states import SESSION_TERMINAL, SESSION_TRANSITIONS, ActionStatus, SessionStatus
from tests.acceptance.agent import Agent
from tests.acceptance.agents import BOSS, CLERK
from tests.acceptance.asking import AGENTS, FAULT_KINDS, FAULTS, KINDS, PLAIN, Asking, ask
from tests.acceptance.effects import Row
from tests.acceptance.known import Known
from tests.acceptance.trouble import findings
from tests.acceptance.world import TimeOver, World
from tests.harness.sse import Watcher

WATCHERS = 3
# Steps in which no session ends: an ended one has nothing more to show.
YOUTH = 12
# Sessions at a time, and of how many one is deleted, with all that it could have shown.
MOST, ENOUGH = 5, 3
# Steps between two looks at the whole database.
STRIDE = 8

CONTENTS = st.sampled_from(
    [
        "hello",
        "BENCH tokens=20 delay_ms=5",
        "BENCH tokens=40 delay_ms=20 think=3",
        "BENCH tokens=30 delay_ms=10 fail_after=10",
        "BENCH fail_after=0",
    ]
)
# What a client does with a session. Hypothesis leaves whole rules out of an example at random, so
# there are few of them, and the choice is here.
DEEDS = st.one_of(
    st.tuples(st.just("send"), CONTENTS, st.sampled_from(Strategy.ALL)),
    st.tuples(st.just("send"), CONTENTS, st.just(Strategy.ENQUEUE)),
    st.tuples(st.just("add"), st.text("abcé\n", min_size=1, max_size=5)),
    st.tuples(st.just("follow"), st.integers(0, 1000)),
    st.sampled_from([("cut",), ("cut",), ("cancel",), ("start",)]),
)
ENDS = {
    "complete": SessionStatus.COMPLETED,
    "fail": SessionStatus.FAILED,
    "terminate": SessionStatus.TERMINATED,
}
BODIES = {"fail": {"error_message": "it broke"}}


class Driver(Asking, RuleBasedStateMachine):
    """One example: sessions of its own, in the world that it shares with the others."""

    sessions = Bundle("sessions")

    def __init__(self, world: World) -> None:
        super().__init__()
        if world.is_over():
            raise TimeOver
        self.world = world
        self.known: list[Known] = []
        # What the last step was about, where it was no fault.
        self.touched: Known | None = None
        self.faults = 0
        self.steps = 0
        world.examples += 1

    @initialize(target=sessions, kind=AGENTS)
    def begin(self, kind: str) -> MultipleResults[Known]:
        another = self.world.dice.choice([BOSS, CLERK])
        return multiple(*(self.create(True, each) for each in (PLAIN, kind, another)))

    @precondition(lambda self: len(self.known) < MOST)
    @rule(target=sessions, is_started=st.booleans(), kind=KINDS)
    def create(self, is_started: bool, kind: str) -> Known:
        session = self._plain() if kind == PLAIN else self._agent(kind)
        self.known.append(session)
        if is_started:
            self.start(session)
        if is_started and kind != PLAIN:
            self.send(session, "hello", Strategy.ENQUEUE)
        self.follow(session, 0)
        return session

    def _plain(self) -> Known:
        answer = self._post("create", "", {"profile_name": "foundation/test"})
        return Known(self._created(answer)["sessionId"], self.world.client)

    @rule(session=sessions, deeds=st.lists(DEEDS, min_size=1, max_size=4))
    def use(self, session: Known, deeds: list[tuple[Any, ...]]) -> None:
        for name, *arguments in deeds:
            getattr(self, name)(session, *arguments)

    @precondition(lambda self: self.agents())
    @rule(count=st.integers(1, 3))
    def employ(self, count: int) -> None:
        """What people do with agents: the dice choose it, since Hypothesis would repeat itself."""
        for _ in range(count):
            name, *arguments = ask(self.world.dice)
            if not self.world.is_over():
                getattr(self, name)(self.world.dice.choice(self.agents()), *arguments)

    def agents(self) -> list[Known]:
        """Return the sessions whose models call tools."""
        return [session for session in self.known if isinstance(session, Agent)]

    def start(self, session: Known) -> None:
        self._change(session, "start", SessionStatus.ACTIVE)

    @precondition(lambda self: self.steps > YOUTH)
    @rule(session=sessions, verb=st.sampled_from(sorted(ENDS)))
    def end(self, session: Known, verb: str) -> None:
        self.perhaps_engage(session)
        self._change(session, verb, ENDS[verb])

    def add(self, session: Known, content: str) -> None:
        answer = self._post("add message", f"{session.session_id}/messages", {"content": content})
        self._expect(session, answer, 201, {400} if not content.strip() else set())
        if answer.status_code == 201:
            session.said[answer.json()["messageId"]] = answer.json()["content"]

    def send(self, session: Known, content: str, strategy: str) -> None:
        asked = session.questions()
        answer = self._send(session, content, strategy)
        refusals = {"reject": {409}, "enqueue": {429}}.get(strategy, set())
        self._expect(session, answer, 202, refusals)
        self._accepted(session, content, answer)
        if answer.status_code == 202:
            self._passed_over(session, asked, strategy)

    def _passed_over(self, session: Known, asked: list[Row], strategy: str) -> None:
        """A new message denies what was asked in its session, or cancels all that was going on."""
        if strategy == Strategy.INTERRUPT:
            session.note(asked, ActionStatus.WITHDRAWN)
        own = [each for each in asked if each["sessionId"] == session.session_id]
        if strategy == Strategy.ENQUEUE:
            session.note(own, ActionStatus.DENIED)
        self.world.operations["send while asked"] += bool(asked)

    def cancel(self, session: Known) -> None:
        asked = session.questions()
        answer = self._post("cancel", f"{session.session_id}/cancel-execution")
        assert answer.status_code == (202 if asked else answer.status_code), answer.text
        assert answer.status_code in (200, 202), answer.text
        session.note(asked, ActionStatus.WITHDRAWN)
        self.world.operations["cancel while asked"] += bool(asked)
        self.touched = session

    @precondition(lambda self: self.steps > YOUTH)
    @rule(session=sessions, verb=st.sampled_from(sorted(ENDS)), content=CONTENTS)
    def race(self, session: Known, verb: str, content: str) -> None:
        """Messages are sent while the session is ended: each is accepted or refused, as a whole."""
        with ThreadPoolExecutor(5) as pool:
            sends = [
                pool.submit(self._send, session, content, strategy)
                for strategy in (*Strategy.ALL, Strategy.ENQUEUE)
            ]
            pool.submit(self._change, session, verb, ENDS[verb], is_alone=False).result()
        for answer in (future.result() for future in sends):
            assert answer.status_code in (202, 409, 429), answer.text
            self._accepted(session, content, answer)

    @precondition(lambda self: self.steps > YOUTH and len(self.known) >= ENOUGH)
    @rule(session=consumes(sessions))
    def delete(self, session: Known) -> None:
        self.perhaps_engage(session)
        self.world.operations["delete"] += 1
        self.world.operations["delete while asked"] += bool(session.questions())
        self.world.client.delete(session.session_id)
        gone = self.world.client.ask("GET", session.session_id)
        assert gone.status_code == 404, gone.text
        self.known.remove(session)
        self.touched = None
        self._leave(session)
        assert not any(watcher.finding for watcher in session.watchers)
        if isinstance(session, Agent):
            session.abandon()

    def follow(self, session: Known, place: int) -> None:
        """Follow from anywhere in what is known of the journal."""
        self.world.operations["follow"] += 1
        if len(session.watchers) < WATCHERS:
            after = place % (len(session.journal) + 1)
            session.watchers.append(Watcher(self.world.own.url, session.session_id, after))
        self.touched = session

    def cut(self, session: Known) -> None:
        self.world.operations["cut"] += len(session.watchers)
        for watcher in session.watchers:
            watcher.cut()
        self.touched = None

    @rule(fault=st.sampled_from(FAULT_KINDS))
    def suffer(self, fault: tuple[Any, ...]) -> None:
        """Cause a fault, unless there were enough: no precondition, since the dice cause some too.

        Hypothesis repeats the beginnings of examples, and wants the same rules to be allowed.
        """
        if self.faults >= FAULTS:
            return
        name, *arguments = fault
        getattr(self.world.trouble, name)(*arguments)
        self.faults += 1
        self.touched = None

    @invariant()
    def all_is_as_it_was_acknowledged(self) -> None:
        if self.touched:
            self.world.looks += 1
            self.touched.look()
        self.steps += 1
        if self.steps % STRIDE == 0:
            assert findings(self.world.own) == []

    def teardown(self) -> None:
        """Everything comes to an end that all agree on; where a step failed, that is enough."""
        self.world.trouble.over()
        try:
            if sys.exc_info()[0] is None:
                for session in self.known:
                    session.settle()
                assert findings(self.world.own) == []
        finally:
            # Hypothesis ends an example that has become too long by what is no Exception.
            if isinstance(sys.exc_info()[1], Exception) and not self.world.failure:
                self.world.failure = traceback.format_exc()
            for session in self.known:
                self._leave(session)

    def _post(self, what: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        self.world.operations[what] += 1
        return self.world.client.post(path, body)

    def _send(self, session: Known, content: str, strategy: str) -> httpx.Response:
        body = {"content": content, "multitask_strategy": strategy}
        return self._post(f"send ({strategy})", f"{session.session_id}/send-message", body)

    def _accepted(self, session: Known, content: str, answer: httpx.Response) -> None:
        if answer.status_code == 202:
            accepted = answer.json()
            session.said[accepted["messageId"]] = content
            session.runs[accepted["runId"]] = accepted["messageId"]

    def _change(self, session: Known, verb: str, target: str, *, is_alone: bool = True) -> None:
        """Change the status: 204 where the table of transitions has the step, else 409."""
        asked = session.questions() if is_alone and target in SESSION_TERMINAL else []
        answer = self._post(verb, f"{session.session_id}/{verb}", BODIES.get(verb))
        is_allowed = target in SESSION_TRANSITIONS[session.status]
        assert answer.status_code == (204 if is_allowed else 409), answer.text
        if is_allowed:
            session.status = target
            session.note(asked, ActionStatus.WITHDRAWN)
            self.world.operations[f"{verb} while asked"] += bool(asked)
        self.touched = session

    def _expect(self, session: Known, answer: httpx.Response, success: int, also: set[int]) -> None:
        """Messages are for active sessions, and refused by all others."""
        self.touched = session
        expected = {success} if session.status == SessionStatus.ACTIVE else {409}
        assert answer.status_code in expected | also, answer.text

    def _leave(self, session: Known) -> None:
        """Follow the session no longer, and count what was seen of it."""
        self.world.events.update(event["event"] for event in session.journal)
        for watcher in session.watchers:
            watcher.stop()
            self.world.frames += len(watcher.seen)
            self.world.connections += watcher.connections
