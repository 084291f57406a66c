"""A model server of this machine: no setting for one person, one for a daemon that is shared."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.acceptance.test_waiting import Waiter, add_key
from tests.harness.daemon import Daemon
from tests.harness.providers import DONE, STOP, chunk

pytestmark = pytest.mark.acceptance


class Ollama(BaseHTTPRequestHandler):
    """Answers every request with one word."""

    server: "Server"

    def do_POST(self) -> None:
        self.server.asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        body = chunk("Local.") + STOP + DONE
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    """The model server, which counts what it is asked."""

    asked = 0


@contextmanager
def ollama() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Ollama) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def profile(server: Server) -> dict[str, Any]:
    config = {"base_url": f"http://localhost:{server.server_port}/v1", "default_model": "m"}
    provider = {"module": "provider-ollama", "config": config}
    return {"name": f"local-{server.server_port}", "providers": [provider]}


def test_a_newcomer_reaches_the_model_server_of_this_machine(running: Daemon) -> None:
    with ollama() as server:
        made = profile(server)
        running.ask("POST", "/profiles/", made)
        session_id = running.session(f"local/{made['name']}")
        path = f"/sessions/{session_id}/send-message?wait=20"
        answer = running.ask("POST", path, {"content": "hello"})
        assert (answer["message"]["content"], server.asked) == ("Local.", 1)


@pytest.mark.long
def test_a_daemon_that_requires_keys_needs_the_host_in_its_list(tmp_path: Path) -> None:
    own = Daemon(tmp_path / "home", AMPLIFIERD_REQUIRE_KEYS="1")
    with ollama() as server:
        try:
            own.start()
            root = Waiter(own, add_key(own, "root", "admin"))
            made = profile(server)
            root.post("/profiles/", json=made).raise_for_status()
            errors = root.post(f"/profiles/local/{made['name']}/compile").json()
            assert "AMPLIFIERD_OUTBOUND_HOSTS" in str(errors)
            session = {"profile_name": f"local/{made['name']}"}
            session_id = root.post("/sessions/", json=session).json()["sessionId"]
            root.post(f"/sessions/{session_id}/start").raise_for_status()
            run = root.send(session_id, "hello", "?wait=20").json()["run"]
            assert run["status"] == "failed"
            assert "bad_config" in str(run) and "AMPLIFIERD_OUTBOUND_HOSTS" in str(run)
            assert server.asked == 0
            own.stop()
            own.environment["AMPLIFIERD_OUTBOUND_HOSTS"] = f"localhost:{server.server_port}"
            own.start()
            answer = root.send(session_id, "hello", "?wait=20").json()
            assert (answer["message"]["content"], server.asked) == ("Local.", 1)
        finally:
            own.discard()
