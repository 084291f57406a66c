"""Agents at work in a real daemon: files, approvals, sub-sessions, and every process that dies."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from sessions_app import failpoints
from tests.acceptance.gates import Gates, invariants
from tests.harness.agents import calls
from tests.harness.daemon import Daemon, daemon
from tests.harness.providers import DONE, choice, chunk
from tests.harness.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.long]
FILES = {"module": "tool-filesystem", "config": {"require_approval": ["write_file"]}}
WORK = [
    {"text": "I look around.", "tools": [calls("list_files", path=".")]},
    {"tools": [calls("read_file", path="plan.txt")]},
    {"tools": [calls("edit_file", path="plan.txt", old="tea", new="coffee")]},
    {"text": "I write it down.", "tools": [calls("write_file", path="made.txt", content="done")]},
    {"text": "All done."},
]
SAID = "I look around.\n\nI write it down.\n\nAll done."


@pytest.fixture(scope="module")
def gates(tmp_path_factory: pytest.TempPathFactory) -> Gates:
    return Gates(tmp_path_factory.mktemp("gates"))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, gates: Gates) -> Iterator[Daemon]:
    """A daemon that outlives every fault of this module."""
    home = tmp_path_factory.mktemp("agents") / "home"
    settings = {"AMPLIFIERD_LEASE": "3", "AMPLIFIERD_BARRIERS": str(gates.folder)}
    with daemon(home, **settings) as running:
        yield running


@pytest.fixture(autouse=True)
def checked(own: Daemon, gates: Gates) -> Iterator[None]:
    """After each test all invariants hold over the whole database."""
    yield
    gates.open()
    until(own.ready, "the daemon to be ready")
    invariants(own)


@pytest.fixture
def root(own: Daemon) -> Path:
    """The directory of the sessions, with a plan in it."""
    folder = own.home / "root"
    (folder / "plan.txt").write_text("Drink tea.\n")
    for made in ("made.txt", "log.txt"):
        (folder / made).unlink(missing_ok=True)
    return folder


def profile(own: Daemon, name: str, provider: dict[str, Any], *tools: dict[str, Any]) -> str:
    """Make a profile with that provider and tools; return its name."""
    body = {"name": name, "description": "An agent.", "providers": [provider], "tools": [*tools]}
    own.ask("POST", "/profiles/", {**body, "instruction": "Do what you are told."})
    return f"local/{name}"


def mock(script: list[dict[str, Any]]) -> dict[str, Any]:
    return {"module": "provider-mock", "config": {"script": script}}


def question(own: Daemon, session_id: str) -> dict[str, Any]:
    """Wait until the session asks something, and return it."""
    path = f"/approvals/?status=pending&session_id={session_id}"
    return dict(until(lambda: own.ask("GET", path), "a question")[0])


def answer(own: Daemon, session_id: str, asked: dict[str, Any], response: str = "approve") -> None:
    body = {"approval_id": asked["approvalId"], "response": response}
    own.ask("POST", f"/sessions/{session_id}/approval-response", body)


def settled(own: Daemon, session_id: str) -> list[dict[str, Any]]:
    """Wait for the outcome of the session's run, and return the journal."""

    def told() -> list[dict[str, Any]]:
        events = own.events(session_id)
        return events if events[-1]["event"] == "assistant_message_complete" else []

    return list(until(told, "the outcome"))


def printed(events: list[dict[str, Any]]) -> None:
    """Print a journal, a line for each event."""
    for event in events:
        print(f"{event['id']:>4} {event['event']:<28} {json.dumps(event['data'])[:160]}")


def finished(own: Daemon, session_id: str, root: Path, said: str = SAID) -> None:
    """The work is done, once, and told."""
    events = settled(own, session_id)
    printed(events)
    assert (root / "plan.txt").read_text() == "Drink coffee.\n"
    assert (root / "made.txt").read_text() == "done"
    assert own.transcript(session_id)[-1]["content"] == said
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))


class Service(ThreadingHTTPServer):
    """A service that speaks OpenAI's protocol and plays a script, one answer to each request."""

    def __init__(self, script: list[dict[str, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script

    def answer(self, messages: list[dict[str, Any]]) -> bytes:
        """The answer that is next after those in the conversation."""
        count = sum(message["role"] == "assistant" for message in messages)
        step = self.script[count]
        tools = [
            {
                "index": 0,
                "id": f"call_{count}",
                "type": "function",
                "function": {"name": call["name"], "arguments": json.dumps(call["args"])},
            }
            for call in step.get("tools", [])
        ]
        deltas = [chunk(step["text"])] if "text" in step else []
        if tools:
            deltas.append(chunk(choices=[choice({"tool_calls": tools})]))
        end = chunk(choices=[choice({}, "tool_calls" if tools else "stop")])
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        return b"".join([*deltas, end, chunk(usage=usage), DONE])


class Handler(BaseHTTPRequestHandler):
    """One request to the service."""

    server: Service

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.server.answer(json.loads(self.rfile.read(length))["messages"])
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(WORK) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def compatible(service: Service) -> dict[str, Any]:
    config = {"base_url": f"http://127.0.0.1:{service.server_port}/v1", "default_model": "fake"}
    return {"module": "provider-openai-compatible", "config": config}


@pytest.mark.parametrize("which", ["mock", "compatible"])
def test_an_agent_that_waits_survives_the_end_of_everything(
    own: Daemon, root: Path, service: Service, which: str
) -> None:
    provider = mock(WORK) if which == "mock" else compatible(service)
    session_id = own.session(profile(own, f"worker-{which}", provider, FILES))
    own.send(session_id, "Do the work.")
    asked = question(own, session_id)
    assert asked["toolName"] == "write_file"
    assert not (root / "made.txt").exists()
    own.kill_everything()
    own.start()
    with httpx.Client() as other:
        url = f"{own.url}/api/v1/sessions/{session_id}/approval-response"
        body = {"approval_id": asked["approvalId"], "response": "approve"}
        other.post(url, json=body).raise_for_status()
    finished(own, session_id, root)


@pytest.mark.parametrize(
    "barrier", [failpoints.KEPT, failpoints.PARKED, failpoints.CLAIMED, failpoints.BEFORE_SETTLING]
)
def test_a_worker_killed_in_the_middle_of_an_agent_s_work(
    own: Daemon, gates: Gates, root: Path, barrier: str
) -> None:
    session_id = own.session(profile(own, f"killed-{barrier}", mock(WORK), FILES))
    if barrier != failpoints.BEFORE_SETTLING:
        gates.close(barrier)
    own.send(session_id, "Do the work.")
    if barrier != failpoints.BEFORE_SETTLING:
        gates.reached(barrier)
        own.kill("run_worker")
        gates.open()
    asked = question(own, session_id)
    if barrier == failpoints.BEFORE_SETTLING:
        gates.close(barrier)
    answer(own, session_id, asked)
    if barrier == failpoints.BEFORE_SETTLING:
        gates.reached(barrier)
        own.kill("run_worker")
        gates.open()
    finished(own, session_id, root)


def test_a_call_whose_end_nobody_knows_is_reported_and_not_repeated(
    own: Daemon, gates: Gates, root: Path
) -> None:
    script = [
        {"tools": [calls("edit_file", path="plan.txt", old="tea", new="tea and tea")]},
        {"text": "I looked."},
    ]
    tool = {"module": "tool-filesystem", "config": {}}
    session_id = own.session(profile(own, "unknown-end", mock(script), tool))
    gates.close(failpoints.CALLED)
    own.send(session_id, "Double the tea.")
    gates.reached(failpoints.CALLED)
    own.kill("run_worker")
    gates.open()
    events = settled(own, session_id)
    assert (root / "plan.txt").read_text() == "Drink tea and tea.\n"
    posts = [e["data"]["hook_data"] for e in events if e["event"] == "hook:tool:post"]
    assert len(posts) == 1 and "interrupted" in posts[0]["error"]
    assert own.transcript(session_id)[-1]["content"] == "I looked."


def test_a_call_of_a_program_is_gone_with_its_worker(own: Daemon, gates: Gates, root: Path) -> None:
    command = "echo once >> log.txt; sleep 600; echo twice >> log.txt"
    script = [{"tools": [calls("bash", command=command)]}, {"text": "It broke."}]
    tool = {"module": "tool-bash", "config": {"timeout": 900}}
    session_id = own.session(profile(own, "program", mock(script), tool))
    own.send(session_id, "Run it.")
    until((root / "log.txt").exists, "the program to begin")
    own.kill("run_worker")
    settled(own, session_id)
    assert (root / "log.txt").read_text() == "once\n"
    until(lambda: "sleep 600" not in commands(), "the program to be gone")


def commands() -> str:
    """Everything that runs on this machine."""
    lines = (path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
    return "\n".join(line.replace(b"\0", b" ").decode(errors="replace") for line in lines)


def test_a_cancel_ends_the_program_and_leaves_the_session_usable(own: Daemon, root: Path) -> None:
    script = [{"tools": [calls("bash", command="touch log.txt; sleep 601")]}, {"text": "Never."}]
    tool = {"module": "tool-bash", "config": {"timeout": 900}}
    session_id = own.session(profile(own, "cancelled", mock(script), tool))
    own.send(session_id, "Run it.")
    until((root / "log.txt").exists, "the program to begin")
    own.ask("POST", f"/sessions/{session_id}/cancel-execution")
    until(lambda: "sleep 601" not in commands(), "the program to be gone")
    assert own.ask("GET", f"/sessions/{session_id}")["status"] == "active"


def test_a_task_is_done_although_every_worker_is_killed(own: Daemon, gates: Gates) -> None:
    script = [
        {"tools": [calls("delegate", profile="foundation/test", message="Say it.")]},
        {"text": "It was said."},
    ]
    tool = {"module": "tool-task", "config": {"profiles": ["foundation/test"]}}
    session_id = own.session(profile(own, "delegating", mock(script), tool))
    gates.close(failpoints.PARKED)
    own.send(session_id, "Have it said.")
    gates.reached(failpoints.PARKED)
    own.kill("run_worker")
    gates.open()
    events = settled(own, session_id)
    (child,) = own.ask("GET", f"/sessions/?parent_session_id={session_id}")
    until(
        lambda: own.ask("GET", f"/sessions/{child['sessionId']}")["status"] == "completed",
        "the end of the sub-session",
    )
    (post,) = [e["data"]["hook_data"] for e in events if e["event"] == "hook:tool:post"]
    assert post["tool_response"] == "Echo: Say it."
    parked = next(e["data"] for e in events if e["event"] == "run_parked")
    assert parked["waits"][0]["session_id"] == child["sessionId"]
