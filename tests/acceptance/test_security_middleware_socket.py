"""The security middleware's table once more, through the socket of a real daemon, byte by byte."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.daemon import Daemon, daemon
from tests.unit.test_security_middleware import APP, CASES, LIMIT, Header

pytestmark = pytest.mark.acceptance

# What cannot be said in HTTP, or needs a daemon of another kind.
ELSEWHERE = {"scheme", "behind_proxy", "root_path"}
SAID = [
    case for case in CASES if not ELSEWHERE & set(case[3]) and case[0] != "a blank before the host"
]
REFUSED = {400, 403, 413, 421}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with the same settings as the middleware of the table."""
    home = tmp_path_factory.mktemp("daemon") / "home"
    settings = {"AMPLIFIERD_ALLOWED_ORIGINS": APP, "AMPLIFIERD_BODY_LIMIT": str(LIMIT)}
    with daemon(home, **settings) as own:
        yield own


def request(port: int, headers: tuple[Header, ...], options: dict[str, Any]) -> bytes:
    """Return the bytes of one request; its body is chunked where it has no length."""
    ours = [(name, value.replace("8420", str(port))) for name, value in headers if value]
    if not any(name == "Host" for name, _ in headers):
        ours.append(("Host", f"127.0.0.1:{port}"))
    pieces = options.get("pieces", [])
    has_length = any(name == "Content-Length" for name, _ in ours)
    if pieces and not has_length:
        ours.append(("Transfer-Encoding", "chunked"))
        pieces = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]
    head = f"{options.get('method', 'GET')} {options.get('path', '/api/v1/status')} HTTP/1.1"
    lines = [head, *(f"{name}: {value}" for name, value in ours), "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + b"".join(pieces)


def status_of(port: int, sent: bytes) -> int:
    """Send bytes on a connection of their own; return the status of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent)
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize("case", SAID, ids=[case[0] for case in SAID])
def test_daemon_lets_in_or_refuses(secured: Daemon, case: Any) -> None:
    _, expected, headers, options = case
    status = status_of(secured.port, request(secured.port, headers, options))
    if expected == 200:
        assert status not in REFUSED
    else:
        assert status == expected


def test_there_are_enough_of_them() -> None:
    assert len(SAID) >= 40
