"""Answers who may read and write which path below the root directory.

On a daemon that requires keys, each amplified directory has an owner, or is the operator's. The
nearest amplified directory above a path decides; its owner and admins may do everything there, and
others what is shared with them. What nobody has allowed is denied. A path is checked as it is given
and with its links resolved, so a link leads nowhere where its user may not be.

Without required keys, the caller is the one person who uses the daemon, and may do everything.
"""

from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

from django.conf import settings
from django.db.models import Q

from amplifierd.common.callers import Everyone, Visibility
from profiles_app.access import EVERYTHING, Access, Reach, fold
from profiles_app.exceptions import FolderNotFound, SharedReadOnly
from profiles_app.models import AmplifiedDirectory
from profiles_app.models.directory import ROOT, lineage
from profiles_app.services import disk

Rules = dict[str, AmplifiedDirectory]
COLUMNS = ("relative_path", "owner", "shares")


def is_unlimited(sees: Visibility) -> bool:
    """Return whether a caller may use all files: an admin, or anybody if no keys are required."""
    return not settings.REQUIRE_KEYS or isinstance(sees, Everyone)


def find_access(sees: Visibility, path: PurePosixPath) -> Access:
    """Return what a caller may do at a path below the root; links in it are not resolved."""
    if is_unlimited(sees):
        return Access.WRITE
    return _nearest(_load(Q(relative_path__in=lineage(str(path)))), path, sees)


def find_nearest(path: PurePosixPath) -> AmplifiedDirectory | None:
    """Return the nearest amplified directory: that of the path, or the first one above it."""
    return _find_nearest(_load(Q(relative_path__in=lineage(str(path)))), path)


def require(
    sees: Visibility, path: PurePosixPath, needed: Access = Access.READ
) -> Callable[[PurePosixPath], None]:
    """Raise FolderNotFound or SharedReadOnly unless a caller may do this at a path.

    Returns the same check for another path: `services.disk` calls it with the resolved one.
    """

    def check(place: PurePosixPath) -> None:
        found = find_access(sees, place)
        if found == Access.NONE:
            raise FolderNotFound
        if found < needed:
            raise SharedReadOnly

    check(path)
    return check


def find_visible(sees: Visibility, place: PurePosixPath, names: Iterable[str]) -> set[str]:
    """Return those of the names in a folder that a caller may read, or that lead there."""
    if is_unlimited(sees):
        return set(names)
    rules = _load_around(place)
    readable = [PurePosixPath(path).parts for path, row in rules.items() if row.access(sees)]
    depth = len(place.parts)
    leading = {parts[depth] for parts in readable if parts[:depth] == place.parts and parts[depth:]}
    return {name for name in names if name in leading or _nearest(rules, place / name, sees)}


def leads_to_visible(sees: Visibility, place: PurePosixPath) -> bool:
    """Return whether a caller may read a folder, or a directory below it; the root always."""
    if is_unlimited(sees) or not place.parts:
        return True
    rules = _load_around(place)
    inside = (row for path, row in rules.items() if path.startswith(f"{place}/"))
    return bool(_nearest(rules, place, sees)) or any(row.access(sees) for row in inside)


def find_reach(sees: Visibility, relative_path: str) -> Reach:
    """Return the files that a session may use which works in a directory for this caller.

    Its access is NONE if the directory is no longer shared. Raises InvalidPath for a path that
    leaves the root by a symbolic link.
    """
    if is_unlimited(sees):
        return EVERYTHING
    path = PurePosixPath(relative_path)
    place = disk.resolve_links(path)
    rules = _load_around(place, *lineage(relative_path))
    depth = len(place.parts)
    below: dict[tuple[str, ...], Access] = {}
    for each, row in rules.items():
        if is_below(each, place):
            key = fold(PurePosixPath(each).parts[depth:])
            below[key] = min(row.access(sees), below.get(key, Access.WRITE))
    return Reach(
        place=place,
        access=min(_nearest(rules, path, sees), _nearest(rules, place, sees)),
        below=below,
        # Those of the operator are meant for everybody. A stranger's could give orders.
        instructed_by=frozenset(
            folder
            for folder in (place, *place.parents)
            if (near := _find_nearest(rules, folder)) and (near.owner is None or near.access(sees))
        ),
    )


def is_below(path: str, place: PurePosixPath) -> bool:
    return path != ROOT and (not place.parts or path.startswith(f"{place}/"))


def _load_around(place: PurePosixPath, *others: str) -> Rules:
    """Return the directories above a folder, itself, those below it, and the other paths."""
    if not place.parts:
        return _load(Q())
    below = Q(relative_path__startswith=f"{place}/")
    return _load(below | Q(relative_path__in=[*lineage(str(place)), *others]))


def _load(condition: Q) -> Rules:
    rows = AmplifiedDirectory.objects.filter(condition).only(*COLUMNS)
    return {row.relative_path: row for row in rows}


def _find_nearest(rules: Rules, path: PurePosixPath) -> AmplifiedDirectory | None:
    return next((rules[each] for each in lineage(str(path)) if each in rules), None)


def _nearest(rules: Rules, path: PurePosixPath, sees: Visibility) -> Access:
    row = _find_nearest(rules, path)
    return row.access(sees) if row else Access.NONE
