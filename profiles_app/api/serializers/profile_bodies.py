"""What callers may send for profiles."""

from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from amplifierd.common.bodies import Body, Digits, Number, Text
from profiles_app import definition
from profiles_app.definition import BEHAVIORS, MODULE_LISTS
from profiles_app.exceptions import InvalidDefinition
from profiles_app.front_matter import FILE_LIMIT
from profiles_app.services.profiles import FIRST_VERSION

# The body's key, and the section of a definition or the session's own module that it is.
SECTIONS = {
    **{key: key for key in (*MODULE_LISTS, BEHAVIORS)},
    "agents": "agents",
    "contexts": "context",
}
MODULES = {"orchestrator": "orchestrator", "context": "context"}
NUMBER_MAX = 2**31 - 1


class Section(serializers.Field):
    """A section of a definition, in its full form; a blank `source` of a module is none."""

    def __init__(self, section: str, **options: Any) -> None:
        super().__init__(**options)
        self.section = section

    def to_internal_value(self, data: Any) -> Any:
        """Return the section; raise ValidationError with the place of what is wrong."""
        try:
            definition.check_storable(data, self.section)
            return self._checked(_sourced(data))
        except InvalidDefinition as error:
            raise ValidationError(str(error)) from error

    def to_representation(self, value: Any) -> Any:
        """Return the section unchanged."""
        return value

    def _checked(self, data: Any) -> Any:
        return definition.validate_definition({self.section: data}).get(self.section, [])


class SessionModule(Section):
    """A module that the session itself has: its orchestrator or its context module."""

    def _checked(self, data: Any) -> Any:
        return definition.validate_definition({"session": {self.section: data}})["session"][
            self.section
        ]


class ProfileBody(Body):
    """What a profile says. Null leaves a module of the session out."""

    version = Text(required=False, max_length=64)
    description = Text(required=False, allow_blank=True, max_length=1000)
    instruction = Text(required=False, allow_blank=True, max_length=FILE_LIMIT)
    providers = Section("providers", required=False)
    tools = Section("tools", required=False)
    hooks = Section("hooks", required=False)
    orchestrator = SessionModule("orchestrator", required=False, allow_null=True)
    context = SessionModule("context", required=False, allow_null=True)
    agents = Section("agents", required=False)
    contexts = Section("context", required=False)
    behaviors = Section(BEHAVIORS, required=False)

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return the values as the service takes them: texts, `sections` and `modules`."""
        known = super().to_internal_value(data)
        sections = {name: known.pop(key) for key, name in SECTIONS.items() if key in known}
        modules = {name: known.pop(key) for key, name in MODULES.items() if key in known}
        return known | {"sections": sections, "modules": modules}


class CreateProfile(ProfileBody):
    """POST /profiles/"""

    name = Text()
    version = Text(default=FIRST_VERSION, max_length=64)


class UpdateProfile(ProfileBody):
    """PATCH /profiles/{name}"""

    expected_version = Number(required=False, min_value=1, max_value=NUMBER_MAX)


class CopyProfile(Body):
    """POST /profiles/{name}/copy"""

    new_name = Text()


class DiffQuery(serializers.Serializer):
    """GET /profiles/{name}/diff?from=1&to=2"""

    def get_fields(self) -> dict[str, serializers.Field]:
        """Return the fields; `from` is no name that a class could give."""
        options = {"required": False, "min_value": 1, "max_value": NUMBER_MAX}
        return {key: Digits(**options) for key in ("from", "to")}


def _sourced(data: Any) -> Any:
    """Return modules whose blank `source` is left out, as forms send it."""
    if isinstance(data, list):
        return [_sourced(entry) for entry in data]
    if isinstance(data, dict) and data.get("source") == "" and "module" in data:
        return {**data, "source": None}
    return data
