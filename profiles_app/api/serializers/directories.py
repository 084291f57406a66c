"""How amplified directories are written in answers. No answer carries a literal secret."""

from typing import Any

from rest_framework import serializers

from amplifierd.common.redaction import masked
from profiles_app.models import AmplifiedDirectory
from profiles_app.services import directories
from profiles_app.services.directory_browser import Content, Entry
from profiles_app.services.mount_plans import TIME_FORMAT


class AmplifiedDirectorySerializer(serializers.ModelSerializer[AmplifiedDirectory]):
    """An amplified directory, with the profile that counts in it, in both casings.

    The context may have `defaults`, the default profiles of all directories, to spare a query
    for each.
    """

    path = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField(format=TIME_FORMAT)
    updated_at = serializers.DateTimeField(format=TIME_FORMAT)

    class Meta:
        model = AmplifiedDirectory
        fields = ("relative_path", "path", "metadata", "created_at", "updated_at")

    def get_path(self, directory: AmplifiedDirectory) -> str:
        """Return the absolute path."""
        return str(directories.absolute_path(directory))

    def to_representation(self, instance: AmplifiedDirectory) -> dict[str, Any]:
        """Write each member in camelCase and in snake_case."""
        profile = self._profile(instance)
        members = super().to_representation(instance)
        members["metadata"] = masked(members["metadata"]) | {"default_profile": profile}
        members |= {"default_profile": profile, "is_amplified": True}
        return both_casings(members)

    def _profile(self, directory: AmplifiedDirectory) -> str:
        if (defaults := self.context.get("defaults")) is not None:
            return directories.find_nearest_profile(directory.relative_path, defaults)
        return directories.find_default_profile(directory)


def directory_json(directory: AmplifiedDirectory) -> dict[str, Any]:
    """Return one directory in full, with its instructions for agents."""
    content = {"agents_content": directories.read_agents_content(directory)}
    return AmplifiedDirectorySerializer(directory).data | both_casings(content)


def file_json(entry: Entry) -> dict[str, Any]:
    """Return a file or directory of a list, in both casings."""
    members = {
        "name": entry.name,
        "path": entry.path,
        "type": "directory" if entry.is_directory else "file",
        "size": entry.size,
        "modified_at": f"{entry.modified_at:{TIME_FORMAT}}",
    }
    return both_casings(members)


def content_json(content: Content) -> dict[str, Any]:
    """Return what is known of a file and its text, in both casings."""
    members = {
        "path": content.path,
        "name": content.path.rpartition("/")[2],
        "size": content.size,
        "modified_at": f"{content.modified_at:{TIME_FORMAT}}",
        "media_type": content.media_type,
        "content": content.text,
        "is_binary": content.text is None,
        "truncated": content.is_truncated,
    }
    return both_casings(members)


def both_casings(members: dict[str, Any]) -> dict[str, Any]:
    """Return the members in camelCase and in snake_case; clients of both kinds are about."""
    return {_camel(key): value for key, value in members.items()} | members


def _camel(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(map(str.capitalize, rest))
