"""The versions of a profile over REST."""

from dataclasses import asdict

from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.bodies import checked
from amplifierd.common.pagination import VersionPagination
from profiles_app.api.serializers.profile_bodies import DiffQuery
from profiles_app.api.serializers.profiles import VersionDetailSerializer, VersionSerializer
from profiles_app.diff import compare_versions, unified_diff
from profiles_app.services.profiles import find_pair, find_version, list_versions, resolve_profile


class VersionActions:
    """What there is to read of a profile's history."""

    def versions(self, request: Request, name: str) -> Response:
        """Answer with a page of versions, newest first."""
        profile = resolve_profile(name)
        pagination = VersionPagination()
        page = pagination.paginate_queryset(list_versions(profile), request, view=self)
        serializer = VersionSerializer(page, many=True, context={"profile": profile})
        return pagination.get_paginated_response(serializer.data)

    def version(self, request: Request, name: str, number: str) -> Response:
        """Answer with one version in full."""
        profile = resolve_profile(name)
        version = find_version(profile, int(number))
        return Response(VersionDetailSerializer(version, context={"profile": profile}).data)

    def diff(self, request: Request, name: str) -> Response:
        """Answer with what differs between two versions."""
        profile = resolve_profile(name)
        given = {key: value for key, value in request.query_params.items() if value}
        asked = checked(DiffQuery, given)
        old, new = find_pair(profile, asked.get("from"), asked.get("to"))
        return Response(
            {
                "name": profile.name,
                "collectionId": profile.collection,
                "from": old.number,
                "to": new.number,
                **asdict(compare_versions(old, new)),
                "unified": unified_diff(old, new),
            }
        )
