"""Running git: with nothing of this machine's or a user's configuration, and within bounds."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from django.conf import settings

from profiles_app.exceptions import SourceUnreadable

# Less than a request may take until its answer begins.
FETCH_SECONDS = 20
# Bytes of a repository while it is fetched, and of what git prints.
FETCH_LIMIT = 64 * 1024 * 1024
OUTPUT_LIMIT = 16 * 1024 * 1024
LOOK_SECONDS = 0.05

# What git needs of the environment to find itself, a proxy, certificates and ssh's agent.
KEPT = (
    "PATH",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "SSH_AUTH_SOCK",
)
OPTIONS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.bigFileThreshold": "1m",
    "credential.helper": "",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "20",
    "transfer.unpackLimit": "1",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "safe.directory": "*",
}


def run(
    *arguments: str,
    folder: Path,
    pinned: tuple[list[str], dict[str, str]] = ([], {}),
    given: bytes = b"",
    seconds: int | None = None,
) -> bytes:
    """Run a git command for the repository in `folder`, and return what it prints.

    Raises SourceUnreadable where git is missing or fails, or goes on for too long or too much.
    """
    options, environment = pinned
    settled = [part for key, value in OPTIONS.items() for part in ("-c", f"{key}={value}")]
    command = [_git(), *settled, *options, f"--git-dir={folder}", *arguments]
    with ExitStack() as files:
        stdin, stdout, stderr = (files.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        stdin.write(given)
        stdin.seek(0)
        process = subprocess.Popen(  # noqa: S603 - no shell; what a caller gave is checked
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=_environment(folder) | environment,
            cwd=folder,
            start_new_session=True,
        )
        _watch(process, folder, stdout.fileno(), seconds or FETCH_SECONDS)
        if process.returncode:
            raise SourceUnreadable(_reason(_content(stderr)[:4096]))
        return _content(stdout)


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _git() -> str:
    if found := shutil.which("git"):
        return found
    raise SourceUnreadable(
        "git is not installed on this machine; install it, or give the folder of a clone."
    )


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    protocols = "https:ssh" + ":file" * settings.COLLECTIONS_FROM_FILE_URLS
    return kept | {
        "HOME": str(folder),
        "LC_ALL": "C",
        "GIT_ALLOW_PROTOCOL": protocols,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }


def _watch(process: subprocess.Popen[bytes], folder: Path, output: int, seconds: int) -> None:
    """Wait for the end of a command; end it, with all that it started, where it goes too far."""
    deadline = time.monotonic() + seconds
    try:
        while True:
            try:
                process.wait(LOOK_SECONDS)
                return
            except subprocess.TimeoutExpired:
                _check(folder, output, deadline)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _check(folder: Path, output: int, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise SourceUnreadable("The repository did not answer in time; try again later.")
    size = sum(map(_size, folder.rglob("*")))
    if size > FETCH_LIMIT or os.fstat(output).st_size > OUTPUT_LIMIT:
        raise SourceUnreadable(
            f"The repository is larger than {FETCH_LIMIT // 2**20} MB; give a smaller one."
        )


def _size(path: Path) -> int:
    """Return the size of a file; one that is gone since it was listed has none."""
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def _reason(stderr: bytes) -> str:
    """Return git's own reason, in one sentence."""
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
    text = (fatal or lines or ["it said nothing"])[0].removeprefix("fatal: ")
    if "could not read Username" in text:
        return (
            "The repository is not there, or asks for a login. Clone a private one yourself and "
            "give the folder, or use ssh with a key of this machine."
        )
    shown = "".join(char for char in text[:300] if char.isprintable())
    return f"git cannot read the repository: {shown.rstrip('.')}."
