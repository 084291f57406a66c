"""A git repository as a source: one commit is fetched, and read without being checked out."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from django.conf import settings

from profiles_app.exceptions import SourceUnreadable
from profiles_app.sources import hosts, tree
from profiles_app.sources.location import Location
from profiles_app.sources.tree import Entry, Tree

COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
FETCHED = "refs/fetched/it"
# Seconds that a look at the newest commit may take.
LOOK_SECONDS = 8
# A cache that its process left behind, by its age in seconds.
FORGOTTEN = 3600


def read_repository(location: Location) -> Tree:
    """Return what the repository holds at its ref, or raise SourceUnreadable."""
    pinned = hosts.pin_addresses(location.url)
    with _repository() as folder:
        refspec = f"+{location.ref or 'HEAD'}:{FETCHED}"
        options = ("--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules")
        run_git("fetch", *options, "--", location.url, refspec, folder=folder, pinned=pinned)
        commit = _commit(folder)
        entries = _entries(folder, f"{commit}:{location.subdirectory}")
        return tree.collect_tree(entries, lambda wanted: _contents(folder, wanted), commit)


def find_newest_commit(location: Location) -> str:
    """Return the commit that the ref names now, or raise SourceUnreadable."""
    if COMMIT.fullmatch(location.ref):
        return location.ref
    pinned = hosts.pin_addresses(location.url)
    wanted = location.ref or "HEAD"
    with _repository() as folder:
        arguments = ("ls-remote", "--quiet", "--", location.url, wanted, f"{wanted}^{{}}")
        answer = run_git(*arguments, folder=folder, pinned=pinned, seconds=LOOK_SECONDS)
    found = dict(reversed(line.split("\t", 1)) for line in answer.decode().splitlines())
    # An annotated tag is followed by the commit that it names.
    for name in (wanted, f"refs/{wanted}", f"refs/tags/{wanted}", f"refs/heads/{wanted}"):
        if commit := found.get(f"{name}^{{}}") or found.get(name):
            return commit
    raise SourceUnreadable(f"The repository has no branch or tag {wanted!r}.")


@contextmanager
def _repository() -> Iterator[Path]:
    """Give an empty bare repository in the cache, and remove it afterwards."""
    cache = Path(settings.HOME) / "cache" / "collections"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _tidy(cache)
        with tempfile.TemporaryDirectory(dir=cache, ignore_cleanup_errors=True) as name:
            run_git("init", "--quiet", "--bare", "--template=", folder=Path(name))
            yield Path(name)
    except OSError as error:
        raise SourceUnreadable(f"The cache {str(cache)!r} cannot be used: {error}.") from None


def _tidy(cache: Path) -> None:
    """Remove what processes that were killed have left."""
    for left in cache.iterdir():
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > FORGOTTEN:
                shutil.rmtree(left, ignore_errors=True)


def _commit(folder: Path) -> str:
    printed = run_git("rev-parse", "--verify", f"{FETCHED}^{{commit}}", folder=folder)
    return printed.decode().strip()


def _entries(folder: Path, place: str) -> Iterator[Entry]:
    """Yield the files at the top, then those of the folders that are looked into."""
    listing = ("ls-tree", "-z", "-l", "--full-tree")
    for arguments in ((*listing, place), (*listing, "-r", place, *tree.FOLDERS)):
        for line in run_git(*arguments, folder=folder).split(b"\0")[:-1]:
            details, path = line.split(b"\t", 1)
            mode, kind, key, size = details.decode().split()
            if kind == "blob":
                yield Entry(path, int(size), mode.startswith("100"), key)


def _contents(folder: Path, wanted: list[Entry]) -> Iterator[bytes]:
    given = "".join(f"{entry.key}\n" for entry in wanted).encode()
    printed = run_git("cat-file", "--batch", folder=folder, given=given)
    place = 0
    for entry in wanted:
        begin = printed.index(b"\n", place) + 1
        place = begin + entry.size + 1
        yield printed[begin : begin + entry.size]


# Less than a request may take until its answer begins.
FETCH_SECONDS = 20
# Bytes of a repository while it is fetched, and of what git prints.
FETCH_LIMIT = 64 * 1024 * 1024
OUTPUT_LIMIT = 16 * 1024 * 1024
POLL_SECONDS = 0.05

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


def run_git(
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
                process.wait(POLL_SECONDS)
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
