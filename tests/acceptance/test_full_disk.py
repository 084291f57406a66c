"""The disk is full: writes are refused, nothing acknowledged is lost, and space heals it."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from amplifierd.postgres import embedded_url
from tests.acceptance.certain import Certain
from tests.acceptance.trouble import checked
from tests.harness.daemon import Daemon, daemon
from tests.harness.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.long]
SIZE = "200m"
LARGE = "x" * 100_000


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A small disk of our own."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid():
        pytest.skip("only root can mount a small disk")
    options = ["-t", "tmpfs", "-o", f"size={SIZE},mode=755", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], capture_output=True).returncode:
        pytest.skip("this machine does not let root mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def own(small: Path) -> Iterator[Daemon]:
    with daemon(small / "home") as running:
        yield running


def fill(path: Path) -> None:
    """Write until not one byte more has room."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)


def test_a_full_disk_refuses_writes_and_space_heals_it(own: Daemon, small: Path) -> None:
    client = Certain(own.url)
    session_id = own.session()
    fill(small / "filler")
    kept = []
    while (answer := write(own, session_id)).status_code == 201:
        kept.append(answer.json()["messageId"])
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "disk is full" in answer.json()["detail"]
    for _ in range(30):
        answer = write(own, session_id)
        kept += [answer.json()["messageId"]] if answer.status_code == 201 else []
        assert answer.status_code in (201, 503), answer.text
    assert client.get(session_id)["status"] == "active"
    (small / "filler").unlink()
    after = client.post(f"{session_id}/messages", {"content": LARGE})
    assert after.status_code == 201, after.text
    sent = client.post(f"{session_id}/send-message", {"content": "hello"}).json()
    run = f"{session_id}/runs/{sent['runId']}"
    until(lambda: client.get(run)["status"] == "succeeded", "the answer")
    users = [m["messageId"] for m in own.transcript(session_id) if m["role"] == "user"]
    assert users == [*kept, after.json()["messageId"], sent["messageId"]]
    assert checked(embedded_url(own.home)) == []
    client.close()


def write(own: Daemon, session_id: str) -> httpx.Response:
    """Add a large message."""
    return own.api.post(f"/sessions/{session_id}/messages", json={"content": LARGE})
