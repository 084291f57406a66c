"""The wheel, installed into an empty environment, has all that the daemon needs."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from amplifierd import __version__
from amplifierd.common.program import BASE_DIR

pytestmark = [pytest.mark.long, pytest.mark.acceptance]
PATIENCE = 180.0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `amplifierd`, installed from a wheel that is built of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    options = {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}

    def run(*arguments: str) -> None:
        command = [uv, *arguments, "--quiet"]
        subprocess.run(command, cwd=BASE_DIR, check=True, env={**os.environ, **options})

    run("build", "--wheel", "--out-dir", str(folder))
    run("venv", "--python", sys.executable, str(folder / "venv"))
    [wheel] = folder.glob("*.whl")
    python = str(folder / "venv" / "bin" / "python")
    run("pip", "install", "--python", python, "--constraint", "requirements.txt", str(wheel))
    return folder / "venv" / "bin" / "amplifierd"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("installed")
    ours = ("AMPLIFIERD_", "DJANGO_", "DATABASE_URL")
    others = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    chosen = {"AMPLIFIERD_HOME": str(home), "AMPLIFIERD_FETCH_MODEL": "0", "AMPLIFIERD_PORT": "0"}
    return {**others, **chosen}


@pytest.fixture(scope="module")
def url(program: Path, environment: dict[str, str]) -> Iterator[str]:
    """Where `amplifierd serve` listens, once it is ready."""
    log = Path(environment["AMPLIFIERD_HOME"]) / "serve.log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            [program, "serve"],
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield _wait_until_ready(daemon, log)
    finally:
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait(60) == 0, log.read_text()


def _wait_until_ready(daemon: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and daemon.poll() is None:
        for line in log.read_text().splitlines():
            if line.strip().startswith("API "):
                base = line.split()[1].removesuffix("/api/v1/")
                try:
                    if httpx.get(f"{base}/readyz", timeout=10).status_code == 200:
                        return base
                except httpx.TransportError:
                    pass
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def test_the_version_is_that_of_the_code(program: Path, environment: dict[str, str]) -> None:
    said = subprocess.check_output([program, "--version"], cwd="/", env=environment, text=True)
    assert said == f"amplifierd {__version__}\n"


def test_it_answers_messages_with_its_shipped_profiles(url: str) -> None:
    with httpx.Client(base_url=f"{url}/api/v1", timeout=60) as api:
        session = api.post("/sessions/", json={"profileName": "foundation/test"}).json()
        path = f"/sessions/{session['sessionId']}"
        assert api.post(f"{path}/start").is_success
        answered = api.post(f"{path}/send-message?wait=30", json={"content": "Are you there?"})
        assert answered.json()["run"]["status"] == "succeeded"


@pytest.mark.parametrize(
    "path", ["/admin/login/", "/docs/", "/static/sessions_app/admin.css", "/favicon.ico"]
)
def test_its_pages_and_their_files_are_there(url: str, path: str) -> None:
    assert httpx.get(f"{url}{path}", follow_redirects=True).status_code == 200


def test_its_packages_are_those_that_it_was_tested_with(
    program: Path, environment: dict[str, str], url: str
) -> None:
    said = subprocess.check_output([program, "doctor"], cwd="/", env=environment, text=True)
    [packages] = [line for line in said.splitlines() if "\tpackages\t" in line]
    assert packages.startswith("ok\t")
