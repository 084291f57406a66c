"""Profiles of a test's own."""

from typing import Any

from profiles_app.definition import validate_definition
from profiles_app.models import Profile, Source


def local_profile(name: str, *providers: dict[str, Any], **sections: Any) -> str:
    """Make a local profile with these providers, and return its full name."""
    definition = validate_definition({"providers": list(providers), **sections})
    profile = Profile.objects.create(
        collection="local", name=name, version="1", source=Source.LOCAL, definition=definition
    )
    return str(profile)
