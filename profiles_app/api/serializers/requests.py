"""What callers may send to the API of directories and mount plans."""

from rest_framework import serializers

from amplifierd.common.bodies import Body, Flag, Object, Text, Truth

PATH_LIMIT = 1024
PROFILE_LIMIT = 200


class AmplifyDirectory(Body):
    """POST /amplified-directories/"""

    relative_path = Text(max_length=PATH_LIMIT)
    default_profile = Text(
        default=None, allow_null=True, max_length=PROFILE_LIMIT, source="profile"
    )
    metadata = Object(default=dict, allow_null=True)
    create_marker = Flag(default=True)


class ChangeDirectory(Body):
    """PATCH /amplified-directories/{path}"""

    default_profile = Text(required=False, allow_null=True, max_length=PROFILE_LIMIT)
    metadata = Object(required=False, allow_null=True)


class AgentsContent(Body):
    """PUT /amplified-directories/{path}/agents"""

    content = Text(allow_blank=True)


class CreateDirectory(Body):
    """POST /directories/create"""

    relative_path = Text(max_length=PATH_LIMIT)


class GenerateMountPlan(Body):
    """POST /mount-plans/generate"""

    profile_id = Text(max_length=PROFILE_LIMIT)
    amplified_dir = Text(default=".", max_length=PATH_LIMIT)
    session_id = Text(default=None, allow_null=True, max_length=64)
    settings_overrides = Object(default=dict, allow_null=True)


class RemoveDirectory(serializers.Serializer):
    """DELETE /amplified-directories/{path}, its query"""

    remove_marker = Truth(default=False)


class BrowseDirectories(serializers.Serializer):
    """GET /directories/list and /directories/files, their query"""

    path = Text(default="", allow_blank=True, max_length=PATH_LIMIT)


class ReadFile(serializers.Serializer):
    """GET /directories/file/content and /directories/file/download, their query"""

    path = Text(max_length=PATH_LIMIT)
