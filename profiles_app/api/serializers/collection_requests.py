"""What callers may send to the API of collections, modules and the cache."""

from rest_framework import serializers

from amplifierd.common.bodies import Body, Flag, Text, Truth
from profiles_app.sources.location import LIMIT

NAME_LIMIT = 64
# Collections of one sync.
NAMES_LIMIT = 1000


class AddCollection(Body):
    """POST /collections/"""

    identifier = Text(max_length=NAME_LIMIT)
    source = Text(max_length=LIMIT)


class MountCollection(Body):
    """POST /collections/{id}/mount"""

    source = Text(max_length=LIMIT)


class SyncCollections(Body):
    """POST /collections/sync"""

    collections = serializers.ListField(
        child=Text(max_length=NAME_LIMIT), default=None, allow_null=True, max_length=NAMES_LIMIT
    )


class UpdateCache(Body):
    """POST /cache/update and what is below it, in the body"""

    check_only = Flag(required=False)
    force = Flag(required=False)


class UpdateCacheQuery(serializers.Serializer):
    """The same, in the query."""

    check_only = Truth(default=False)
    force = Truth(default=False)
