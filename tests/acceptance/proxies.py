"""Proxies before a daemon: real ones with the files of deploy/, and a small one of our own."""

import contextlib
import getpass
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from amplifierd.common.program import BASE_DIR
from tests.harness.daemon import free_port

DEPLOY = BASE_DIR / "deploy"
PREFIX = "/amplifierd"
HOST = "daemon.example"


def localized(text: str, daemon_port: int, certificate: Path, key: Path) -> str:
    """Return the text with a test's own port and files in it."""
    changes = {
        "127.0.0.1:8420": f"127.0.0.1:{daemon_port}",
        "/etc/ssl/daemon.example/chain.pem": str(certificate),
        "/etc/ssl/daemon.example/key.pem": str(key),
    }
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def nginx(folder: Path, daemon_port: int, certificate: Path, key: Path) -> Iterator[int]:
    """Run nginx with the file of deploy/; give its port."""
    text = localized((DEPLOY / "nginx.conf").read_text(), daemon_port, certificate, key)
    with serve_nginx(folder, text) as port:
        yield port


@contextlib.contextmanager
def serve_nginx(folder: Path, text: str) -> Iterator[int]:
    """Run nginx with this in its `http` block, on a port of its own; give the port."""
    port = free_port()
    text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    (folder / "nginx.conf").write_text(
        f"daemon off; user {getpass.getuser()}; pid {folder}/nginx.pid;\n"
        f"error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n"
        + "".join(
            f"{name}_temp_path {folder}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + f"{text}}}\n"
    )
    with program(folder, "nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)):
        yield port


@contextlib.contextmanager
def caddy(folder: Path, daemon_port: int, certificate: Path, key: Path) -> Iterator[int]:
    """Run Caddy with the file of deploy/; give its port."""
    port = free_port()
    text = localized((DEPLOY / "Caddyfile").read_text(), daemon_port, certificate, key)
    text = text.replace("daemon.example {", f"https://daemon.example:{port} {{", 1)
    options = "{\nadmin off\nauto_https disable_redirects\nskip_install_trust\n}\n"
    (folder / "Caddyfile").write_text(options + text)
    config = str(folder / "Caddyfile")
    with program(folder, "caddy", "run", "--config", config, "--adapter", "caddyfile"):
        yield port


@contextlib.contextmanager
def program(folder: Path, *command: str) -> Iterator[None]:
    """Run a program while the block runs."""
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(
            [str(shutil.which(command[0])), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"HOME": str(folder)},
        )
    try:
        yield
        assert process.poll() is None, (folder / "proxy.log").read_text()
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def stripping(daemon_port: int, *, scheme: str | None) -> Iterator[int]:
    """Run a proxy that takes the prefix off and tells of a scheme, or does not; give its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith(f"{PREFIX}/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name != "Connection"}
            if scheme:
                headers["X-Forwarded-Proto"] = scheme
            upstream = HTTPConnection("127.0.0.1", daemon_port)
            upstream.request(self.command, self.path.removeprefix(PREFIX), body, headers)
            with contextlib.suppress(OSError):
                self.relay(upstream.getresponse())
            upstream.close()

        do_POST = do_GET

        def relay(self, answer: HTTPResponse) -> None:
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            while piece := answer.read1():
                self.wfile.write(piece)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def is_installed(name: str) -> bool:
    return shutil.which(name) is not None
