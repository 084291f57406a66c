"""Collections to read: folders and bare git repositories, made in the test."""

import os
import subprocess
from pathlib import Path

IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "A"), ("EMAIL", "a@example.com"), ("DATE", "2026-01-01T00:00:00Z"))
}


def profile(name: str, front: str = "", body: str = "Help.") -> str:
    """Return a profile file."""
    head = f'schema_version: 2\nprofile: {{name: {name}, version: "1", description: A.}}'
    return f"---\n{head}\n{front}\n---\n{body}\n"


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Write files into a folder, and return it."""
    for path, content in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def run_git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return what it prints."""
    environment = {**os.environ, **IDENTITY, "GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


class Repository:
    """A bare repository and a clone of it to commit from."""

    def __init__(self, place: Path, files: dict[str, str | bytes]) -> None:
        self.bare, self.clone = place / "bare.git", place / "clone"
        self.clone.mkdir(parents=True)
        run_git(place, "init", "--quiet", "--bare", "--initial-branch=main", str(self.bare))
        run_git(self.clone, "init", "--quiet", "--initial-branch=main")
        run_git(self.clone, "remote", "add", "origin", str(self.bare))
        self.commit(files)

    @property
    def url(self) -> str:
        """Return its address as a source."""
        return f"git+file://{self.bare}"

    def commit(self, files: dict[str, str | bytes]) -> str:
        """Commit these files beside those that are there, push, and return the commit."""
        write(self.clone, files)
        return self.push()

    def push(self, *options: str) -> str:
        """Commit what the clone holds, push it, and return the commit."""
        run_git(self.clone, "add", "--all")
        run_git(self.clone, "commit", "--quiet", "--allow-empty", "--message", "A change")
        run_git(self.clone, "push", "--quiet", "--tags", *options, "origin", "HEAD:main")
        return run_git(self.clone, "rev-parse", "HEAD")
