"""What the disk refuses is told, and leaves no row; a link put in between leads nowhere."""

import contextlib
import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from pytest_django import Settings

from profiles_app.exceptions import ProfilesError
from profiles_app.models import AmplifiedDirectory
from profiles_app.services import directories, directory_browser, disk
from tests.conftest import Api
from tests.harness.racing import race

BASE = "/amplified-directories"


@pytest.fixture(autouse=True)
def root(catalogue: None, tmp_path: Path, settings: Settings) -> Path:
    settings.ROOT_DIR = tmp_path / "root"
    settings.ROOT_DIR.mkdir()
    return settings.ROOT_DIR


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    return tmp_path / "outside"


def failing(number: int) -> Callable[..., Any]:
    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


REFUSALS = [
    (errno.EACCES, 403, "permission_denied"),
    (errno.EPERM, 403, "permission_denied"),
    (errno.EROFS, 403, "permission_denied"),
    (errno.ENOSPC, 503, "unavailable"),
    (errno.EDQUOT, 503, "unavailable"),
    (errno.EIO, 503, "unavailable"),
    (errno.EMFILE, 503, "unavailable"),
]


@pytest.mark.parametrize("call", ["mkdir", "replace", "fsync"])
@pytest.mark.parametrize(("number", "status", "code"), REFUSALS)
def test_what_the_disk_refuses_is_told_and_leaves_no_row(
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
    call: str,
    number: int,
    status: int,
    code: str,
) -> None:
    monkeypatch.setattr(os, call, failing(number))
    answer = api("post", f"{BASE}/", {"relative_path": "app"})
    monkeypatch.undo()
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert not AmplifiedDirectory.objects.filter(relative_path="app").exists()
    marker = root / "app/.amplified"
    assert not marker.exists() or list(marker.iterdir()) == []
    assert api("post", f"{BASE}/", {"relative_path": "app"}).status_code == 201


def test_a_disk_that_is_not_ours_says_so(api: Api, settings: Settings) -> None:
    settings.ROOT_DIR = Path("/sys")
    answer = api("post", f"{BASE}/", {"relative_path": "app"})
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert api("post", "/directories/create", {"relative_path": "app"}).status_code == 403


def test_a_change_that_the_disk_refuses_changes_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    directories.amplify("app", metadata={"name": "App"})
    for call, method, path, body in (
        ("replace", "patch", f"{BASE}/app", {"metadata": {"name": "New"}}),
        ("rmdir", "delete", f"{BASE}/app?remove_marker=true", None),
        ("replace", "put", f"{BASE}/app/agents", {"content": "x"}),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing(errno.EROFS))
            assert api(method, path, body).status_code == 403
        assert AmplifiedDirectory.objects.get(relative_path="app").metadata == {"name": "App"}


def test_the_draft_of_a_marker_is_not_left_behind(
    api: Api, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", failing(errno.ENOSPC))
    api("post", f"{BASE}/", {"relative_path": "app"})
    assert list((root / "app/.amplified").iterdir()) == []


@pytest.fixture
def swapped(
    root: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], None]]:
    """`swapped("a")`: once the path was checked, `a` is a link out of the root."""
    resolved = disk.resolve_links

    def swap(name: str) -> None:
        def late(path: PurePosixPath) -> PurePosixPath:
            found = resolved(path)
            shutil.rmtree(root / name, ignore_errors=True)
            (root / name).unlink(missing_ok=True)
            (root / name).symlink_to(outside)
            # The first look is the check; the second, of the walk, must see nothing else.
            monkeypatch.setattr(disk, "resolve_links", lambda path: found)
            return found

        monkeypatch.setattr(disk, "resolve_links", late)

    yield swap
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("path", ["a", "a/b", "a/b/c"])
def test_a_link_that_is_put_in_after_the_check_leads_nowhere(
    api: Api, root: Path, swapped: Callable[[str], None], path: str
) -> None:
    (root / "a/b").mkdir(parents=True)
    swapped("a")
    answer = api("post", f"{BASE}/", {"relative_path": path})
    assert answer.status_code == 400
    assert "link" in answer.json()["detail"]
    assert AmplifiedDirectory.objects.count() == 1


def test_no_verb_follows_such_a_link(
    api: Api, root: Path, outside: Path, swapped: Callable[[str], None]
) -> None:
    for method, path, body in (
        ("patch", f"{BASE}/a/b", {"metadata": {"x": 1}}),
        ("put", f"{BASE}/a/b/agents", {"content": "x"}),
        ("delete", f"{BASE}/a/b?remove_marker=true", None),
        ("get", "/directories/list?path=a", None),
        ("post", "/directories/create", {"relative_path": "a/new"}),
    ):
        AmplifiedDirectory.objects.filter(relative_path="a/b").delete()
        if (root / "a").is_symlink():
            (root / "a").unlink()
        AmplifiedDirectory.objects.create(relative_path="a/b")
        (root / "a/b").mkdir(parents=True)
        swapped("a")
        assert api(method, path, body).status_code == 400, method


def test_a_swap_at_any_moment_leads_nowhere(root: Path, outside: Path) -> None:
    """A directory turns into a link and back all the while; nothing arrives on the other side."""
    done = threading.Event()
    place = root / "a"

    def flicker() -> None:
        while not done.is_set():
            shutil.rmtree(place, ignore_errors=True)
            with contextlib.suppress(OSError):
                place.symlink_to(outside)
            with contextlib.suppress(OSError):
                place.unlink()

    thread = threading.Thread(target=flicker)
    thread.start()
    try:
        made = sum(_makes(f"a/{number}/deep") for number in range(400))
    finally:
        done.set()
        thread.join()
    assert list(outside.iterdir()) == []
    assert made > 0


def _makes(path: str) -> bool:
    try:
        directory_browser.create_directory(path)
    except ProfilesError:
        return False
    return True


@pytest.mark.django_db(transaction=True)
def test_of_racing_callers_one_amplifies(root: Path) -> None:
    results = race([lambda: directories.amplify("app") for _ in range(8)])
    won = [result for result in results if isinstance(result, AmplifiedDirectory)]
    lost = [result for result in results if isinstance(result, ProfilesError)]
    assert (len(won), len(lost)) == (1, 7)
    assert all("already amplified" in str(error) for error in lost)


@pytest.mark.django_db(transaction=True)
def test_racing_changes_lose_nothing(root: Path) -> None:
    directories.amplify("app")
    keys = [f"k{number}" for number in range(8)]
    calls = [partial(directories.change, "app", {"metadata": {key: True}}) for key in keys]
    assert not [result for result in race(calls) if isinstance(result, Exception)]
    found = AmplifiedDirectory.objects.get(relative_path="app")
    assert sorted(found.metadata) == keys
