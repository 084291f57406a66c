"""A git repository as a source: one commit is fetched, and read without a checkout.

Git objects are read as they are, so hooks, filters, submodules and links have no effect.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from django.conf import settings

from profiles_app.exceptions import SourceUnreadable
from profiles_app.sources import hosts
from profiles_app.sources.location import Location
from profiles_app.sources.tree import FOLDERS, SourceFile, SourceTree, collect_tree

COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
FETCHED = "refs/fetched/it"
# The first version of git that connects only to given addresses (http.curloptResolve).
PINS = (2, 37)
# Seconds that finding the newest commit may take.
LOOK_SECONDS = 8
# Seconds after which a cache counts as left behind by a killed process.
ABANDONED = 3600

# Less than a request may take until its answer begins.
FETCH_SECONDS = 20
# Bytes of a repository while it is fetched, and of what git prints.
FETCH_LIMIT = 64 * 1024 * 1024
OUTPUT_LIMIT = 16 * 1024 * 1024
POLL_SECONDS = 0.05

# Variables that git needs: to find its programs, a proxy, certificates and ssh's agent.
KEPT = (
    "PATH HTTPS_PROXY https_proxy NO_PROXY no_proxy SSL_CERT_FILE SSL_CERT_DIR GIT_SSL_CAINFO"
    " SSH_AUTH_SOCK"
).split()
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


def read_repository(location: Location) -> SourceTree:
    """Return the contents of the repository at its ref; raise SourceUnreadable."""
    pinned = _pin(location)
    with _make_repository() as folder:
        refspec = f"+{location.ref or 'HEAD'}:{FETCHED}"
        options = ("--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules")
        run_git("fetch", *options, "--", location.url, refspec, folder=folder, pinned=pinned)
        printed = run_git("rev-parse", "--verify", f"{FETCHED}^{{commit}}", folder=folder)
        commit = printed.decode().strip()
        place = f"{commit}:{location.subdirectory}"

        def list_files() -> Iterator[SourceFile]:
            # The files at the top, then those of the folders of a collection.
            listing = ("ls-tree", "-z", "-l", "--full-tree")
            for arguments in ((*listing, place), (*listing, "-r", place, *FOLDERS)):
                for line in run_git(*arguments, folder=folder).split(b"\0")[:-1]:
                    details, path = line.split(b"\t", 1)
                    mode, kind, key, size = details.decode().split()
                    if kind == "blob":
                        yield SourceFile(path, int(size), mode.startswith("100"), key)

        def read_files(wanted: list[SourceFile]) -> Iterator[bytes]:
            keys = "".join(f"{file.key}\n" for file in wanted).encode()
            printed = run_git("cat-file", "--batch", folder=folder, given=keys)
            end = 0
            for file in wanted:
                begin = printed.index(b"\n", end) + 1
                end = begin + file.size + 1
                yield printed[begin : begin + file.size]

        return collect_tree(list_files(), read_files, commit)


def find_newest_commit(location: Location) -> str:
    """Return the commit to which the ref points now; raise SourceUnreadable."""
    if COMMIT.fullmatch(location.ref):
        return location.ref
    pinned = _pin(location)
    wanted = location.ref or "HEAD"
    with _make_repository() as folder:
        arguments = ("ls-remote", "--quiet", "--", location.url, wanted, f"{wanted}^{{}}")
        answer = run_git(*arguments, folder=folder, pinned=pinned, seconds=LOOK_SECONDS)
    lines = (line.split("\t", 1) for line in answer.decode().splitlines())
    found = {name: commit for commit, name in lines}
    # An annotated tag has a second line with the commit to which it points.
    for name in (wanted, f"refs/{wanted}", f"refs/tags/{wanted}", f"refs/heads/{wanted}"):
        if commit := found.get(f"{name}^{{}}") or found.get(name):
            return commit
    raise SourceUnreadable(f"The repository has no branch or tag {wanted!r}.")


def _pin(location: Location) -> tuple[list[str], dict[str, str]]:
    """Return options and environment that bind git to checked addresses.

    An older git would ignore the option, and look the name up again.
    """
    pinned = hosts.pin_addresses(location.url)
    if pinned[0] and _find_version() < PINS:
        raise SourceUnreadable(
            f"git {'.'.join(map(str, PINS))} or newer is needed to fetch over https; update it, or "
            "give the folder of a clone."
        )
    return pinned


@cache
def _find_version() -> tuple[int, ...]:
    """Return the version of git; the newest one if there is none, which is told later."""
    if (git := shutil.which("git")) is None:
        return (sys.maxsize,)
    printed = subprocess.run(  # noqa: S603 - a fixed command
        [git, "version"], capture_output=True, check=False, text=True, timeout=LOOK_SECONDS
    ).stdout
    return tuple(map(int, re.findall(r"\d+", printed)[:2]))


@contextmanager
def _make_repository() -> Iterator[Path]:
    """Create an empty bare repository in the cache while the block runs."""
    cache = Path(settings.HOME) / "cache" / "collections"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # Remove what killed processes have left.
        for left in cache.iterdir():
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > ABANDONED:
                    shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=cache, ignore_cleanup_errors=True) as name:
            run_git("init", "--quiet", "--bare", "--template=", folder=Path(name))
            yield Path(name)
    except OSError as error:
        raise SourceUnreadable(f"The cache {str(cache)!r} cannot be used: {error}.") from None


def run_git(
    *arguments: str,
    folder: Path,
    pinned: tuple[list[str], dict[str, str]] = ([], {}),
    given: bytes = b"",
    seconds: int | None = None,
) -> bytes:
    """Run a git command on the repository in `folder`, and return its output.

    It runs without the configuration of this machine and its users. Raises SourceUnreadable if git
    is missing, fails, takes too long, or the repository is too large.
    """
    git = shutil.which("git")
    if git is None:
        raise SourceUnreadable(
            "git is not installed on this machine; install it, or give the folder of a clone."
        )
    options, environment = pinned
    fixed = [part for key, value in OPTIONS.items() for part in ("-c", f"{key}={value}")]
    environment = {
        **{name: os.environ[name] for name in KEPT if name in os.environ},
        "HOME": str(folder),
        "LC_ALL": "C",
        "GIT_ALLOW_PROTOCOL": "https:ssh" + ":file" * settings.COLLECTIONS_FROM_FILE_URLS,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_TERMINAL_PROMPT": "0",
        **environment,
    }
    with ExitStack() as files:
        stdin, stdout, stderr = (files.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        stdin.write(given)
        stdin.seek(0)
        process = subprocess.Popen(  # noqa: S603 - no shell; a caller's values are checked
            [git, *fixed, *options, f"--git-dir={folder}", *arguments],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
        _supervise(process, folder, stdout.fileno(), seconds or FETCH_SECONDS)
        stdout.seek(0)
        stderr.seek(0)
        if process.returncode:
            raise SourceUnreadable(explain_failure(stderr.read()[:4096]))
        return stdout.read()


def _supervise(process: subprocess.Popen[bytes], folder: Path, output: int, seconds: int) -> None:
    """Wait for the end of a command; kill it and its children if it takes too long or too much."""
    deadline = time.monotonic() + seconds
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
                return
            if time.monotonic() > deadline:
                raise SourceUnreadable("The repository did not answer in time; try again later.")
            size = 0
            for path in folder.rglob("*"):
                # A file may have been removed since it was listed.
                with suppress(FileNotFoundError):
                    size += path.lstat().st_size
            if size > FETCH_LIMIT or os.fstat(output).st_size > OUTPUT_LIMIT:
                raise SourceUnreadable(
                    f"The repository is larger than {FETCH_LIMIT // 2**20} MB; give a smaller one."
                )
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def explain_failure(stderr: bytes) -> str:
    """Return git's own reason, in one sentence."""
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
    text = (fatal or lines or ["it gave no reason"])[0].removeprefix("fatal: ")
    if "could not read Username" in text:
        return (
            "The repository is not there, or asks for a login. Clone a private one yourself and "
            "give the folder, or use ssh with a key of this machine."
        )
    printable = "".join(char for char in text[:300] if char.isprintable())
    return f"git cannot read the repository: {printable.rstrip('.')}."
