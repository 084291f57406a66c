"""What differs between two versions of a profile, by path and as text. Secrets are masked."""

import difflib
import json
from dataclasses import dataclass, field
from typing import Any

from amplifierd.common.redaction import is_secret, masked
from profiles_app.definition import MODULE_LISTS, TEXTS
from profiles_app.models import ProfileVersion
from profiles_app.profile_text import text_of

FIELDS = ("version", "description", "instruction")
# What would take seconds to write and to compare: characters of a version, and the lines of one
# times the lines of the other.
SIZE_LIMIT = 512 * 1024
LINES_LIMIT = 4_000_000


@dataclass
class Differences:
    """What was added, removed and changed, each with its path and its values."""

    added: list[dict[str, Any]] = field(default_factory=list)
    removed: list[dict[str, Any]] = field(default_factory=list)
    changed: list[dict[str, Any]] = field(default_factory=list)

    def compare(self, path: str, old: Any, new: Any, *, secret: bool = False) -> None:
        """Note what differs at a path and below it; lists are compared as a whole."""
        if isinstance(old, dict) and isinstance(new, dict):
            # What agents and texts are called says nothing of their content.
            named = path in TEXTS
            for key in [*old, *(key for key in new if key not in old)]:
                where = f"{path}.{key}" if path else key
                is_hidden = secret or (is_secret(key) and not named)
                self._compare_part(where, key, old, new, secret=is_hidden)
        elif _written(old) != _written(new):
            before, after = masked(old, secret=secret), masked(new, secret=secret)
            self.changed.append({"path": path, "before": before, "after": after})

    def _compare_part(
        self, path: str, key: str, old: dict[str, Any], new: dict[str, Any], *, secret: bool
    ) -> None:
        if key not in old:
            self.added.append({"path": path, "after": masked(new[key], secret=secret)})
        elif key not in new:
            self.removed.append({"path": path, "before": masked(old[key], secret=secret)})
        else:
            self.compare(path, old[key], new[key], secret=secret)


def differences(old: ProfileVersion, new: ProfileVersion) -> Differences:
    """Return what differs; a module's path has its id: `providers.provider-openai.config.top_p`."""
    found = Differences()
    found.compare("", _content(old), _content(new))
    for section in MODULE_LISTS:
        before, after = _order(old, section), _order(new, section)
        if before != after and sorted(before) == sorted(after):
            found.changed.append({"path": section, "before": before, "after": after})
    return found


def unified(old: ProfileVersion, new: ProfileVersion) -> str | None:
    """Return what differs between the two as files, as a unified diff; None where it is too long.

    It is empty where the files are equal but for their comments.
    """
    if max(map(_size, (old, new))) > SIZE_LIMIT:
        return None
    lines = [text_of(version).splitlines(keepends=True) for version in (old, new)]
    if len(lines[0]) * len(lines[1]) > LINES_LIMIT:
        return None
    names = [f"{version.profile}@{version.number}" for version in (old, new)]
    return "".join(difflib.unified_diff(*lines, *names))


def _content(version: ProfileVersion) -> dict[str, Any]:
    """Return what a version says, with its modules by their ids."""
    lists = {
        section: {
            entry["module"]: {key: item for key, item in entry.items() if key != "module"}
            for entry in version.definition[section]
        }
        for section in MODULE_LISTS
    }
    return {key: getattr(version, key) for key in FIELDS} | version.definition | lists


def _size(version: ProfileVersion) -> int:
    return len(version.instruction) + len(_written(version.definition))


def _order(version: ProfileVersion, section: str) -> list[str]:
    return [entry["module"] for entry in version.definition[section]]


def _written(value: Any) -> str:
    """Return a value as JSON, in which true and 1 differ."""
    return json.dumps(value, sort_keys=True)
