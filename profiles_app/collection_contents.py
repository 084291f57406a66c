"""The contents of a collection's files: profiles with the texts that they name, and modules."""

import contextlib
import re
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from amplifierd.common.redaction import find_secret
from profiles_app import front_matter, profile_format
from profiles_app.exceptions import InvalidDefinition, SourceUnreadable
from profiles_app.profile_format import Library
from profiles_app.sources.tree import MODULE_FILE, MODULE_FOLDERS, FileError, SourceTree

PROFILE_LIMIT = 200

# A file at the top is a profile if its front matter has the key `profile`.
PROFILE = re.compile(rb"\A(\xef\xbb\xbf)?---\s*\n(?s:.*?)^profile\s*:", re.M)
# The prefix of a module's name → its type.
PREFIXES = {
    "provider-": "provider",
    "tool-": "tool",
    "hook-": "hook",
    "hooks-": "hook",
    "loop-": "orchestrator",
    "orchestrator-": "orchestrator",
    "context-": "context-manager",
}
TYPES = sorted(set(PREFIXES.values()))


@dataclass
class Contents:
    """A collection as it would be loaded; if there is any error, nothing is loaded."""

    # The fields of each profile, by its name.
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    agents: list[str] = field(default_factory=list)
    context: list[str] = field(default_factory=list)
    modules: list[dict[str, Any]] = field(default_factory=list)
    errors: list[FileError] = field(default_factory=list)


def parse_collection(collection: str, tree: SourceTree) -> Contents:
    """Return the contents of a collection's files, with every error in them.

    Raises SourceUnreadable for too many profiles.
    """
    contents = Contents(errors=list(tree.errors))
    # A collection without the folder `profiles` has its profiles at the top.
    profiles = {path: text for path, text in tree.files.items() if path.startswith("profiles/")}
    profiles = profiles or {
        path: text for path, text in tree.files.items() if "/" not in path and PROFILE.match(text)
    }
    if len(profiles) > PROFILE_LIMIT:
        raise SourceUnreadable(f"A collection has at most {PROFILE_LIMIT} profiles.")
    agents, context = (_read_texts(tree, section, contents) for section in ("agents", "context"))
    library = Library(collection, agents, context)
    for path, content in profiles.items():
        try:
            file = profile_format.parse_profile(content, library)
            if file.name != (stem := PurePosixPath(path).stem):
                raise InvalidDefinition(f"profile.name: must be {stem!r}, like the file.")
            if place := find_secret(file.definition, ""):
                raise InvalidDefinition(
                    f"{place}: a secret is never stored; write ${{NAME}}, which "
                    "is read from the environment at run time."
                )
        except InvalidDefinition as error:
            contents.errors.append(FileError(path, *front_matter.locate_error(content, str(error))))
        else:
            contents.profiles[file.name] = asdict(file) | {"source_path": path}
    contents.agents = [path.removesuffix(".md") for path in library.agents]
    contents.context = list(library.context)
    contents.modules = [_describe_module(collection, folder, tree) for folder in tree.modules]
    return contents


def _read_texts(tree: SourceTree, section: str, contents: Contents) -> dict[str, str]:
    """Return the texts of a folder by their path below it; add errors to `contents`."""
    texts = {}
    for path, content in tree.files.items():
        if not path.startswith(f"{section}/"):
            continue
        try:
            text = front_matter.decode_text(content).strip()
        except InvalidDefinition as error:
            contents.errors.append(FileError(path, *front_matter.locate_error(content, str(error))))
            continue
        if text:
            texts[path.removeprefix(f"{section}/")] = text
        else:
            contents.errors.append(FileError(path, 1, "is empty; write something or remove it."))
    return texts


def _describe_module(collection: str, folder: str, tree: SourceTree) -> dict[str, Any]:
    """Describe a module without executing anything of it."""
    # A module file that cannot be read counts as empty.
    data: Any = None
    with contextlib.suppress(InvalidDefinition):
        content = tree.files.get(f"{folder}/{MODULE_FILE}", b"")
        data = front_matter.parse_yaml(front_matter.decode_text(content))
    data = data if isinstance(data, dict) else {}
    name = PurePosixPath(folder).name.removeprefix("amplifier-module-")
    by_prefix = next((kind for prefix, kind in PREFIXES.items() if name.startswith(prefix)), None)
    kind = data.get("type") or MODULE_FOLDERS.get(folder.split("/")[1]) or by_prefix
    description = data.get("description")
    return {
        "id": f"{collection}/{name}",
        "type": kind if kind in TYPES else "unknown",
        "name": name,
        "location": folder,
        "description": description[:1000] if isinstance(description, str) else None,
    }
