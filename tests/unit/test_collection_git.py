"""Reading a repository: one commit, nothing checked out, nothing run, within bounds."""

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from profiles_app.exceptions import SourceUnreadable
from profiles_app.sources import git
from profiles_app.sources.location import parse
from profiles_app.sources.tree import SourceTree
from tests.harness.repositories import Repository, profile, run_git, write
from tests.harness.waiting import until


@pytest.fixture(autouse=True)
def home(settings: Any, tmp_path: Path) -> Path:
    """A data folder of its own; repositories may be on this machine."""
    settings.COLLECTIONS_FROM_FILE_URLS = True
    settings.HOME = tmp_path / "home"
    return settings.HOME


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "git", {"profiles/one.md": profile("one")})


def read(source: str) -> SourceTree:
    return git.read_repository(parse(source))


def test_the_default_branch_is_read(repository: Repository) -> None:
    commit = repository.push()
    tree = read(repository.url)
    assert (list(tree.files), tree.commit) == (["profiles/one.md"], commit)
    assert tree.files["profiles/one.md"].decode() == profile("one")


@pytest.mark.parametrize("kind", ["branch", "tag", "annotated", "commit"])
def test_a_ref_is_a_branch_a_tag_or_a_commit(repository: Repository, kind: str) -> None:
    commit = repository.push()
    ref = {"branch": "main", "tag": "v1", "annotated": "v2", "commit": commit}[kind]
    run_git(repository.clone, "tag", "v1")
    run_git(repository.clone, "tag", "--annotate", "--message", "Two", "v2")
    run_git(repository.clone, "push", "--quiet", "--tags", "origin")
    run_git(repository.bare, "config", "uploadpack.allowAnySHA1InWant", "true")
    if kind != "branch":
        repository.commit({"profiles/one.md": "later"})
    location = parse(f"{repository.url}@{ref}")
    assert git.read_repository(location).commit == commit
    assert git.find_newest_commit(location) == commit


def test_a_subdirectory_is_read_alone(repository: Repository) -> None:
    repository.commit({"a/b/profiles/two.md": profile("two")})
    assert list(read(f"{repository.url}#subdirectory=a/b").files) == ["profiles/two.md"]


@pytest.mark.parametrize("rest", ["@nothing", "#subdirectory=nothing", "@" + "0" * 40])
def test_what_is_not_there_is_told(repository: Repository, rest: str) -> None:
    with pytest.raises(SourceUnreadable, match="git cannot read the repository"):
        read(f"{repository.url}{rest}")


def test_a_branch_that_is_gone_is_told(repository: Repository) -> None:
    with pytest.raises(SourceUnreadable, match="no branch or tag 'nothing'"):
        git.find_newest_commit(parse(f"{repository.url}@nothing"))


def test_nothing_of_a_repository_is_run_or_followed(repository: Repository, tmp_path: Path) -> None:
    mark = tmp_path / "was-run"
    command = f"touch {shlex.quote(str(mark))}"
    (repository.clone / "profiles/link.md").symlink_to("/etc/passwd")
    files = {
        ".gitattributes": "*.md filter=evil\n",
        ".gitmodules": f'[submodule "evil"]\npath = agents\nurl = "ext::sh -c {command}"\n',
        "setup.py": f"import os; os.system({command!r})",
        "hooks/post-checkout": f"#!/bin/sh\n{command}\n",
    }
    write(repository.clone, files)
    run_git(repository.clone, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},agents")
    repository.push()
    hook = repository.bare / "hooks/post-upload-pack"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n{command}\n")
    hook.chmod(0o755)
    tree = read(repository.url)
    assert list(tree.files) == ["profiles/one.md"]
    assert [item.file for item in tree.errors] == ["profiles/link.md"]
    assert not mark.exists()


def test_configuration_of_the_user_is_not_read(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text(f'[url "file:///nowhere"]\n\tinsteadOf = file://{repository.bare}\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert read(repository.url).commit


def test_names_that_are_not_utf8_are_refused(repository: Repository) -> None:
    (repository.clone / os.fsdecode(b"profiles/\xff.md")).write_text("x")
    repository.push()
    assert [item.file for item in read(repository.url).errors] == ["profiles/\ufffd.md"]


def test_the_cache_is_empty_afterwards(repository: Repository, home: Path) -> None:
    read(repository.url)
    with pytest.raises(SourceUnreadable):
        read(f"{repository.url}@nothing")
    assert list((home / "cache/collections").iterdir()) == []


def test_what_a_killed_process_left_is_removed(repository: Repository, home: Path) -> None:
    left = write(home / "cache/collections/left", {"objects/pack": "x"})
    os.utime(left, (0, 0))
    read(repository.url)
    assert not left.exists()


def test_git_that_is_missing_is_told(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SourceUnreadable, match="git is not installed"):
        read(repository.url)


def fake_git(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a git in front of the real one that does something else when it fetches."""
    git = write(folder, {"git": f"#!/bin/sh\ncase $* in *fetch*) {script};; esac\n"}) / "git"
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def is_running(pid: str) -> bool:
    """Tell whether a process does anything still; one that nobody has waited for does not."""
    answer = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True)
    return answer.stdout.strip()[:1] not in ("", "Z")


def test_a_repository_that_does_not_answer_is_given_up_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = tmp_path / "child"
    fake_git(tmp_path / "bin", f"sleep 60 & echo $! > {child}; wait", monkeypatch)
    monkeypatch.setattr(git, "FETCH_SECONDS", 1)
    with pytest.raises(SourceUnreadable, match="did not answer in time"):
        read("git+file:///a")
    until(lambda: not is_running(child.read_text().strip()), "the end of git's child")


def test_a_repository_that_is_too_large_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "FETCH_LIMIT", 1000)
    fake_git(tmp_path / "bin", "head -c 5000 /dev/zero > big; sleep 60", monkeypatch)
    with pytest.raises(SourceUnreadable, match="larger than"):
        read("git+file:///a")


def test_what_git_says_is_told_in_one_printable_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_git(tmp_path / "bin", r"printf 'fatal: a\033[31mb\nsecond\n' >&2; exit 1", monkeypatch)
    with pytest.raises(SourceUnreadable) as caught:
        read("git+file:///a")
    assert str(caught.value) == "git cannot read the repository: a[31mb."


def test_a_cache_that_cannot_be_written_is_told(repository: Repository, home: Path) -> None:
    home.write_text("not a folder")
    with pytest.raises(SourceUnreadable, match="cannot be used"):
        read(repository.url)
