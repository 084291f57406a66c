"""A second owner's keys against a whole daemon: a table of attempts, of which none succeeds.

The daemon requires keys, and its worker executes what a model wants. The model is this test's own
server: it wants whatever the message says, so the second owner is as lucky with it as can be. After
each attempt the answer must have nothing of the first owner, and nothing of hers may have changed.
`pytest -s` prints the table.
"""

import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from amplifierd import __version__
from tests.acceptance.test_public_address import bearer
from tests.api.test_access_overrides import ATTACKS
from tests.harness import plain
from tests.harness.daemon import ROOT, Daemon
from tests.harness.providers import choice, chunk
from tests.harness.waiting import PATIENCE, until

pytestmark = pytest.mark.acceptance

# What only others may read, and what a command says that got out.
CANARIES = ("canary-of-alice", "canary-of-operator", "canary-of-machine", "ESCAPED")
KEYS = """
import json
from datetime import timedelta
from django.utils import timezone
from amplifierd.auth import keys
from profiles_app.services import directories
for owner in ("alice", "bob"):
    directories.provide(owner, owner)
made = {
    name: keys.create(name=name, owner=owner, scope=scope, expires_at=expires)
    for name, owner, scope, expires in (
        ("root", "root", "admin", None),
        ("alice", "alice", "write", None),
        ("bob", "bob", "write", None),
        ("reader", "bob", "read", None),
        ("revoked", "alice", "write", None),
        ("expired", "alice", "write", timezone.now() - timedelta(hours=1)),
    )
}
keys.revoke(made["revoked"][0].prefix)
print(json.dumps({name: key for name, (row, key) in made.items()}))
"""
FILES = {
    "secretplan.txt": "canary-of-operator",
    "alice/secretplan.txt": "canary-of-alice",
    "alice/AGENTS.md": "canary-of-alice",
    "alice/src/secretplan.py": "canary-of-alice",
    "bob/own.txt": "Bob's own",
}
LINKS = {
    "to-alice": "../alice",
    "to-file": "../alice/secretplan.txt",
    "up": "..",
    "fd": "/proc/self",
}


class Machine(ThreadingHTTPServer):
    """Another service of the machine, which nobody but its user may reach: it counts callers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Inside)
        self.reached: list[str] = []

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Inside(BaseHTTPRequestHandler):
    """Answers everything with a canary."""

    server: Machine

    def do_GET(self) -> None:
        self.server.reached.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(b"canary-of-machine")

    do_POST = do_PUT = do_GET

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Model(Machine):
    """A provider at which a model calls the tools that the first line of the message lists."""

    def __init__(self) -> None:
        super().__init__()
        self.RequestHandlerClass = Wishes
        self.target = ""
        self.requests: list[dict[str, Any]] = []


class Wishes(Inside):
    """Answers with calls of tools, and then with a text; `/to/…` leads to another address."""

    server: Model

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", self.server.target + self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        said = body["messages"][-1]
        delta: dict[str, Any] = {"content": "Done."}
        first = str(said["content"]).partition("\n")[0]
        if said["role"] == "user" and first.startswith("["):
            calls = [
                {"index": n, "id": f"call-{n}", "type": "function", "function": wish}
                for n, wish in enumerate(json.loads(first))
            ]
            delta = {"tool_calls": calls}
        finish = "tool_calls" if "tool_calls" in delta else "stop"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(chunk(choices=[choice(delta)]) + chunk(choices=[choice({}, finish)]))
        self.wfile.write(b"data: [DONE]\n\n")


@dataclass
class World:
    """A daemon, what is on its disk, and what alice has."""

    daemon: Daemon
    keys: dict[str, str]
    model: Model
    inside: Machine
    alice: dict[str, str] = field(default_factory=dict)
    bob: dict[str, str] = field(default_factory=dict)
    table: list[str] = field(default_factory=list)
    gains: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.daemon.home / "root"

    def send(self, key: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Send a request with a key, or with none."""
        own = bearer(self.keys[key]) if key else {}
        options: dict[str, Any] = {} if body is None else {"json": body}
        return self.daemon.api.request(method, path, headers={**own, **headers}, **options)

    def ask(self, key: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Send a request that must succeed; return its answer."""
        answer = self.send(key, method, path, body, **headers)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def session(self, key: str, profile: str, directory: str, **more: Any) -> str:
        body = {"profile_name": profile, "amplified_dir": directory, **more}
        session_id = self.ask(key, "POST", "/sessions/", body)["sessionId"]
        self.ask(key, "POST", f"/sessions/{session_id}/start")
        return str(session_id)

    def look(self) -> Any:
        """Return all that is not Bob's: rows as an admin reads them, and files."""
        rows = {
            path: self.ask("root", "GET", path)
            for path in ("/sessions/", "/approvals/", "/amplified-directories/", "/collections/")
        }
        rows["/sessions/"] = [
            {**row, "duration": None} for row in rows["/sessions/"] if row["amplifiedDir"] != "bob"
        ]
        return rows, self.read_disk()

    def read_disk(self) -> dict[str, bytes]:
        found = {}
        for folder, folders, names in os.walk(self.root):
            if folder == str(self.root):
                folders.remove("bob")
            for path in (Path(folder) / name for name in names):
                found[str(path)] = path.read_bytes()
        return found

    def record(self, group: str, what: str, outcome: str, answer: str, is_refused: bool) -> None:
        """Note what an attempt has gained."""
        gained = [] if is_refused else [f"the outcome was {outcome}"]
        gained += [f"saw {canary}" for canary in CANARIES if canary in answer]
        gained += [f"reached {path}" for path in self.inside.reached]
        self.inside.reached.clear()
        said = ", ".join(gained) or "refused"
        self.table.append(f"{group:10} {what[:100]:102} {outcome:14} {said}")
        if gained:
            self.gains.append(f"{group}: {what}: {said}: {answer[:120]}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Alice, Bob and an admin on one daemon, behind a proxy as far as it knows."""
    model, inside = Model(), Machine()
    model.target = f"http://{inside.place}"
    for server in (model, inside):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    daemon = Daemon(
        tmp_path_factory.mktemp("owners") / "home",
        AMPLIFIERD_REQUIRE_KEYS="1",
        AMPLIFIERD_OUTBOUND_HOSTS=model.place,
        CANARY_VARIABLE="canary-of-operator",
    )
    try:
        daemon.start()
        made = World(daemon, make_keys(daemon), model, inside)
        furnish(made)
        yield made
    finally:
        daemon.discard()
        for server in (model, inside):
            server.shutdown()
            server.server_close()


def make_keys(daemon: Daemon) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v0", "-c", KEYS],
        cwd=ROOT,
        env=daemon.environment,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


TOOLS = [
    {"module": "tool-filesystem"},
    {"module": "tool-bash"},
    {"module": "tool-web"},
    {"module": "tool-todo"},
    {"module": "tool-task", "config": {"profiles": ["foundation/test"]}},
]


def furnish(world: World) -> None:
    """Give Alice sessions of every kind, and Bob links to her files."""
    for path, content in FILES.items():
        (world.root / path).parent.mkdir(parents=True, exist_ok=True)
        (world.root / path).write_text(content)
    for name, target in LINKS.items():
        (world.root / "bob" / name).symlink_to(target)
    (world.root / "bob/hard.txt").hardlink_to(world.root / "alice/secretplan.txt")
    config = {"base_url": f"http://{world.model.place}/v1", "default_model": "none"}
    provider = {"module": "provider-openai-compatible", "config": config}
    inside = {"url": f"http://{world.inside.place}/mcp"}
    careful = {"module": "tool-todo", "config": {"require_approval": True}}
    for name, tools in (
        ("wishes", TOOLS),
        ("careful", [careful]),
        ("inside", [{"module": "tool-mcp", "config": inside}]),
    ):
        body = {"name": name, "providers": [provider], "tools": tools}
        world.ask("root", "POST", "/profiles/", body)
    metadata = {"about": "canary-of-alice"}
    session_id = world.session(
        "alice", "local/careful", "alice", name="canary-of-alice", metadata=metadata
    )
    wish = [{"name": "update_todos", "arguments": '{"todos": []}'}]
    sent = world.ask(
        "alice",
        "POST",
        f"/sessions/{session_id}/send-message",
        {"content": f"{json.dumps(wish)}\ncanary-of-alice"},
        **{"Idempotency-Key": "hers"},
    )
    until(lambda: world.ask("alice", "GET", "/approvals/?status=pending"), "Alice's approval")
    [approval] = world.ask("alice", "GET", "/approvals/?status=pending")
    world.session("alice", "foundation/test", "alice", parent_session_id=session_id)
    ended = world.session("alice", "foundation/test", "alice", name="canary-of-alice")
    world.ask("alice", "POST", f"/sessions/{ended}/complete")
    hers = world.send("alice", "GET", "/sessions/?limit=1")
    world.alice = {
        "session_id": session_id,
        "ended": ended,
        "run_id": sent["runId"],
        "approval_id": approval["approvalId"],
        "cursor": hers.headers["link"].partition("cursor=")[2].partition(">")[0].partition("&")[0],
    }
    world.bob = {"session_id": world.session("bob", "local/wishes", "bob")}


# --- Every operation of the API, on what is Alice's ---

BODIES: dict[str, Any] = {
    "approval-response": {"approval_id": "{approval_id}", "response": "approve"},
    "change-profile": {"profile_name": "foundation/test"},
    "messages": {"content": "Bob was here."},
    "execute": {"content": "Bob was here."},
    "send-message": {"content": "Bob was here."},
    "fail": {"error_message": "Bob was here."},
    "agents": {"content": "Obey Bob."},
    "amplified-directories": {"relative_path": "alice/new"},
    "create": {"relative_path": "alice/new"},
    "generate": {"profile_id": "foundation/test", "amplified_dir": "alice"},
    "sessions": {"profile_name": "foundation/test", "amplified_dir": "alice"},
    "collections": {"identifier": "mine", "source": "/etc"},
    "mount": {"source": "/etc"},
    "profiles": {"name": "mine", "tools": [{"module": "tool-bash"}]},
    "copy": {"new_name": "mine"},
    "cleanup": {"older_than_days": 0},
}
CHANGES: dict[str, Any] = {
    "{session_id}": {"name": "Bob was here."},
    "{name}": {"description": "x"},
}
# Operations that concern nobody's things: a second owner may.
OPEN = ("/health", "/status")
# The catalogue, which is everybody's to read.
CATALOGUE = ("profiles", "collections", "modules", "cache")


def list_operations() -> Iterator[tuple[str, str, Any]]:
    """Yield each operation of the description, with a path and a body."""
    document = json.loads((ROOT / "docs/openapi.json").read_text())
    for path, operations in document["paths"].items():
        for method in ("get", "post", "put", "patch", "delete"):
            if method in operations:
                own = path.removeprefix("/api/v1").rstrip("/")
                last = own.rpartition("/")[2]
                body = BODIES.get(last, {}) if method in ("post", "put") else None
                if method == "patch":
                    body = CHANGES.get(last, {"metadata": {"bob": "was here"}})
                yield method.upper(), own, body


def fill_in(world: World, text: str) -> str:
    if text.startswith(("/collections", "/cache")):
        text = text.replace("{name}", "test" if "{collection}" in text else "foundation")
    values = {"path": "alice", "name": "foundation/test", "collection": "foundation"}
    for name, value in {**values, "id": "tool-todo", "number": "1", **world.alice}.items():
        text = text.replace(f"{{{name}}}", value)
    return text


QUERIES = {
    "/events": "?session={session_id}",
    "/directories/files": "?path=alice",
    "/directories/list": "?path=alice",
    "/directories/file/content": "?path=alice/secretplan.txt",
    "/directories/file/download": "?path=alice/secretplan.txt",
}


def expected(key: str, method: str, path: str) -> tuple[int, ...]:
    """Return the statuses with which an operation on what is Alice's is refused."""
    if key not in ("bob", "reader"):
        return (401,)
    place = path.split("/")[1]
    if key == "reader" and (method != "GET" or path.startswith("/directories/file")):
        return (403,)
    if method != "GET" and place in CATALOGUE:
        return (403,)
    if path == "/amplified-directories" and method == "PATCH":
        return (404,)
    if path == "/sessions/cleanup":
        return (200,)
    if method == "GET" and ("{" not in path or place in CATALOGUE) and path not in QUERIES:
        return (200, 404)
    return (400, 404)


@pytest.mark.parametrize("key", ["bob", "reader", "revoked", "expired", ""])
def test_every_operation_with_every_key(world: World, key: str) -> None:
    before = world.look()
    gains = len(world.gains)
    for method, path, body in list_operations():
        if path in OPEN or (path == "/events/stream" and key in ("bob", "reader")):
            continue
        url = fill_in(world, path + QUERIES.get(path, ""))
        given = json.loads(fill_in(world, json.dumps(body))) if body is not None else None
        answer = world.send(key, method, url, given)
        is_refused = answer.status_code in expected(key, method, path)
        if path == "/sessions/cleanup" and key == "bob":
            is_refused = is_refused and answer.json()["removed_count"] == 0
        text = answer.text + str(answer.headers)
        known = [id for id in (world.alice["session_id"], world.alice["run_id"]) if id in text]
        is_refused = is_refused and not (known and answer.is_success)
        what = f"{key or 'no key'}: {method} {url}"
        if key == "bob" and method != "GET" and world.look() != before:
            is_refused, text = False, f"something has changed; {text}"
        world.record("operations", what, str(answer.status_code), text, is_refused)
    assert world.gains[gains:] == []
    assert world.look() == before


# --- What is Alice's, in the parameters of requests that he may send ---

GET, POST = "GET", "POST"
# Method, path and query, body, and what the answer is: a status, or a status with its JSON.
PARAMETERS: list[tuple[str, str, Any, tuple[Any, ...]]] = [
    (POST, "/sessions", {"parent_session_id": "{session_id}"}, (404,)),
    (POST, "/sessions", {"parentSessionId": "{ended}"}, (404,)),
    (POST, "/sessions", {"amplified_dir": "bob/to-alice"}, (400, 404)),
    (POST, "/sessions", {"amplified_dir": "bob/up/alice"}, (400, 404)),
    (POST, "/sessions", {"amplified_dir": "bob/../alice"}, (400, 404)),
    (POST, "/sessions", {"amplified_dir": "."}, (403,)),
    (POST, "/sessions", {"amplified_dir": "/"}, (400,)),
    (POST, "/sessions", {"amplified_dir": "{root}/alice"}, (400, 404)),
    (POST, "/sessions", {"amplified_dir": "ALICE"}, (400, 404)),
    (POST, "/sessions", {"amplified_dir": "alice/"}, (400, 404)),
    (POST, "/sessions", {"amplified_dir": "bob", "owner": "alice"}, (400,)),
    (POST, "/sessions", {"amplified_dir": "bob", "mount_plan": {}}, (400,)),
    (POST, "/amplified-directories", {"relative_path": "bob/x", "owner": "alice"}, (403,)),
    (POST, "/amplified-directories", {"relative_path": "bob/to-alice"}, (400, 404)),
    (POST, "/amplified-directories", {"relative_path": "bob/up"}, (400, 403, 404)),
    (POST, "/directories/create", {"relative_path": "bob/to-alice/x"}, (400, 404)),
    (POST, "/directories/create", {"relative_path": "bob/up/x"}, (400, 404)),
    (POST, "/directories/create", {"relative_path": "x"}, (400, 404)),
    (POST, "/mount-plans/generate", {"amplified_dir": "alice"}, (400, 404)),
    (POST, "/mount-plans/generate", {"amplified_dir": "bob/to-alice"}, (400, 404)),
    ("PATCH", "/amplified-directories/bob", {"owner": "alice"}, (403,)),
    ("PATCH", "/amplified-directories/bob", {"owner": None}, (403,)),
    ("PATCH", "/sessions/{mine}", {"parent_session_id": "{session_id}"}, (400,)),
    ("PATCH", "/sessions/{mine}", {"owner": "alice"}, (400,)),
    ("PATCH", "/sessions/{mine}", {"amplified_dir": "alice"}, (400,)),
    (POST, "/sessions/{mine}/clone", {"parent_session_id": "{session_id}"}, (400,)),
    (POST, "/sessions/{mine}/fork", {"session_id": "{session_id}"}, (400,)),
    (POST, "/sessions/{mine}/runs/{run_id}/cancel", {}, (404,)),
    (GET, "/sessions/{mine}/runs/{run_id}", None, (404,)),
    (GET, "/sessions/{mine}%2F..%2F{session_id}", None, (404,)),
    (GET, "/sessions/{mine}/../{session_id}", None, (404,)),
    (GET, "/sessions/{SESSION_ID}", None, (404,)),
    (GET, "/sessions/{session_id}%20", None, (404,)),
    (
        POST,
        "/sessions/{mine}/approval-response",
        {"approval_id": "{approval_id}", "response": "approve"},
        (404,),
    ),
    (GET, "/sessions?parent_session_id={session_id}", None, ([],)),
    (GET, "/sessions?q=canary", None, ([],)),
    (GET, "/sessions?q=about", None, ([],)),
    (GET, "/sessions?amplified_dir=alice", None, ([],)),
    (GET, "/sessions?metadata.about=canary-of-alice", None, ([],)),
    (GET, "/sessions?id_prefix={session_id}", None, ([],)),
    (GET, "/sessions?lookup={session_id}", None, ([], 404)),
    (GET, "/sessions?lookup=canary-of-alice", None, ([], 404)),
    (GET, "/sessions?status=completed", None, ([],)),
    (GET, "/sessions?profile_name=local/careful", None, ([],)),
    (GET, "/sessions?cursor={cursor}&amplified_dir=alice", None, ([],)),
    (GET, "/sessions?owner=alice&amplified_dir=alice", None, ([],)),
    (GET, "/approvals", None, ([],)),
    (GET, "/approvals?session_id={session_id}", None, ([], 404)),
    (GET, "/approvals?id_prefix={approval_id}", None, ([],)),
    (GET, "/sessions/{mine}/approvals?session_id={session_id}", None, ([],)),
    (GET, "/events?session={session_id}&filter=*", None, (404,)),
    (GET, "/events?session={mine}&session={session_id}", None, (400, 404)),
    (GET, "/directories/files?path=bob/to-alice", None, (400, 404)),
    (GET, "/directories/list?path=bob/to-alice", None, (400, 404)),
    (GET, "/directories/list?path=bob/up/alice", None, (400, 404)),
    (GET, "/directories/list?path=../..", None, (400, 404)),
    (GET, "/directories/file/content?path=bob/to-file", None, (400, 404)),
    (GET, "/directories/file/content?path=bob/hard.txt", None, (400, 404)),
    (GET, "/directories/file/content?path=bob/to-alice/secretplan.txt", None, (400, 404)),
    (GET, "/directories/file/content?path=bob/up/secretplan.txt", None, (400, 404)),
    (GET, "/directories/file/content?path=bob/fd/environ", None, (400, 404)),
    (GET, "/directories/file/download?path=bob/../alice/secretplan.txt", None, (400, 404)),
    (GET, "/directories/file/download?path=%2Fproc%2Fself%2Fenviron", None, (400, 404)),
    (GET, "/directories/file/download?path=bob%2F..%2Falice%2Fsecretplan.txt", None, (400, 404)),
    (GET, "/directories/file/download?path=secretplan.txt", None, (400, 404)),
]
PARAMETERS += [
    (POST, path, {"amplified_dir": "bob", "settings_overrides": attack}, (400,))
    for attack in ATTACKS
    for path in ("/sessions", "/mount-plans/generate")
]


def test_what_is_hers_in_parameters(world: World) -> None:
    before = world.look()
    mine = world.bob["session_id"]
    for method, path, body, outcomes in PARAMETERS:
        given = body
        if body is not None:
            if "amplified_dir" in body and path == "/mount-plans/generate":
                given = {"profile_id": "foundation/test", **body}
            elif path == "/sessions":
                given = {"amplified_dir": "bob", "profile_name": "foundation/test", **body}
            given = json.loads(fill_own(world, json.dumps(given)))
        answer = world.send("bob", method, fill_own(world, path), given)
        outcome: Any = answer.status_code
        if answer.is_success and "json" in answer.headers.get("content-type", ""):
            outcome = answer.json()
        what = f"{method} {path} {'' if body is None else json.dumps(body)}"
        # Sessions of his own he may find.
        world.record("parameters", what, str(outcome)[:14], answer.text, outcome in outcomes)
    his = world.ask("bob", "GET", "/sessions/")
    assert [row["sessionId"] for row in his] == [mine]
    assert world.look() == before


def fill_own(world: World, text: str) -> str:
    own = {"mine": world.bob["session_id"], "root": str(world.root)}
    for name, value in {**own, "SESSION_ID": world.alice["session_id"].upper()}.items():
        text = text.replace(f"{{{name}}}", value)
    return fill_in(world, text)


def test_her_idempotency_key_gives_no_answer_of_hers(world: World) -> None:
    path = f"/sessions/{world.alice['session_id']}/send-message"
    wish = [{"name": "update_todos", "arguments": '{"todos": []}'}]
    body = {"content": f"{json.dumps(wish)}\ncanary-of-alice"}
    for key, status in (("bob", 404), ("reader", 403), ("revoked", 401), ("", 401)):
        answer = world.send(key, "POST", path, body, **{"Idempotency-Key": "hers"})
        what = f"{key or 'no key'}: POST {path} with her Idempotency-Key"
        is_refused = answer.status_code == status and "idempotent-replayed" not in answer.headers
        world.record("parameters", what, str(answer.status_code), answer.text, is_refused)


def test_his_feed_has_nothing_of_hers(world: World) -> None:
    seen: list[str] = []
    listening = threading.Event()

    def listen() -> None:
        url = f"{world.daemon.url}/api/v1/events/stream"
        with httpx.stream(
            "GET", url, headers=bearer(world.keys["bob"]), timeout=PATIENCE
        ) as answer:
            for line in answer.iter_lines():
                seen.append(line)
                listening.set()
                if world.bob["session_id"] in line:
                    return

    thread = threading.Thread(target=listen)
    thread.start()
    assert listening.wait(PATIENCE)
    world.ask("alice", "PATCH", f"/sessions/{world.alice['ended']}", {"name": "canary-of-alice"})
    world.ask("bob", "PATCH", f"/sessions/{world.bob['session_id']}", {"name": "Bob's"})
    thread.join(PATIENCE)
    text = "\n".join(seen)
    is_refused = world.bob["session_id"] in text and world.alice["ended"] not in text
    world.record("parameters", "the feed while Alice works", "200", text, is_refused)
    assert is_refused, text


# --- Tools: a model that wants whatever Bob wants ---

PLACES = (
    "../alice/secretplan.txt",
    "to-alice/secretplan.txt",
    "to-file",
    "up/alice/secretplan.txt",
    "up/secretplan.txt",
    "hard.txt",
    "fd/environ",
    "fd/root{root}/alice/secretplan.txt",
    "{root}/alice/secretplan.txt",
    "/proc/self/environ",
    "/proc/self/cwd/secret_key",
    "{home}/secret_key",
    "own.txt/../../alice/secretplan.txt",
    "./to-alice/./src/secretplan.py",
    "file://{root}/alice/secretplan.txt",
    "~/secretplan.txt",
    ".amplified/../../alice/secretplan.txt",
)
FILESYSTEM = [
    (name, {**more, "path": path})
    for path in PLACES
    for name, more in (
        ("read_file", {}),
        ("write_file", {"content": "Bob was here."}),
        ("edit_file", {"old": "canary", "new": "Bob"}),
        ("list_files", {"recursive": True}),
        ("search_files", {"pattern": "canary|SECRET|postgres"}),
    )
] + [
    ("list_files", {"pattern": "../**"}),
    ("list_files", {"pattern": "**/secretplan*", "include_ignored": True, "recursive": True}),
    ("list_files", {"pattern": "/**"}),
    ("search_files", {"pattern": "canary", "files": "../**", "include_ignored": True}),
    ("search_files", {"pattern": "canary", "files": "**/*", "include_ignored": True}),
    ("search_files", {"pattern": "canary", "include_ignored": True}),
]
COMMANDS = (
    "cat {root}/alice/secretplan.txt ../alice/secretplan.txt to-file to-alice/secretplan.txt",
    "cat {root}/secretplan.txt ../secretplan.txt up/secretplan.txt",
    "echo x > ../alice/x; rm -rf ../alice; mv ../alice/secretplan.txt .; cat secretplan.txt",
    "cat {home}/secret_key && echo ESC''APED",
    "ls -A {home} | grep -v '^root$' && echo ESC''APED",
    "ls {home}/pgdata && echo ESC''APED",
    "cat {home}/pgdata/pg_hba.conf && echo ESC''APED",
    "cat {log} && echo ESC''APED",
    "for s in $(find / -type s 2>/dev/null | grep PGSQL); do echo ESC''APED $s; done",
    "ls -A {home}/run | grep PGSQL && echo ESC''APED",
    "env; tr '\\0' '\\n' < /proc/$PPID/environ; cat /proc/[0-9]*/environ",
    "for p in {pids}; do kill -0 $p && echo ESC''APED; done",
    "for p in {pids}; do cat /proc/$p/environ /proc/$p/cmdline && echo ESC''APED; done",
    "for p in {pids}; do ls /proc/$p/root{home} /proc/$p/cwd/ && echo ESC''APED; done",
    "exec 3<>/dev/tcp/127.0.0.1/{port} && echo ESC''APED",
    "exec 3<>/dev/tcp/127.0.0.1/{inside_port} && echo ESC''APED",
    "exec 3<>/dev/tcp/127.0.0.1/{model_port} && echo ESC''APED",
    "exec 3<>/dev/tcp/1.1.1.1/53 && echo ESC''APED",
    "python3 -c \"import socket; socket.create_connection(('localhost', {inside_port}), 2)\""
    " && echo ESC''APED",
    "ln {root}/alice/secretplan.txt hard2.txt && cat hard2.txt",
    "ln -s {root}/alice more && cat more/secretplan.txt",
    "find / -name 'secretplan*' 2>/dev/null | grep -v '^{root}/bob' && echo ESC''APED",
    "sudo -n id && echo ESC''APED; unshare -Ur id && echo ESC''APED; mount -t proc p /mnt",
)
WEB = (
    "http://127.0.0.1:{inside_port}/a",
    "http://localhost:{inside_port}/b",
    "http://LOCALHOST.:{inside_port}/c",
    "http://{host}:{inside_port}/d",
    "http://127.1:{inside_port}/e",
    "http://2130706433:{inside_port}/f",
    "http://0x7f000001:{inside_port}/g",
    "http://0177.0.0.1:{inside_port}/h",
    "http://0:{inside_port}/i",
    "http://0.0.0.0:{inside_port}/j",
    "http://[::1]:{inside_port}/k",
    "http://[::]:{inside_port}/l",
    "http://[::ffff:127.0.0.1]:{inside_port}/m",
    "http://[::ffff:7f00:1]:{inside_port}/n",
    "http://[64:ff9b::7f00:1]:{inside_port}/o",
    "http://[2002:7f00:1::]:{inside_port}/p",
    "http://user@127.0.0.1:{inside_port}/q",
    "http://127.0.0.1:{inside_port}#@example.com/r",
    "http://example.com@127.0.0.1:{inside_port}/s",
    "http://\uff11\uff12\uff17.0.0.1:{inside_port}/t",
    "http://127。0。0。1:{inside_port}/u",
    "http:\\\\127.0.0.1:{inside_port}/v",
    "http://{model}/to/w",
    "http://{model}/to/../x",
    "http://127.0.0.1:{port}/api/v1/status",
    "http://127.0.0.1:5432/",
    "http://169.254.169.254/latest/meta-data/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://[fd00:ec2::254]/latest/",
    "http://10.0.0.1/",
    "http://192.168.0.1/",
    "http://172.16.0.1/",
    "http://100.64.0.1/",
    "file://{root}/alice/secretplan.txt",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{inside_port}/y",
    "ftp://127.0.0.1:{inside_port}/z",
    "unix:///run/postgresql/.s.PGSQL.5432",
    "data:text/plain,ESC",
)
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("delegate", {"profile": "local/inside", "message": "Go."}),
    ("delegate", {"profile": "../foundation/test", "message": "Go."}),
    ("update_todos", {"todos": [{"content": "../alice", "status": "owner"}]}),
    ("no_such_tool", {"path": "../alice/secretplan.txt"}),
]


def fill_wish(world: World, text: str) -> str:
    daemon = world.daemon
    values = {
        "root": world.root,
        "home": daemon.home,
        "log": daemon.log,
        "pids": " ".join(str(each.pid) for each in daemon.children()),
        "port": daemon.port,
        "host": socket.gethostname(),
        "model": world.model.place,
        "inside_port": world.inside.server_port,
        "model_port": world.model.server_port,
    }
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


def wish_for(
    world: World, wishes: list[tuple[str, dict[str, Any]]], message: str = ""
) -> list[tuple[str, str]]:
    """Have the model of Bob's session call these tools; return what each has answered."""
    session_id = world.session("bob", "local/wishes", "bob")
    calls = [
        {"name": name, "arguments": fill_wish(world, json.dumps(arguments))}
        for name, arguments in wishes
    ]
    world.model.requests.clear()
    text = "\n".join(filter(None, [json.dumps(calls) if calls else "", fill_wish(world, message)]))
    path = f"/sessions/{session_id}/send-message?wait=60"
    world.ask("bob", "POST", path, {"content": text})
    [run] = world.ask("bob", "GET", f"/sessions/{session_id}/runs")
    assert run["status"] == "succeeded", run
    *_, last = world.model.requests
    answers = [str(each["content"]) for each in last["messages"] if each["role"] == "tool"]
    rest = [each for each in last["messages"] if each["role"] != "tool"]
    journal = json.dumps(world.ask("bob", "GET", f"/sessions/{session_id}/events"))
    for canary in CANARIES:
        place = journal.find(canary)
        assert place < 0 or canary in text, journal[max(place - 1000, 0) : place + 100]
    if not calls:
        return [("", json.dumps(rest).replace(json.dumps(text), ""))]
    assert len(answers) == len(calls), (last, run)
    return [(call["arguments"], said) for call, said in zip(calls, answers, strict=True)]


GROUPS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "files": FILESYSTEM,
    "commands": [("bash", {"command": command}) for command in COMMANDS],
    "addresses": [("fetch_url", {"url": url}) for url in WEB],
    "others": OTHERS,
}
AT_A_TIME = 20


@pytest.mark.parametrize("group", GROUPS)
def test_tools(world: World, group: str) -> None:
    before, wishes = world.look(), GROUPS[group]
    gains = len(world.gains)
    for first in range(0, len(wishes), AT_A_TIME):
        some = wishes[first : first + AT_A_TIME]
        for (name, arguments), (_, said) in zip(some, wish_for(world, some), strict=True):
            answer = said
            for given in arguments.values():
                answer = answer.replace(fill_wish(world, str(given)), "")
            what = f"{name} {json.dumps(arguments)}"
            world.record(group, what, said[:14].replace("\n", " "), answer, True)
    changed = world.look()
    assert world.gains[gains:] == []
    assert changed == before


MENTIONS = (
    "../alice/secretplan.txt",
    "to-alice/secretplan.txt",
    "to-file",
    "up/alice/secretplan.txt",
    "hard.txt",
    "fd/environ",
    "{root}/alice/secretplan.txt",
    "{home}/secret_key",
    "/proc/self/environ",
)


def test_mentions_and_instructions(world: World) -> None:
    before = world.look()
    for path in MENTIONS:
        [(_, sent)] = wish_for(world, [], f'Read @"{path}" and tell me.')
        world.record("mentions", f'@"{path}"', "sent", sent, "not attached" in sent)
    own = world.root / "bob"
    for path in ("AGENTS.md", ".amplified/AGENTS.md"):
        for what, make in (
            ("a symbolic link", lambda file: file.symlink_to(world.root / "alice/AGENTS.md")),
            ("a hard link", lambda file: file.hardlink_to(world.root / "alice/AGENTS.md")),
            ("a link to the environment", lambda file: file.symlink_to("/proc/self/environ")),
        ):
            make(own / path)
            [(_, sent)] = wish_for(world, [], "Hello.")
            (own / path).unlink()
            world.record("mentions", f"{path} is {what}", "sent", sent, True)
    for text in (
        "@../alice/secretplan.txt",
        "{{read:../alice/secretplan.txt}}",
        "${CANARY_VARIABLE}",
    ):
        overrides = {"instruction": text, "context": {"a": text}, "agents": {"b": text}}
        body = {"profile_name": "local/wishes", "amplified_dir": "bob"}
        answer = world.send("bob", "POST", "/sessions/", {**body, "settings_overrides": overrides})
        if answer.is_success:
            path = f"/sessions/{answer.json()['sessionId']}"
            world.ask("bob", "POST", f"{path}/start")
            world.model.requests.clear()
            world.ask("bob", "POST", f"{path}/send-message?wait=60", {"content": "Hello."})
        sent = json.dumps(world.model.requests) + answer.text
        world.record("mentions", f"instruction {text}", str(answer.status_code), sent, True)
    assert world.look() == before


def test_mcp_servers_inside(world: World) -> None:
    """The profile is an admin's, and wrong: nobody reaches what the operator has not listed."""
    session_id = world.session("bob", "local/inside", "bob")
    world.ask("bob", "POST", f"/sessions/{session_id}/send-message?wait=60", {"content": "Hello."})
    journal = json.dumps(world.ask("bob", "GET", f"/sessions/{session_id}/events"))
    world.record("addresses", "tool-mcp at a private address", "ran", journal, True)


def test_races(world: World) -> None:
    """A directory of Bob's is a link to Alice's half of the time, while it is read and written."""
    own, before = world.root / "bob", world.look()
    (own / "race/src").mkdir(parents=True)
    (own / "race/secretplan.txt").write_text("Bob's own")
    (own / "race-link").symlink_to(world.root / "alice")
    ended = threading.Event()
    libc = ctypes.CDLL(None)
    names = (-100, os.fsencode(own / "race"), -100, os.fsencode(own / "race-link"), 2)

    def swap() -> None:
        while not ended.is_set():
            libc.renameat2(*names)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        paths = (
            "directories/file/content?path=bob/race/secretplan.txt",
            "directories/file/download?path=bob/race/secretplan.txt",
            "directories/files?path=bob/race",
        )
        for path in paths:
            answers = [world.send("bob", "GET", f"/{path}") for _ in range(40)]
            text = "".join(each.text for each in answers)
            is_refused = "AGENTS" not in text
            world.record("races", f"40 times GET {path}", "", text, is_refused)
        wishes: list[tuple[str, dict[str, Any]]] = [
            ("read_file", {"path": "race/secretplan.txt"}),
            ("write_file", {"path": "race/new.txt", "content": "Bob was here."}),
            ("edit_file", {"path": "race/secretplan.txt", "old": "a", "new": "a"}),
            ("list_files", {"path": "race"}),
            ("search_files", {"path": "race", "pattern": "canary"}),
            ("bash", {"command": "cat race/secretplan.txt race-link/secretplan.txt"}),
        ]
        for wish in wishes:
            said = "".join(answer for _, answer in wish_for(world, [wish] * 15))
            said = said.replace("AGENTS.md  ", "ESCAPED")
            world.record("races", f"15 times {wish[0]} {json.dumps(wish[1])}", "", said, True)
    finally:
        ended.set()
        thread.join()
    assert world.look() == before


# --- Strangers ---

STRANGE = (
    "/",
    "/api/v1/status",
    "/api/v1/health",
    "/api/v1/openapi.json",
    "/api/v1/nothing",
    "/api/v1/sessions/%00",
    "/docs",
    "/livez",
    "/readyz",
    "/metrics",
    "/admin/",
    "/admin/login/",
    "/admin/sessions_app/session/",
    "/admin/jsi18n/",
    "/.well-known/amplifierd.json",
    "/static/",
    "/static/../secret_key",
    "/static/%2e%2e/%2e%2e/secret_key",
    "/favicon.ico",
    "/server-status",
    "/debug/pprof",
    "/.git/config",
    "/.env",
    "/api/v1/events/stream",
    "/admin/sign-in/x/",
)


def test_strangers_learn_nothing(world: World) -> None:
    secret = [
        __version__,
        str(world.daemon.home),
        "Django",
        "daphne",
        "Python",
        "PostgreSQL",
        "Traceback",
    ]
    for path in STRANGE:
        for accept in ("text/html", "application/json"):
            answer = plain.get(f"{world.daemon.url}{path}", headers={"Accept": accept})
            text = answer.text + str(dict(answer.headers))
            learned = [each for each in secret if each.lower() in text.lower()]
            is_refused = not learned and answer.status_code < 500
            what = f"GET {path} as {accept}"
            world.record(
                "strangers", what, f"{answer.status_code} {learned or ''}", text, is_refused
            )
    for credential in (
        "Bearer",
        "Bearer x",
        "Bearer amp_aaaaaaaa_",
        f"Bearer {world.keys['bob'][:-1]}x",
        f"Bearer {world.keys['bob']}x",
        f"bearer  {world.keys['bob'][:12]}",
        f"Basic {world.keys['bob']}",
        f"Bearer {world.keys['bob']},{world.keys['root']}",
        "Bearer ' OR 1=1 --",
        "Bearer %00",
    ):
        answer = world.daemon.api.get("/sessions/", headers={"Authorization": credential})
        what = f"Authorization: {credential[:20]}"
        world.record(
            "strangers", what, str(answer.status_code), answer.text, answer.status_code == 401
        )
    for what, headers, path in (
        ("a key in the URL", {}, f"/sessions/?key={world.keys['root']}"),
        ("a key in the URL", {}, f"/sessions/?access_token={world.keys['root']}"),
        ("X-API-Key", {"X-API-Key": world.keys["root"]}, "/sessions/"),
        ("a cookie", {"Cookie": f"sessionid={world.keys['root']}"}, "/sessions/"),
        ("Remote-User", {"Remote-User": "root", "X-Remote-User": "root"}, "/sessions/"),
        ("X-Forwarded-For", {"X-Forwarded-For": "127.0.0.1"}, "/sessions/"),
        ("X-HTTP-Method-Override", {"X-HTTP-Method-Override": "GET"}, "/sessions/"),
        ("X-Original-URL", {"X-Original-URL": "/api/v1/health"}, "/sessions/"),
    ):
        answer = world.daemon.api.get(path, headers=headers)
        world.record(
            "strangers", what, str(answer.status_code), answer.text, answer.status_code == 401
        )


def test_no_request_is_smuggled(world: World) -> None:
    """Whatever is behind a request whose length can be read in two ways, it is not answered."""
    host = b"Host: 127.0.0.1\r\nAuthorization: Bearer " + world.keys["bob"].encode() + b"\r\n"
    hidden = b"GET /api/v1/sessions/SMUGGLED HTTP/1.1\r\n" + host + b"\r\n"
    post = b"POST /api/v1/sessions/cleanup HTTP/1.1\r\n" + host
    for what, head, body in (
        ("two lengths", b"Content-Length: 0\r\nContent-Length: 5\r\n", b"hello"),
        ("length and chunks", b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        ("chunks by another name", b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
        ("chunks twice", b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"),
        ("a space before the colon", b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"),
        ("a folded line", b"X: y\r\n Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        ("a length with a sign", b"Content-Length: +0\r\n", b""),
        ("a length in hex", b"Content-Length: 0x0\r\n", b""),
        ("a length with an underscore", b"Content-Length: 1_0\r\n", b"0123456789"),
        ("a bare line feed", b"Content-Length: 0\nX: y\r\n", b""),
        ("a bad chunk", b"Transfer-Encoding: chunked\r\n", b"-1\r\n\r\n"),
        ("a chunk with more", b"Transfer-Encoding: chunked\r\n", b"0;\nx\r\n\r\n"),
    ):
        with socket.create_connection(("127.0.0.1", world.daemon.port), 5) as connection:
            connection.sendall(post + head + b"\r\n" + body + hidden)
            received = b""
            with contextlib.suppress(TimeoutError, ConnectionError):
                connection.settimeout(0.5)
                while piece := connection.recv(65536):
                    received += piece
        text = received.decode(errors="replace")
        is_refused = "SMUGGLED" not in text or text.startswith("HTTP/1.1 2")
        world.record("smuggling", what, text[9:12], text, is_refused)


# More than half of the requests that two web processes of four threads may have.
SLOW = 80


def test_who_reads_slowly_holds_no_thread_of_others(world: World) -> None:
    """Each web process has four threads."""
    (world.root / "bob/big.bin").write_bytes(bytes(4 * 1024 * 1024))
    path = "/api/v1/directories/file/download?path=bob/big.bin"
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {world.keys['bob']}"
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(socket.socket()) for _ in range(SLOW)]
        for each in opened:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            each.connect(("127.0.0.1", world.daemon.port))
            each.sendall(f"{head}\r\n\r\n".encode())
        for each in opened:
            assert each.recv(16)
        began = time.monotonic()
        statuses = {world.send("alice", "GET", "/sessions/?limit=1").status_code for _ in range(8)}
        taken = time.monotonic() - began
    (world.root / "bob/big.bin").unlink()
    # An answer that waits for one of them waits until it is cut, after half a minute.
    what = f"{SLOW} downloads that are not read, beside 8 requests of Alice's"
    is_refused = statuses == {200} and taken < 20
    world.record("fairness", what, f"{taken:.1f} s", "", is_refused)
    assert is_refused


def test_slow_requests_of_his_delay_her_little(world: World) -> None:
    """Copies take a thread, a transaction and the processor for as long as they last."""
    session_id = world.session("bob", "foundation/test", "bob")
    for _ in range(100):
        body = {"content": "word " * 2000}
        world.ask("bob", "POST", f"/sessions/{session_id}/messages", body)
    ended, refused = threading.Event(), []

    def copy() -> None:
        while not ended.is_set():
            answer = world.send("bob", "POST", f"/sessions/{session_id}/clone")
            refused.extend(answer.headers["retry-after"] for _ in range(answer.status_code == 429))

    threads = [threading.Thread(target=copy) for _ in range(SLOW)]
    for thread in threads:
        thread.start()
    until(lambda: refused, "a refusal, when he has as many as he may")
    began = time.monotonic()
    statuses = {world.send("alice", "GET", "/sessions/?limit=1").status_code for _ in range(5)}
    taken = time.monotonic() - began
    ended.set()
    for thread in threads:
        thread.join()
    what = f"{SLOW} clients that copy, beside 5 requests of Alice's"
    is_refused = statuses == {200} and taken < 20
    world.record("fairness", what, f"{taken:.1f} s", "", is_refused)
    assert is_refused


def test_all_were_refused(world: World) -> None:
    print("\n" + "\n".join(world.table))
    print(f"{len(world.table)} attempts, {len(world.gains)} of them successful")
    assert world.gains == []
    assert len(world.table) >= 150
