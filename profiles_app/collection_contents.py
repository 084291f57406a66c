"""What a collection's files say: profiles with their texts filled in, and modules by their type."""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any, TypeVar

from amplifierd.common.redaction import literal_secret
from profiles_app import front_matter, profile_format
from profiles_app.exceptions import InvalidDefinition, SourceUnreadable
from profiles_app.profile_format import Library, ProfileFile
from profiles_app.sources.tree import MODULE_FILE, MODULE_FOLDERS, FileError, Tree

PROFILE_LIMIT = 200

# A file at the top is a profile where its front matter says so; others are documents.
PROFILE = re.compile(rb"\A(\xef\xbb\xbf)?---\s*\n(?s:.*?)^profile\s*:", re.M)
# How the names of modules begin, and the type that goes with it.
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

Parsed = TypeVar("Parsed")


@dataclass
class Contents:
    """A collection as it would be loaded; where anything is refused, nothing of it is."""

    # The fields of each profile, by its name.
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    agents: list[str] = field(default_factory=list)
    context: list[str] = field(default_factory=list)
    modules: list[dict[str, Any]] = field(default_factory=list)
    refused: list[FileError] = field(default_factory=list)


def parse_collection(collection: str, tree: Tree) -> Contents:
    """Return what the files of a collection say, with every reason to refuse one of them.

    Raises SourceUnreadable for too many profiles.
    """
    contents = Contents(refused=list(tree.refused))
    profiles = _profiles(tree)
    if len(profiles) > PROFILE_LIMIT:
        raise SourceUnreadable(f"A collection has at most {PROFILE_LIMIT} profiles.")
    agents, context = (_texts(tree, section, contents) for section in ("agents", "context"))
    library = Library(collection, agents, context)
    for path, content in profiles.items():
        parse = partial(_profile, library=library, stem=PurePosixPath(path).stem)
        if file := _judged(contents, path, content, parse):
            contents.profiles[file.name] = asdict(file) | {"source_path": path}
    contents.agents = [path.removesuffix(".md") for path in library.agents]
    contents.context = list(library.context)
    contents.modules = [_module(collection, folder, tree) for folder in tree.modules]
    return contents


def _profile(content: bytes, library: Library, stem: str) -> ProfileFile:
    file = profile_format.parse_profile(content, library)
    if file.name != stem:
        raise InvalidDefinition(f"profile.name: must be {stem!r}, like the file.")
    if place := literal_secret(file.definition, ""):
        raise InvalidDefinition(
            f"{place.removeprefix('.')}: a secret is never stored; write ${{NAME}}, which is read "
            "from the environment at run time."
        )
    return file


def _profiles(tree: Tree) -> dict[str, bytes]:
    """Return the files that are profiles: those of `profiles`, or where it has none the top's."""
    below = {path: text for path, text in tree.files.items() if path.startswith("profiles/")}
    if below:
        return below
    top = {path: text for path, text in tree.files.items() if "/" not in path}
    return {path: text for path, text in top.items() if PROFILE.match(text)}


def _texts(tree: Tree, section: str, contents: Contents) -> dict[str, str]:
    """Return the texts of a folder by their path below it, and refuse what cannot be kept."""
    texts = {}
    for path, content in tree.files.items():
        if path.startswith(f"{section}/"):
            text = _judged(contents, path, content, lambda c: front_matter.decoded(c).strip())
            if text == "":
                contents.refused.append(
                    FileError(path, 1, "is empty; write something or remove it.")
                )
            elif text:
                texts[path.removeprefix(f"{section}/")] = text
    return texts


def _judged(
    contents: Contents, path: str, content: bytes, parse: Callable[[bytes], Parsed]
) -> Parsed | None:
    try:
        return parse(content)
    except InvalidDefinition as error:
        contents.refused.append(FileError(path, *front_matter.located(content, str(error))))
        return None


def _module(collection: str, folder: str, tree: Tree) -> dict[str, Any]:
    """Return what is known of a module without running any of it."""
    said = _module_file(tree.files.get(f"{folder}/{MODULE_FILE}", b""))
    name = PurePosixPath(folder).name
    short = name.removeprefix("amplifier-module-")
    kind = said.get("type") or MODULE_FOLDERS.get(folder.split("/")[1]) or _type_of(short)
    description = said.get("description")
    return {
        "id": f"{collection}/{short}",
        "type": kind if kind in TYPES else "unknown",
        "name": short,
        "location": folder,
        "description": description[:1000] if isinstance(description, str) else None,
    }


def _module_file(content: bytes) -> dict[str, Any]:
    """Return what a module says of itself; one that cannot be read says nothing."""
    try:
        data = front_matter.data_of(front_matter.decoded(content))
    except InvalidDefinition:
        return {}
    return data if isinstance(data, dict) else {}


def _type_of(name: str) -> str | None:
    return next((kind for prefix, kind in PREFIXES.items() if name.startswith(prefix)), None)
