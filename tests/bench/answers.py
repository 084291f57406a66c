"""How soon a run goes on once a person has answered the approval that it waits for."""

import json
import time
from contextlib import closing

from tests.bench.client import Client
from tests.bench.figures import Figures
from tests.bench.fill import PROFILE
from tests.bench.first_content import PAUSE, wait_for
from tests.bench.load import Load
from tests.bench.streams import started_session
from tests.bench.throwaway import Daemon

COUNT = 50
# What follows an answer, in this order: the worker has the run again, and the tool has worked.
STEPS = ("run_resumed", "hook:tool:post")

SCRIPT = [
    {"tools": [{"name": "update_todos", "args": {"todos": [{"content": "Measure."}]}}]},
    {"text": "Done."},
]
OVERRIDES = {
    "providers": [{"module": "provider-mock", "config": {"script": SCRIPT, "priority": 1000}}],
    "tools": [{"module": "tool-todo", "config": {"require_approval": True}}],
}


def measure_answers(daemon: Daemon, count: int = COUNT) -> list[Figures]:
    """Return the figures of each step after an answer, of so many approvals."""
    with daemon.client() as sender:
        # The worker loads what it needs when the first message comes.
        answered(daemon, sender)
        busy, started = time.process_time(), time.perf_counter()
        rounds = [answered(daemon, sender) for _ in range(count)]
        elapsed = time.perf_counter() - started
    client = time.process_time() - busy
    return [
        Figures.of(name, Load(sorted(taken), elapsed, None, client))
        for name, taken in zip(STEPS, zip(*rounds, strict=True), strict=True)
    ]


def answered(daemon: Daemon, sender: Client) -> list[float]:
    """Approve a call in a session of its own; return the seconds from then to each step."""
    path = started_session(sender, {"profile_name": PROFILE, "settings_overrides": OVERRIDES})
    with closing(daemon.stream(f"{path}/stream")) as frames:
        wait_for("connected", frames)
        sender.send("POST", f"{path}/send-message", {"content": "Note it."}, 202)
        asked = json.loads(wait_for("hook:approval:required", frames))
        wait_for("run_parked", frames)
        time.sleep(PAUSE)
        answer = {"approval_id": asked["approval_id"], "response": "approve"}
        started = time.perf_counter()
        sender.send("POST", f"{path}/approval-response", answer, 200)
        taken = []
        for name in STEPS:
            wait_for(name, frames)
            taken.append(time.perf_counter() - started)
        wait_for("assistant_message_complete", frames)
    return taken
