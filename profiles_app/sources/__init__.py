"""Where collections come from: a folder of this machine or a git repository.

What is read is text. Nothing of a source is executed, and nothing of it is checked out: git objects
are read as they are, so there are no hooks, filters, submodules or links to follow.
"""

from profiles_app.sources import git, tree
from profiles_app.sources.location import FOLDER, Location
from profiles_app.sources.tree import Tree


def read_tree(location: Location) -> Tree:
    """Return what a source holds now, or raise SourceUnreadable."""
    return (
        tree.read_folder(location.url) if location.kind == FOLDER else git.read_repository(location)
    )
