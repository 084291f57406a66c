"""The catalogue in the console; it changes only through the services."""

from profiles_app.admin.collections import CollectionAdmin
from profiles_app.admin.directories import AmplifiedDirectoryAdmin
from profiles_app.admin.profiles import ProfileAdmin

__all__ = ["AmplifiedDirectoryAdmin", "CollectionAdmin", "ProfileAdmin"]
