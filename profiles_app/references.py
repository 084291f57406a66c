"""Texts that a profile names in place of writing them out, from the collection that it is of.

`agents: [zen, agents/bug-hunter.md]` and `context: [shared/base.md, notes]` name files below the
folders `agents` and `context`; a folder there stands for all its texts. A mapping may do the same
for each of its names: `agents: {zen: ./agents/zen.md}`. What reads like a text is taken as one.
"""

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from profiles_app.exceptions import InvalidDefinition

# Characters of all the texts of one section of a profile.
TEXT_LIMIT = 256 * 1024
# A single word with a slash or a suffix, or one that begins like a path or an address.
REFERENCE = re.compile(r"[@./]\S*|\S+/\S+|[a-z+]+://\S+|\S+\.(md|txt|ya?ml|json|csv|rst)")
ELSEWHERE = re.compile(r"[a-z+]+://\S*|/\S*|~\S*")


@dataclass(frozen=True)
class Library:
    """The texts of one collection by their path below their folder: `zen.md`, `shared/base.md`."""

    collection: str
    agents: dict[str, str] = field(default_factory=dict)
    context: dict[str, str] = field(default_factory=dict)

    def resolved(self, section: str, value: Any) -> Any:
        """Return a section's value as a mapping of names to texts, where it names any.

        Raises InvalidDefinition for a reference that the collection does not have. Other values
        are returned as they are, for the definition to judge.
        """
        found: dict[str, Any] = {}
        if isinstance(value, list):
            for index, item in enumerate(value):
                where = f"{section}[{index}]"
                if not isinstance(item, str) or not item.strip():
                    raise InvalidDefinition(f"{where}: must be the name of a text.")
                found |= self._named(section, item, where)
        elif isinstance(value, dict):
            for key, item in value.items():
                found[key] = self._text(section, item, f"{section}.{key}")
        else:
            return value
        if sum(len(text) for text in found.values() if isinstance(text, str)) > TEXT_LIMIT:
            raise InvalidDefinition(f"{section}: has at most {TEXT_LIMIT:,} characters in all.")
        return found

    def _text(self, section: str, value: Any, where: str) -> Any:
        """Return the text that a value of a mapping stands for."""
        if not isinstance(value, str) or not REFERENCE.fullmatch(value.strip()):
            return value
        texts = self._named(section, value.strip(), where)
        return "\n\n".join(texts.values())

    def _named(self, section: str, reference: str, where: str) -> dict[str, str]:
        """Return what a reference names: one text, or those of a folder, by their names."""
        texts = getattr(self, section)
        path = self._path(section, reference, where)
        for key in (path, f"{path}.md"):
            if key in texts:
                return {_name(section, key): texts[key]}
        folder = "" if path in ("", ".") else f"{path}/"
        inside = {key: text for key, text in texts.items() if key.startswith(folder)}
        if not inside:
            raise InvalidDefinition(
                f"{where}: the collection has no {section}/{path[:80]}; add the file, or write "
                "the text here."
            )
        return {_name(section, key): text for key, text in inside.items()}

    def _path(self, section: str, reference: str, where: str) -> str:
        """Return a reference as a path below its section's folder."""
        if ELSEWHERE.fullmatch(reference):
            raise InvalidDefinition(
                f"{where}: texts are read from the collection only; copy the file into its "
                f"folder {section!r} and name it here."
            )
        owner, colon, rest = reference.removeprefix("@").rpartition(":")
        if colon and owner != self.collection:
            raise InvalidDefinition(
                f"{where}: texts are read from the collection {self.collection!r} only."
            )
        # A profile lies in `profiles`, beside the folders that it names.
        path = str(PurePosixPath(rest.removeprefix("../")))
        if ".." in PurePosixPath(path).parts:
            raise InvalidDefinition(f"{where}: the reference leaves the collection.")
        return "" if path == section else path.removeprefix(f"{section}/")


def _name(section: str, key: str) -> str:
    """Return the name that a text has in the profile: an agent's is without its suffix."""
    return key.removesuffix(".md") if section == "agents" else key
