"""The state of the catalogue against its sources, over REST."""

from typing import Any

from rest_framework import viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.bodies import checked
from profiles_app.api.queries import asked
from profiles_app.api.serializers.collection_requests import UpdateCache, UpdateCacheQuery
from profiles_app.api.serializers.collections import (
    check_json,
    checks_json,
    profile_check,
    profile_update,
    update_json,
    updates_json,
)
from profiles_app.exceptions import ProfileNotFound
from profiles_app.services import collections_sync


class CacheViewSet(viewsets.ViewSet):
    """What is behind its source, and bringing it up to date."""

    def status(self, request: Request) -> Response:
        """Answer with the state of all collections."""
        return Response(checks_json(collections_sync.check_all()))

    def collection_status(self, request: Request, collection: str) -> Response:
        """Answer with the state of one collection."""
        return Response(check_json(*collections_sync.check_all([collection])))

    def profile_status(self, request: Request, collection: str, name: str) -> Response:
        """Answer with the state of one profile."""
        [check] = collections_sync.check_all([collection])
        if f"{collection}/{name}" not in check.profiles:
            raise ProfileNotFound
        return Response(profile_check(check, f"{collection}/{name}"))

    def update(self, request: Request) -> Response:
        """Read what is behind anew."""
        return Response(updates_json(collections_sync.update(**_options(request))))

    def update_collection(self, request: Request, collection: str) -> Response:
        """Read one collection anew where it is behind."""
        return Response(update_json(*collections_sync.update([collection], **_options(request))))

    def update_profile(self, request: Request, collection: str, name: str) -> Response:
        """Read the collection of a profile anew where it is behind."""
        result, *told = collections_sync.update_profile(collection, name, **_options(request))
        return Response(profile_update(result, f"{collection}/{name}", *told))


def _options(request: Request) -> dict[str, Any]:
    """Return the options; those of the body go before those of the query."""
    return asked(UpdateCacheQuery, request) | checked(UpdateCache, request.data)
