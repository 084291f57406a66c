"""Our own kinds of fields, as JSON Schema has them."""

from copy import deepcopy
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension

from amplifierd.common.openapi.schema import by_name, free, listed, text

MODULE = {
    "oneOf": [
        text("The id of a module."),
        {
            "type": "object",
            "properties": {
                "module": text(minLength=1),
                "source": {"type": ["string", "null"]},
                "config": free(),
            },
            "required": ["module"],
        },
    ]
}


class TextField(OpenApiSerializerFieldExtension):
    """A text, which is not empty where that is not allowed."""

    target_class = "amplifierd.common.bodies.Text"
    match_subclasses = True

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        """Return the schema; what else there is to say of the field is added to it."""
        least = {} if self.target.allow_blank else {"minLength": 1}
        most = {"maxLength": self.target.max_length} if self.target.max_length else {}
        return text(**least, **most)


class ObjectField(OpenApiSerializerFieldExtension):
    """A JSON object of the caller's own."""

    target_class = "amplifierd.common.bodies.Object"

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        """Return the schema."""
        return free()


class SectionField(OpenApiSerializerFieldExtension):
    """A section of a profile's definition."""

    target_class = "profiles_app.api.serializers.profile_bodies.Section"

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        """Return the schema: modules in a list, or texts by their names."""
        if self.target.section in ("agents", "context"):
            return by_name(text(minLength=1))
        if self.target.section == "behaviors":
            return listed({"oneOf": [text("A name.", minLength=1), free()]})
        return listed(deepcopy(MODULE))


class SessionModuleField(OpenApiSerializerFieldExtension):
    """A module that the session itself has."""

    target_class = "profiles_app.api.serializers.profile_bodies.SessionModule"

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        """Return the schema of one module."""
        return deepcopy(MODULE)
