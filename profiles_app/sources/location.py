"""The address of a collection: `/a/folder`, `git+https://host/path@ref#subdirectory=a/b`."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

from profiles_app.exceptions import InvalidSource

LIMIT = 1000
FOLDER = "folder"
GIT = "git"

HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
# No `%`: git would decode it after the check.
PATH = re.compile(r"(/[A-Za-z0-9._~+][A-Za-z0-9._~+-]*)+")
# The names that git allows, without those that it could read as an option or as two refs.
REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,199}")


@dataclass(frozen=True)
class Location:
    """Where a collection is read from; `kind` is folder or git."""

    kind: str
    url: str
    ref: str = ""
    subdirectory: str = ""

    def __str__(self) -> str:
        if self.kind == FOLDER:
            return self.url
        ref = f"@{self.ref}" if self.ref else ""
        subdirectory = f"#subdirectory={self.subdirectory}" if self.subdirectory else ""
        return f"git+{self.url}{ref}{subdirectory}"


def parse(source: str) -> Location:
    """Return the location of a source; raise InvalidSource with what to give instead."""
    if len(source) > LIMIT or not source.isprintable() or "\\" in source or " " in source:
        raise InvalidSource(
            f"A source has at most {LIMIT} characters, and no spaces, backslashes or control "
            "characters."
        )
    if source.startswith("/"):
        if ".." in PurePosixPath(source).parts:
            raise InvalidSource("Give a folder by its absolute path, without `..`.")
        return Location(FOLDER, str(PurePosixPath(source)))
    try:
        parts = urlsplit(source.removeprefix("git+"))
        _ = parts.port
    except ValueError:
        raise InvalidSource("The host or port of the URL cannot be read.") from None
    allowed = ["https", "ssh"] + ["file"] * settings.COLLECTIONS_FROM_FILE_URLS
    if parts.scheme not in allowed or parts.query:
        raise InvalidSource(
            "Give the absolute path of a folder, or a git URL: "
            "`git+https://host/path@ref#subdirectory=a/b` (or git+ssh://git@host/path)."
        )
    if parts.scheme != "file":
        check_host(parts)
    path, _, ref = parts.path.partition("@")
    if "@" in parts.path and not (REF.fullmatch(ref) and ".." not in ref):
        raise InvalidSource(f"{ref[:80]!r} is not a branch, tag or commit.")
    if not PATH.fullmatch(path.rstrip("/")) or ".." in path.split("/"):
        raise InvalidSource("The path of a git URL has letters, digits and `._~+-` only.")
    user, at, host = parts.netloc.rpartition("@")
    key, _, subdirectory = parts.fragment.partition("=")
    if parts.fragment and key != "subdirectory":
        raise InvalidSource("After `#` only `subdirectory=a/b` can stand.")
    url = f"{parts.scheme}://{user}{at}{host.lower()}{path.rstrip('/')}"
    return Location(GIT, url, ref, folder_below(subdirectory) if parts.fragment else "")


def folder_below(text: str) -> str:
    """Return the canonical form of a folder inside a repository, or raise InvalidSource."""
    path = PurePosixPath(text.rstrip("/"))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise InvalidSource("A subdirectory is below the repository: `#subdirectory=a/b`.")
    return str(path)


def check_host(parts: SplitResult) -> None:
    """Raise InvalidSource for credentials, and for an invalid user or host."""
    if parts.password is not None or (parts.username is not None and parts.scheme != "ssh"):
        raise InvalidSource(
            "A source must not have credentials: they would be stored. Clone a private repository "
            "yourself and give the folder, or use ssh with a key of this machine."
        )
    if parts.username is not None and not USER.fullmatch(parts.username):
        raise InvalidSource("The user of the URL has letters, digits and `._-` only.")
    if not HOST.fullmatch(parts.hostname or ""):
        raise InvalidSource("The URL names no host; write it as https://host/path.")
