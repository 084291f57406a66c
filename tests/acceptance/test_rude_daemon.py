"""A real daemon at a model server that misbehaves, while its own processes die or are frozen."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.acceptance.gates import invariants
from tests.harness.daemon import ROOT, Daemon, daemon, free_port
from tests.harness.rude.play import provider
from tests.harness.rude.server import RudeServer
from tests.harness.rude.wire import Call, say, want
from tests.harness.sse import Follower
from tests.harness.waiting import until

pytestmark = [pytest.mark.acceptance]
FILES = {"module": "tool-filesystem", "config": {}}
ASKING = {"module": "tool-filesystem", "config": {"require_approval": True}}
SHELL = {"module": "tool-bash", "config": {"timeout": 900}}
CHECKS = "strict_roles+no_tool_blocks_without_tools+no_blank_messages+unique_call_ids"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that outlives every fault of this module."""
    home = tmp_path_factory.mktemp("rude") / "home"
    settings = {"AMPLIFIERD_LEASE": "3", "ANTHROPIC_API_KEY": "sk-good"}
    with daemon(home, **settings) as running:
        yield running


@pytest.fixture(autouse=True)
def checked(own: Daemon) -> Iterator[None]:
    """After each test all invariants hold over the whole database."""
    yield
    until(own.ready, "the daemon to be ready")
    invariants(own)


@pytest.fixture
def root(own: Daemon) -> Path:
    """The directory of the sessions, with a file in it."""
    folder = own.home / "root"
    (folder / "a.txt").write_text("This is a.txt.\n")
    for made in ("made.txt", "log.txt"):
        (folder / made).unlink(missing_ok=True)
    return folder


def session(
    own: Daemon, server: RudeServer, *tools: dict[str, Any], protocol: str = "chat", **config: Any
) -> str:
    """Start a session whose profile has the server and the tools."""
    name = f"rude-{server.port}"
    entry = provider(server, protocol, api_key=None, **config)
    body = {"name": name, "description": "Rude.", "instruction": "Be brief."}
    own.ask("POST", "/profiles/", {**body, "providers": [entry], "tools": [*tools]})
    return own.session(f"local/{name}")


def run(own: Daemon, session_id: str, content: str) -> dict[str, Any]:
    """Send a message, and return its run when it has ended."""
    return ended(own, session_id, own.send(session_id, content)["runId"])


def ended(own: Daemon, session_id: str, run_id: str) -> dict[str, Any]:
    """Wait for the end of a run."""

    def found() -> dict[str, Any] | None:
        given = own.ask("GET", f"/sessions/{session_id}/runs/{run_id}")
        return given if given["status"] in ("succeeded", "failed", "cancelled") else None

    return dict(until(found, "the end of the run"))


def events(own: Daemon, session_id: str, run_id: str, kind: str) -> list[dict[str, Any]]:
    """Return the data of a run's events of one kind."""
    found = own.events(session_id)
    assert [each["id"] for each in found] == list(range(1, len(found) + 1))
    return [
        each["data"]
        for each in found
        if each["event"] == kind and each["data"].get("runId") == run_id
    ]


def finish_reasons(own: Daemon, session_id: str, run: dict[str, Any]) -> list[Any]:
    """Return how a run finished, as run, message and event tell it."""
    (complete,) = events(own, session_id, run["runId"], "assistant_message_complete")
    told = [
        each
        for each in own.transcript(session_id)
        if each["role"] == "assistant" and each["runId"] == run["runId"]
    ]
    return [each.get("finishReason") for each in (run, *told, complete)]


def goes_on(own: Daemon, session_id: str) -> None:
    """One more plain message works."""
    again = run(own, session_id, "Still there?")
    assert again["status"] == "succeeded", again
    assert own.transcript(session_id)[-1]["content"]
    assert finish_reasons(own, session_id, again) == ["stop"] * 3


@pytest.mark.parametrize("protocol", ["chat", "messages"])
def test_an_answer_that_was_cut_is_told_as_cut_everywhere(own: Daemon, protocol: str) -> None:
    with RudeServer(f"{CHECKS}+cut_by_length") as server:
        session_id = session(own, server, protocol=protocol)
        cut = run(own, session_id, "Tell me all.")
        assert cut["status"] == "succeeded"
        assert finish_reasons(own, session_id, cut) == ["length"] * 3
        assert own.transcript(session_id)[-1]["content"] == "Half of an answer"
        goes_on(own, session_id)


@pytest.mark.parametrize(
    "spec", ["empty_finish_then_close", "error_event_after_text", "closed_in_answer"]
)
def test_an_answer_that_broke_off_is_told_as_an_error_everywhere(own: Daemon, spec: str) -> None:
    with RudeServer(f"{CHECKS}+{spec}") as server:
        session_id = session(own, server)
        broken = run(own, session_id, "Tell me all.")
        assert (broken["status"], broken["errorCode"]) == ("failed", "provider_error")
        assert finish_reasons(own, session_id, broken) == ["error"] * 3
        goes_on(own, session_id)


def test_halves_of_pairs_in_text_and_calls_are_stored(own: Daemon, root: Path) -> None:
    with RudeServer(f"{CHECKS}+surrogates_in_arguments", say("\ud83d", "\ude00 \ud800.")) as server:
        session_id = session(own, server, FILES)
        written = run(own, session_id, "Write it down.")
        assert written["status"] == "succeeded", written
        assert (root / "a.txt").read_text() == "\U0001f600 \U0001f600 \ufffd."
        assert own.transcript(session_id)[-1]["content"] == "\U0001f600 \ufffd."
        goes_on(own, session_id)


def test_nothing_after_tools_is_a_message(own: Daemon, root: Path) -> None:
    with RudeServer(f"{CHECKS}+empty_after_tools") as server:
        session_id = session(own, server, FILES)
        done = run(own, session_id, "Look.")
        assert done["status"] == "succeeded", done
        assert finish_reasons(own, session_id, done) == ["stop"] * 3
        assert own.transcript(session_id)[-1]["content"] == ""
        goes_on(own, session_id)


def test_a_place_without_a_model_is_named_without_its_page(own: Daemon) -> None:
    with RudeServer("html_404") as server:
        session_id = session(own, server)
        failed = run(own, session_id, "Hello?")
        (error,) = events(own, session_id, failed["runId"], "execution_error")
        assert error["code"] == "provider_error"
        assert "base_url" in error["error"]
        assert "<" not in error["error"]
        assert finish_reasons(own, session_id, failed) == ["error"] * 2


@pytest.mark.long
@pytest.mark.parametrize("protocol", ["chat", "messages"])
def test_a_worker_that_is_killed_in_the_middle_of_an_answer(own: Daemon, protocol: str) -> None:
    with RudeServer(f"{CHECKS}+hangs_in_answer") as server:
        session_id = session(own, server, protocol=protocol)
        run_id = own.send(session_id, "Tell me all.")["runId"]
        assert server.hangs.wait(60)
        Follower(own.url, session_id).until("content")
        own.kill("run_worker")
        assert server.left.wait(60), "a killed worker keeps its connection"
        answered = ended(own, session_id, run_id)
        assert (answered["status"], answered["attempt"]) == ("succeeded", 2)
        assert own.transcript(session_id)[-1]["content"] == "Well said."
        assert finish_reasons(own, session_id, answered) == ["stop"] * 3
        assert len(events(own, session_id, run_id, "run_interrupted")) == 1
        goes_on(own, session_id)


@pytest.mark.long
def test_a_worker_that_is_killed_in_a_call_of_a_tool(own: Daemon, root: Path) -> None:
    command = "echo once >> log.txt; sleep 602; echo twice >> log.txt"
    script = (want(Call("bash", {"command": command}, "functions.bash:0")), say("It broke off."))
    with RudeServer(CHECKS, *script) as server:
        session_id = session(own, server, SHELL)
        run_id = own.send(session_id, "Run it.")["runId"]
        until((root / "log.txt").exists, "the program to begin")
        own.kill("run_worker")
        answered = ended(own, session_id, run_id)
        assert answered["status"] == "succeeded", answered
        assert own.transcript(session_id)[-1]["content"] == "It broke off."
        assert (root / "log.txt").read_text() == "once\n"
        assert any("interrupted" in each for each in server.requests[-1].results)
        goes_on(own, session_id)


@pytest.mark.long
@pytest.mark.parametrize("response", ["approve", "deny"])
@pytest.mark.parametrize("protocol", ["chat", "messages"])
def test_a_worker_that_is_killed_while_a_run_is_parked(
    own: Daemon, root: Path, protocol: str, response: str
) -> None:
    # Its thinking is signed, and has to come back as it was.
    spec = f"{CHECKS}+thinks_and_calls+signature_checked"
    with RudeServer(spec) as server:
        session_id = session(own, server, ASKING, protocol=protocol)
        run_id = own.send(session_id, "Look.")["runId"]
        pending = f"/approvals/?status=pending&session_id={session_id}"
        (asked,) = until(lambda: own.ask("GET", pending), "a question")
        own.kill("run_worker")
        body = {"approval_id": asked["approvalId"], "response": response}
        own.ask("POST", f"/sessions/{session_id}/approval-response", body)
        answered = ended(own, session_id, run_id)
        assert answered["status"] == "succeeded", answered
        assert server.refusals == []
        (result,) = server.requests[-1].results
        assert ("This is a.txt." in result) == (response == "approve")
        goes_on(own, session_id)


@pytest.mark.long
def test_a_message_instead_of_an_answer_to_a_parked_run(own: Daemon, root: Path) -> None:
    with RudeServer(f"{CHECKS}+thinks_and_calls") as server:
        session_id = session(own, server, ASKING)
        run_id = own.send(session_id, "Look.")["runId"]
        pending = f"/approvals/?status=pending&session_id={session_id}"
        until(lambda: own.ask("GET", pending), "a question")
        own.kill("run_worker")
        own.ask("POST", f"/sessions/{session_id}/runs/{run_id}/cancel")
        goes_on(own, session_id)
        assert server.refusals == []


class Program:
    """The rude server as a process of its own, which can be killed and frozen."""

    def __init__(self, port: int, behaviour: str) -> None:
        command = [sys.executable, "-m", "tests.harness.rude.server", "--port", str(port)]
        self.process = subprocess.Popen(
            [*command, "--behaviour", behaviour], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert self.process.stdout
        self.port = int(json.loads(self.process.stdout.readline())["port"])
        self.root = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.root}/v1"

    def requests(self) -> list[dict[str, Any]]:
        return list(httpx.get(f"{self.root}/rude/requests").json())


@contextlib.contextmanager
def program(behaviour: str, port: int = 0) -> Iterator[Program]:
    running = Program(port or free_port(), behaviour)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


@pytest.mark.long
def test_a_model_server_that_is_killed_in_the_middle_of_an_answer(own: Daemon) -> None:
    with program(f"{CHECKS}+hangs_in_answer") as server:
        session_id = session(own, server, max_retries=0)
        run_id = own.send(session_id, "Tell me all.")["runId"]
        Follower(own.url, session_id).until("content")
        server.process.send_signal(signal.SIGKILL)
        broken = ended(own, session_id, run_id)
        assert (broken["status"], broken["errorCode"]) == ("failed", "provider_error")
        assert finish_reasons(own, session_id, broken) == ["error"] * 3
        away = run(own, session_id, "And now?")
        assert (away["status"], away["errorCode"]) == ("failed", "provider_error")
    with program(CHECKS, server.port) as server:
        goes_on(own, session_id)
        assert "Tell me all." in json.dumps(server.requests()[-1])


# Seconds for which everything stands still: longer than any silence that is granted.
FROZEN = 4.0


@pytest.mark.long
@pytest.mark.alone
def test_a_healthy_stream_goes_on_when_everything_was_frozen(tmp_path: Path) -> None:
    with daemon(tmp_path / "home") as own, program(f"{CHECKS}+slow_answer") as server:
        limits = {"next_token_timeout": 2, "first_token_timeout": 2}
        session_id = session(own, server, **limits)
        run_id = own.send(session_id, "Tell me all.")["runId"]
        Follower(own.url, session_id).until("content")
        postmaster = own.postmaster()
        assert own.process
        everything = [
            psutil.Process(own.process.pid),
            *own.children(),
            psutil.Process(server.process.pid),
            postmaster,
            *postmaster.children(),
        ]
        for each in everything:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.suspend()
        time.sleep(FROZEN)
        for each in reversed(everything):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.resume()
        answered = ended(own, session_id, run_id)
        assert (answered["status"], answered["attempt"]) == ("succeeded", 1), answered
        said = own.transcript(session_id)[-1]["content"]
        assert said == "".join(f"{number} " for number in range(10))
        goes_on(own, session_id)
        invariants(own)
