"""Amplified directories as a tree: each below the nearest amplified one above it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from profiles_app.models.directory import ROOT, lineage


@dataclass
class Node:
    """A directory in the tree; `leads_to` are the pages about it, by their labels."""

    path: str
    # What comes after the directory above it.
    label: str
    depth: int
    # The profile that counts, and whose it is; the directory's own, or that of one above.
    profile: str
    given_by: str
    url: str = ""
    leads_to: list[tuple[str, str]] = field(default_factory=list)
    has_children: bool = False
    # How many levels end with it: what a template has to close.
    ends: int = 0

    @property
    def is_own(self) -> bool:
        """Tell whether the profile is the directory's own."""
        return self.given_by == self.path

    @property
    def closes(self) -> range:
        """Return what a template repeats to close the levels that end."""
        return range(self.ends)


def tree(profiles: Mapping[str, str], shown: Iterable[str]) -> list[Node]:
    """Return the nodes of these paths, parents first, given the own profiles of all paths.

    Levels are told by `has_children` and `ends`: a depth of any number takes no recursion.
    """
    wanted = {above for path in shown for above in lineage(path) if above in profiles}
    nodes: list[Node] = []
    above: list[Node] = []
    for path in sorted(wanted, key=_place):
        while above and not _is_within(path, above[-1].path):
            above.pop()
        nodes.append(_node(path, above[-1] if above else None, profiles))
        above.append(nodes[-1])
    for node, following in zip(nodes, [*nodes[1:], None], strict=False):
        next_depth = following.depth if following else 0
        node.has_children = next_depth > node.depth
        node.ends = max(0, node.depth - next_depth)
    return nodes


def _node(path: str, parent: Node | None, profiles: Mapping[str, str]) -> Node:
    is_own = bool(profiles[path]) or parent is None
    prefix = "" if parent is None or parent.path == ROOT else f"{parent.path}/"
    return Node(
        path=path,
        label=path.removeprefix(prefix),
        depth=0 if parent is None else parent.depth + 1,
        profile=profiles[path] if is_own else parent.profile,
        given_by=path if is_own else parent.given_by,
    )


def _place(path: str) -> tuple[str, ...]:
    """Return what directories are sorted by: the root, then each before what is in it."""
    return () if path == ROOT else PurePosixPath(path).parts


def _is_within(path: str, above: str) -> bool:
    return above == ROOT or path.startswith(f"{above}/")
