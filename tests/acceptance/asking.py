"""What the driver does with agents: it answers what they ask, and takes their helpers away."""

import random
from collections.abc import Callable
from typing import Any

import httpx
from hypothesis import strategies as st

from sessions_app.services.runs import Strategy
from sessions_app.states import Answer, SessionStatus
from tests.acceptance.agent import Agent
from tests.acceptance.agents import SCRIPTS, make_folder
from tests.acceptance.known import Known
from tests.acceptance.world import World
from tests.harness.waiting import until

# What a person does with an agent, and how often.
ASKS = {
    "engage": 1,
    "answer": 4,
    "answer_at_once": 3,
    "remove": 1,
    "send": 2,
    "cancel": 1,
    "fault": 1,
}
# Faults of an example: a daemon whose processes are killed ever again starts them ever later.
FAULTS = 5
FAULT_KINDS = [
    ("kill", "run_worker"),
    ("kill", "run_web"),
    ("restart_database",),
    ("pause_worker", 0.5),
    ("pause_worker", 6.0),
]
PLAIN = "plain"
AGENTS = st.sampled_from(sorted(SCRIPTS))
KINDS = st.just(PLAIN) | AGENTS


def ask(dice: random.Random) -> tuple[Any, ...]:
    """Return the name of something to be done with an agent, and how."""
    (name,) = dice.choices([*ASKS], [*ASKS.values()])
    places = [dice.randrange(8) for _ in range(2)]
    responses = dice.choices(Answer.values, k=2)
    arguments: dict[str, tuple[Any, ...]] = {
        "answer": (places[0], responses[0]),
        "answer_at_once": (*places, *responses),
        "remove": (places[0],),
        "send": ("hello", dice.choice(Strategy.ALL)),
    }
    return name, *arguments.get(name, ())


class Asking:
    """The part of the driver that is about agents."""

    world: World
    touched: Known | None
    faults: int
    send: Callable[[Known, str, str], None]
    suffer: Callable[[tuple[Any, ...]], None]

    def engage(self, session: Known) -> None:
        """Have an agent at work until it asks something, or has nothing left to do."""
        if not isinstance(session, Agent):
            return
        if session.status == SessionStatus.ACTIVE and session.is_idle():
            self.send(session, "hello", Strategy.ENQUEUE)
        until(session.is_quiet, f"{session.session_id} to ask or to end")
        self._count(session, "engage")

    def perhaps_engage(self, session: Known) -> None:
        """As often as not, what is done next is done while an agent waits for an answer."""
        if self.world.dice.random() < 0.5:
            self.engage(session)

    def answer(self, session: Known, place: int, response: str) -> None:
        """Answer one of the questions, if there are any."""
        self.engage(session)
        if isinstance(session, Agent) and (asked := session.questions()):
            session.answer(asked[place % len(asked)], response)
            self._count(session, f"answer ({response})")

    def answer_at_once(
        self, session: Known, place: int, other: int, response: str, second: str
    ) -> None:
        """Two clients answer at the same time, one question or two."""
        self.engage(session)
        if isinstance(session, Agent) and (asked := session.questions()):
            one, two = asked[place % len(asked)], asked[other % len(asked)]
            refused = session.answer_at_once([(one, response), (two, second)])
            self._count(session, f"answer twice ({refused} refused)")

    def fault(self, session: Known) -> None:
        """Something dies, or stands still, in the middle of it."""
        self.suffer(self.world.dice.choice(FAULT_KINDS))

    def remove(self, session: Known, place: int) -> None:
        """Delete a sub-session, whatever it does."""
        if isinstance(session, Agent) and (children := session.living()):
            session.remove(children[-1 - place % len(children)])
            self._count(session, "delete sub-session")

    def _agent(self, kind: str) -> Agent:
        """Create an agent with a folder of its own."""
        client, own = self.world.client, self.world.own
        folder = make_folder(own)
        path = f"{own.url}/api/v1/amplified-directories/"
        self._created(client.post(path, {"relative_path": folder.name}))
        body = {"profile_name": f"local/{kind}", "amplified_dir": folder.name}
        self.world.operations[f"create {kind}"] += 1
        session_id = self._created(client.post("", body))["sessionId"]
        inbox, dice = f"{own.url}/api/v1/approvals/", self.world.dice
        more = {"kind": kind, "folder": folder, "inbox": inbox, "dice": dice}
        return Agent(session_id, client, **more, ends=self.world.calls)

    def _created(self, answer: httpx.Response) -> dict[str, str]:
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def _count(self, session: Known, what: str) -> None:
        self.world.operations[what] += 1
        self.touched = session
