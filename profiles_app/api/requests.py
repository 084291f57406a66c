"""The bodies and queries of the catalogue's API."""

from copy import deepcopy
from typing import Any

from drf_spectacular.drainage import set_override
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from amplifierd.common.openapi.schema import Schema, by_name, free, list_of, text
from amplifierd.common.serializers import Body, Digits, Flag, Number, Object, Query, Text, Truth
from profiles_app import definition
from profiles_app.definition import BEHAVIORS, MODULE_LISTS
from profiles_app.exceptions import InvalidDefinition
from profiles_app.front_matter import FILE_LIMIT
from profiles_app.services.directories import OWNER_LIMIT
from profiles_app.services.profiles import FIRST_VERSION
from profiles_app.sources.location import LIMIT as SOURCE_LIMIT

# The body's key → the section of a definition, or the module of the session.
SECTIONS = {
    **{key: key for key in (*MODULE_LISTS, BEHAVIORS)},
    "agents": "agents",
    "contexts": "context",
}
MODULES = {"orchestrator": "orchestrator", "context": "context"}
NUMBER_MAX = 2**31 - 1
MODULE: Schema = {
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
PATH_LIMIT = 1024
PATH_PATTERN = r"^[^\\\x00-\x1f\x7f]+$"
PROFILE_LIMIT = 200
# Characters of a collection's name, and collections of one sync.
NAME_LIMIT = 64
NAMES_LIMIT = 1000


class Section(serializers.Field):
    """A section of a definition, in its full form; a blank `source` counts as missing."""

    def __init__(self, section: str, **options: Any) -> None:
        super().__init__(**options)
        self.section = section
        set_override(self, "field", self.schema())

    def to_internal_value(self, data: Any) -> Any:
        try:
            definition.check_storable(data, self.section)
            return self.validate_section(drop_blank_sources(data))
        except InvalidDefinition as error:
            raise ValidationError(str(error)) from error

    def to_representation(self, value: Any) -> Any:
        return value

    def schema(self) -> Schema:
        if self.section in definition.TEXTS:
            return by_name(text(minLength=1))
        if self.section == BEHAVIORS:
            return list_of({"oneOf": [text("A name.", minLength=1), free()]})
        return list_of(deepcopy(MODULE))

    def validate_section(self, data: Any) -> Any:
        return definition.validate_definition({self.section: data}).get(self.section, [])


class SessionModule(Section):
    """A module of the session itself: its orchestrator or its context module."""

    def schema(self) -> Schema:
        return deepcopy(MODULE)

    def validate_section(self, data: Any) -> Any:
        return definition.validate_definition({"session": {self.section: data}})["session"][
            self.section
        ]


class ProfileBody(Body):
    """The content of a profile. Null removes a module of the session."""

    version = Text(required=False, max_length=64)
    description = Text(required=False, allow_blank=True, max_length=1000)
    instruction = Text(required=False, allow_blank=True, max_length=FILE_LIMIT)
    providers = Section("providers", required=False)
    tools = Section("tools", required=False)
    hooks = Section("hooks", required=False)
    orchestrator = SessionModule("orchestrator", required=False, allow_null=True)
    # Declared fields are taken out of the class: they hide no attribute of a serializer.
    context = SessionModule("context", required=False, allow_null=True)  # type: ignore[assignment]
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

    example = {
        "name": "mine",
        "description": "My assistant",
        "providers": [{"module": "provider-mock"}],
        "instruction": "Be brief.",
    }

    name = Text()
    version = Text(default=FIRST_VERSION, max_length=64)


class UpdateProfile(ProfileBody):
    """PATCH /profiles/{name}"""

    example = {"description": "Briefer", "instruction": "Be very brief."}

    expected_version = Number(required=False, min_value=1, max_value=NUMBER_MAX)


class CopyProfile(Body):
    """POST /profiles/{name}/copy"""

    example = {"new_name": "mine"}

    new_name = Text()


# GET /profiles/{name}/diff?from=1&to=2; `from` cannot be a name in a class body.
DiffQuery = type(
    "DiffQuery",
    (Query,),
    {
        name: Digits(required=False, min_value=1, max_value=NUMBER_MAX, help_text=text)
        for name, text in {"from": "The older version.", "to": "The newer version."}.items()
    },
)


class AmplifyDirectory(Body):
    """POST /amplified-directories/"""

    example = {"relative_path": "projects/app", "default_profile": "foundation/base"}

    relative_path = Text(max_length=PATH_LIMIT)
    default_profile = Text(
        default=None, allow_null=True, max_length=PROFILE_LIMIT, source="profile"
    )
    metadata = Object(default=dict, allow_null=True)
    create_marker = Flag(default=True)
    owner = Text(default=None, allow_null=True, max_length=OWNER_LIMIT)
    shares = Object(default=dict, allow_null=True)


class ChangeDirectory(Body):
    """PATCH /amplified-directories/{path}"""

    example = {"metadata": {"team": "core"}}

    default_profile = Text(required=False, allow_null=True, max_length=PROFILE_LIMIT)
    metadata = Object(required=False, allow_null=True)
    owner = Text(required=False, allow_null=True, max_length=OWNER_LIMIT)
    shares = Object(required=False, allow_null=True)


class AgentsContent(Body):
    """PUT /amplified-directories/{path}/agents"""

    example = {"content": "# House rules"}

    content = Text(allow_blank=True)


class CreateDirectory(Body):
    """POST /directories/create"""

    example = {"relative_path": "projects/app"}

    relative_path = Text(max_length=PATH_LIMIT)


class GenerateMountPlan(Body):
    """POST /mount-plans/generate"""

    example = {"profile_id": "foundation/base"}

    profile_id = Text(max_length=PROFILE_LIMIT)
    amplified_dir = Text(
        required=False,
        max_length=PATH_LIMIT,
        help_text='By default ".", or the only directory of your own if "." is not for you.',
    )
    session_id = Text(default=None, allow_null=True, max_length=64)
    settings_overrides = Object(default=dict, allow_null=True)


class RemoveDirectory(Query):
    """DELETE /amplified-directories/{path}, its query"""

    remove_marker = Truth(default=False, help_text="Whether to remove the marker on the disk, too.")


@extend_schema_field(text(pattern=PATH_PATTERN, maxLength=PATH_LIMIT))
class PathText(Text):
    """A path below the root directory."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=PATH_LIMIT, help_text="A path below the root.", **options)


class BrowseDirectories(Query):
    """GET /directories/list and /directories/files, their query"""

    path = PathText(default="")


class ReadFile(Query):
    """GET /directories/file/content and /directories/file/download, their query"""

    path = PathText()


class ModulesQuery(Query):
    """GET /modules/"""

    type = Text(required=False, help_text="Only those of this type.")


class AddCollection(Body):
    """POST /collections/"""

    example = {"identifier": "ours", "source": "/srv/profiles"}

    identifier = Text(max_length=NAME_LIMIT)
    # A declared field is taken out of the class: it hides no attribute of a serializer.
    source = Text(max_length=SOURCE_LIMIT)  # type: ignore[assignment]


class MountCollection(Body):
    """POST /collections/{id}/mount"""

    example = {"source": "/srv/profiles"}

    # A declared field is taken out of the class: it hides no attribute of a serializer.
    source = Text(max_length=SOURCE_LIMIT)  # type: ignore[assignment]


class SyncCollections(Body):
    """POST /collections/sync"""

    example = {"collections": ["ours"]}

    collections = serializers.ListField(
        child=Text(max_length=NAME_LIMIT), default=None, allow_null=True, max_length=NAMES_LIMIT
    )


class UpdateCache(Body):
    """POST /cache/update and what is below it, in the body"""

    example = {"check_only": True}

    check_only = Flag(required=False)
    force = Flag(required=False)


class UpdateCacheQuery(Query):
    """The same, in the query."""

    check_only = Truth(default=False, help_text="Only report what would be done.")
    force = Truth(default=False, help_text="Also if nothing has changed.")


def drop_blank_sources(data: Any) -> Any:
    """Return modules with None for a blank `source`, which forms send."""
    if isinstance(data, list):
        return [drop_blank_sources(entry) for entry in data]
    if isinstance(data, dict) and data.get("source") == "" and "module" in data:
        return {**data, "source": None}
    return data
