"""How profiles and their versions are written in answers. No answer carries a literal secret."""

from typing import Any

from rest_framework import serializers

from amplifierd.common.redaction import masked
from profiles_app.definition import BEHAVIORS, TEXTS
from profiles_app.models import Profile, ProfileVersion
from profiles_app.profile_format import redact_texts
from profiles_app.services.mount_plans import TIME_FORMAT


class ProfileSerializer(serializers.ModelSerializer[Profile]):
    """A profile in a list. `name` goes with `collectionId`: together they are its full name."""

    collectionId = serializers.CharField(source="collection")
    source = serializers.SerializerMethodField()
    sourceType = serializers.CharField(source="source")
    isActive = serializers.BooleanField(source="is_active")
    schemaVersion = serializers.IntegerField(source="schema_version")

    class Meta:
        model = Profile
        fields = (
            *("name", "collectionId", "source", "sourceType", "isActive", "schemaVersion"),
            "description",
        )

    def get_source(self, profile: Profile) -> str:
        """Return where it comes from; clients know what they may edit by `local/`."""
        return f"local/{profile.name}" if profile.is_local else profile.source


class ProfileDetailSerializer(ProfileSerializer):
    """A profile with all that it defines; of agents and context, the names."""

    versionNumber = serializers.IntegerField(source="version_number")
    # Profiles of schema 2 inherit nothing; clients of older daemons ask for the chain.
    inheritanceChain = serializers.ReadOnlyField(default=[])

    class Meta(ProfileSerializer.Meta):
        fields = (
            *ProfileSerializer.Meta.fields,
            *("version", "versionNumber", "inheritanceChain", "instruction"),
        )

    def to_representation(self, instance: Profile) -> dict[str, Any]:
        """Add the sections of the definition."""
        names = {section: list(instance.definition[section]) for section in TEXTS}
        return super().to_representation(instance) | _modules(instance.definition) | names


class VersionSerializer(serializers.ModelSerializer[ProfileVersion]):
    """A version in a list. The context has the `profile`."""

    name = serializers.SerializerMethodField()
    collectionId = serializers.SerializerMethodField()
    isCurrent = serializers.SerializerMethodField()
    createdAt = serializers.DateTimeField(source="created_at", format=TIME_FORMAT)

    class Meta:
        model = ProfileVersion
        fields = (
            *("number", "isCurrent", "name", "collectionId", "version", "description"),
            *("digest", "createdAt"),
        )

    def get_name(self, version: ProfileVersion) -> str:
        """Return the name of the profile."""
        return self.context["profile"].name

    def get_collectionId(self, version: ProfileVersion) -> str:
        """Return the collection of the profile."""
        return self.context["profile"].collection

    def get_isCurrent(self, version: ProfileVersion) -> bool:
        """Tell whether this is what the profile is now."""
        return version.number == self.context["profile"].version_number


class VersionDetailSerializer(VersionSerializer):
    """A version with all that it defines, the texts of agents and context too."""

    class Meta(VersionSerializer.Meta):
        fields = (*VersionSerializer.Meta.fields, "instruction")

    def to_representation(self, instance: ProfileVersion) -> dict[str, Any]:
        """Add the sections of the definition."""
        sections = instance.definition
        return super().to_representation(instance) | _modules(sections) | redact_texts(sections)


def _modules(definition: dict[str, Any]) -> dict[str, Any]:
    """Return the sections that name modules, with their secrets masked."""
    sections = masked({key: item for key, item in definition.items() if key not in TEXTS})
    return {BEHAVIORS: []} | sections | {"session": _session(sections["session"])}


def _session(session: dict[str, Any]) -> dict[str, Any]:
    """Return the session's section; clients know its context module as `contextManager`."""
    if "context" not in session:
        return session
    return session | {"contextManager": session["context"]}
