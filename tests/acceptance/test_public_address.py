"""A daemon that others can reach: what it demands before it starts, and of whoever calls."""

import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.harness.daemon import ROOT, Daemon
from tests.harness.waiting import PATIENCE

pytestmark = [pytest.mark.acceptance, pytest.mark.long]

OTHERS = {"AMPLIFIERD_HOST": "0.0.0.0", "AMPLIFIERD_ALLOWED_HOSTS": "daemon.example"}
PROXIED = OTHERS | {"AMPLIFIERD_BEHIND_PROXY": "1"}


def manage(daemon: Daemon, *command: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a management command with a daemon's settings, to its end."""
    return subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=ROOT,
        env=daemon.environment | changes,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )


def key_of(daemon: Daemon, owner: str, scope: str = "write", *options: str) -> str:
    """Make a key as a person does, and a directory for an owner who is no admin."""
    own = () if scope == "admin" else ("--directory", owner)
    done = manage(daemon, "apikeys", "create", owner, "--scope", scope, *own, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon behind a proxy, with the keys of two owners and of one who sees all."""
    daemon = Daemon(tmp_path_factory.mktemp("public") / "home", **PROXIED)
    try:
        refused = manage(daemon, "serve")
        assert refused.returncode == 1
        assert "apikeys create NAME" in refused.stderr
        daemon.keys = {
            "alice": key_of(daemon, "alice"),
            "bob": key_of(daemon, "bob"),
            "root": key_of(daemon, "root", "admin"),
        }
        yield daemon.start()
    finally:
        daemon.discard()


def test_it_does_not_start_before_all_is_settled(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "home", AMPLIFIERD_HOST="0.0.0.0", AMPLIFIERD_REQUIRE_KEYS="0")
    for command in ("serve", "run_web"):
        refused = manage(daemon, command, DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
        assert refused.returncode == 1
        for word in ("AMPLIFIERD_ALLOWED_HOSTS", "AMPLIFIERD_REQUIRE_KEYS", "--behind-proxy"):
            assert word in refused.stderr
        assert "Traceback" not in refused.stderr


def test_an_inherited_socket_is_looked_at_as_well(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "home", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    with socket.create_server(("0.0.0.0", 0)) as listener:
        done = subprocess.run(
            [sys.executable, "manage.py", "run_web", "--fd", str(listener.fileno())],
            cwd=ROOT,
            env=daemon.environment,
            pass_fds=[listener.fileno()],
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
        )
    assert done.returncode == 1
    assert "does not listen on 0.0.0.0" in done.stderr


def test_without_a_key_nothing_is_told(public: Daemon) -> None:
    for path in ("/sessions/", "/profiles/", "/events/stream", "/sessions/session_0/stream"):
        answer = public.api.get(path)
        assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["cache-control"] == "no-store"
    assert public.api.get("/health").status_code == 200
    assert httpx.get(f"{public.url}/readyz").status_code == 200
    assert public.api.get("/health", headers={"Host": "elsewhere.example"}).status_code == 421
    assert public.api.get("/health", headers={"Host": "daemon.example"}).status_code == 200


def test_two_owners_work_side_by_side_and_see_nothing_of_one_another(public: Daemon) -> None:
    sessions = {}
    for owner in ("alice", "bob"):
        headers = bearer(public.keys[owner])
        body = {"profile_name": "foundation/test", "amplified_dir": "."}
        refused = public.api.post("/sessions/", json=body, headers=headers)
        assert (refused.status_code, "amplified_dir" in refused.json()["detail"]) == (403, True)
        # A client that names no directory works in the only one that its owner has.
        del body["amplified_dir"]
        created = public.api.post("/sessions/", json=body, headers=headers)
        assert created.json()["amplifiedDir"] == owner
        sessions[owner] = created.json()["sessionId"]
        path = f"/sessions/{sessions[owner]}"
        assert public.api.post(f"{path}/start", headers=headers).status_code == 204
        events = stream(public, f"{path}/stream?after=0", headers)
        assert next(events) == "connected"
        sent = public.api.post(f"{path}/send-message", json={"content": "x"}, headers=headers)
        assert sent.status_code == 202
        assert "assistant_message_complete" in events
    for owner, other in (("alice", "bob"), ("bob", "alice")):
        headers = bearer(public.keys[owner])
        listed = public.api.get("/sessions/", headers=headers).json()
        assert [row["sessionId"] for row in listed] == [sessions[owner]]
        for path in ("", "/stream", "/events", "/transcript"):
            answer = public.api.get(f"/sessions/{sessions[other]}{path}", headers=headers)
            assert answer.status_code == 404
    seen = public.api.get("/sessions/", headers=bearer(public.keys["root"])).json()
    assert {row["sessionId"] for row in seen} == set(sessions.values())


@pytest.mark.long
def test_the_streams_of_a_revoked_key_end_within_a_minute(public: Daemon) -> None:
    key = key_of(public, "carol")
    events = stream(public, "/events/stream", bearer(key))
    assert next(events) == "connected"
    began = time.monotonic()
    assert manage(public, "apikeys", "revoke", key[4:12]).returncode == 0
    assert set(events) <= {"keepalive"}
    assert time.monotonic() - began < 60
    assert public.api.get("/events/stream", headers=bearer(key)).status_code == 401


def test_the_proxy_s_word_counts_for_the_scheme(public: Daemon) -> None:
    login = f"{public.url}/admin/login/"
    plain = httpx.get(login)
    ended = httpx.get(login, headers={"X-Forwarded-Proto": "https"})
    assert "strict-transport-security" not in plain.headers
    assert ended.headers["strict-transport-security"] == "max-age=31536000"
    assert "secure" in ended.headers["set-cookie"].lower()


def test_no_key_is_in_the_log(public: Daemon) -> None:
    log = public.log.read_text()
    assert public.keys
    assert all(key not in log for key in public.keys.values())


def stream(daemon: Daemon, path: str, headers: dict[str, str]) -> Iterator[str]:
    """Yield the names of a stream's events as they come."""
    with httpx.stream("GET", f"{daemon.url}/api/v1{path}", headers=headers, timeout=90) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            if line.startswith("event: "):
                yield line.removeprefix("event: ")


class TlsDaemon(Daemon):
    """A daemon that speaks TLS by itself."""

    def __init__(self, home: Path, certificate: Path, key: Path) -> None:
        settings = {"AMPLIFIERD_TLS_CERT": str(certificate), "AMPLIFIERD_TLS_KEY": str(key)}
        super().__init__(home, **OTHERS, **settings)
        self.url = f"https://127.0.0.1:{self.port}"
        trusted = ssl.create_default_context(cafile=str(certificate))
        self.api.close()
        self.api = httpx.Client(base_url=f"{self.url}/api/v1", verify=trusted, timeout=PATIENCE)

    def ready(self) -> bool:
        """Tell whether it answers."""
        assert self.process
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(httpx.TransportError):
            return self.api.get(f"{self.url}/readyz").status_code == 200
        return False


def certify(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for 127.0.0.1 and its key; return their paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "daemon.example")])
    now = datetime.datetime.now(datetime.UTC)
    names: list[Any] = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


def test_tls_without_a_proxy(tmp_path: Path) -> None:
    daemon = TlsDaemon(tmp_path / "home", *certify(tmp_path))
    try:
        assert manage(daemon, "migrate").returncode == 0
        daemon.api.headers.update(bearer(key_of(daemon, "alice", "admin")))
        daemon.start()
        session_id = daemon.session()
        long = "BENCH tokens=300"
        with daemon.api.stream("GET", f"/sessions/{session_id}/stream?after=0") as answer:
            daemon.send(session_id, long)
            lines = answer.iter_lines()
            assert "event: assistant_message_complete" in lines
        assert len(daemon.transcript(session_id)) == 2
        login = daemon.api.get(f"{daemon.url}/admin/login/")
        assert login.headers["strict-transport-security"]
        assert "Secure" in login.headers["set-cookie"]
        foreign = {"Origin": f"http://127.0.0.1:{daemon.port}"}
        assert daemon.api.get("/sessions/", headers=foreign).status_code == 403
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{daemon.port}/livez", timeout=5)
        assert "https://" in daemon.log.read_text()
        assert daemon.stop() == 0
    finally:
        daemon.discard()


def test_the_settings_of_a_public_daemon_pass_the_deployment_checks(tmp_path: Path) -> None:
    environment = os.environ | PROXIED | {"AMPLIFIERD_HOME": str(tmp_path), "DATABASE_URL": ""}
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_it_says_how_to_make_a_login_and_prints_no_link(public: Daemon) -> None:
    said = public.log.read_text()
    assert "manage.py createsuperuser" in said
    assert "sign-in" not in said
