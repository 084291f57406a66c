"""What a key may do. Each scope includes those before it."""

from django.db import models


class Scope(models.TextChoices):
    """Scopes, the least first."""

    READ = "read"  # look at the sessions of its owner, and at the catalogue
    WRITE = "write"  # make and change sessions
    ADMIN = "admin"  # change the catalogue, see the sessions of every owner


# What POST, PATCH and DELETE below these change are sessions; all else is the catalogue.
OF_SESSIONS = {"sessions", "approvals", "mount-plans"}
READING = {"GET", "HEAD", "OPTIONS"}
# What lies where sessions work: it is for those who may have their tools read it.
OF_FILES = ("/api/v1/directories/file/", "/api/v1/directories/files")


def includes(scope: str, needed: str) -> bool:
    """Tell whether who has `scope` may do what needs `needed`."""
    ranks = Scope.values
    return scope in ranks and ranks.index(scope) >= ranks.index(needed)


def needed_for(method: str, path: str) -> Scope:
    """Return the scope that a request of the API needs; of what is not known, the highest."""
    if method in READING:
        return Scope.WRITE if path.startswith(OF_FILES) else Scope.READ
    place = path.removeprefix("/api/v1/").partition("/")[0]
    return Scope.WRITE if place in OF_SESSIONS else Scope.ADMIN
