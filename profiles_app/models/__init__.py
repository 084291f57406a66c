"""The catalogue: collections, profiles and their versions, and directories of sessions."""

from profiles_app.models.collection import Collection, Kind
from profiles_app.models.directory import AmplifiedDirectory
from profiles_app.models.profile import Profile, ProfileVersion, Source

__all__ = ["AmplifiedDirectory", "Collection", "Kind", "Profile", "ProfileVersion", "Source"]
