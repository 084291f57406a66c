"""A repository behind TLS: git connects where it was checked, and follows nobody elsewhere."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from amplifierd.common import outbound
from profiles_app.exceptions import SourceUnreadable
from profiles_app.sources import git
from profiles_app.sources.location import Location, parse

# No name server knows it: whoever gets there was sent to the checked address.
HOST = "git.example.test"


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for the host and its key, and return both files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    chain, secret = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(made.public_bytes(pem))
    secret.write_bytes(key.private_bytes(pem, *plain))
    return chain, secret


class Server(ThreadingHTTPServer):
    """A server that keeps what it was asked for."""

    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    """Sends whoever asks for `moved` elsewhere, and asks the others for a login."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path.partition("/info")[0])
        moved = self.path.startswith("/moved")
        self.send_response(302 if moved else 401)
        here = f"https://{HOST}:{self.server.server_port}/elsewhere/info/refs"
        header = ("Location", here) if moved else ("WWW-Authenticate", "Basic realm=x")
        self.send_header(*header)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Server]:
    """A server of the host, whose address counts as public."""
    settings.HOME = tmp_path / "home"
    chain, secret = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, secret)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("GIT_SSL_CAINFO", str(chain))
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(outbound, "is_public", lambda _: True)
        answer = [(0, 0, 0, "", ("127.0.0.1", server.server_port))]
        monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answer)
        yield server
        server.shutdown()
        thread.join()


def location(server: Server, path: str) -> Location:
    return parse(f"https://{HOST}:{server.server_port}/{path}")


def test_git_connects_to_the_checked_address_and_asks_nobody_for_a_login(server: Server) -> None:
    with pytest.raises(SourceUnreadable, match="asks for a login"):
        git.read_repository(location(server, "private"))
    assert server.asked == ["/private"]


def test_a_redirect_is_not_followed(server: Server) -> None:
    with pytest.raises(SourceUnreadable):
        git.find_newest_commit(location(server, "moved"))
    assert server.asked == ["/moved"]
