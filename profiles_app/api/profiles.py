"""Profiles over REST."""

from django.http import JsonResponse
from rest_framework import status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.bodies import Nothing, checked
from amplifierd.common.pagination import ProfilePagination
from profiles_app.api.serializers.profile_bodies import CopyProfile, CreateProfile, UpdateProfile
from profiles_app.api.serializers.profiles import ProfileDetailSerializer, ProfileSerializer
from profiles_app.api.versions import VersionActions
from profiles_app.models import Profile
from profiles_app.services import profiles
from profiles_app.services.profile_validation import compile_profile
from profiles_app.services.profiles import resolve_profile

ROOT = "/api/v1/profiles"


class ProfileViewSet(VersionActions, viewsets.GenericViewSet[Profile]):
    """Profiles, by `collection/name` or by a bare name."""

    queryset = Profile.objects.newest_first()
    serializer_class = ProfileSerializer
    pagination_class = ProfilePagination

    def list(self, request: Request) -> Response:
        """Answer with a page of profiles."""
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def create(self, request: Request) -> Response:
        """Create a profile in the collection `local`."""
        profile = profiles.create(**checked(CreateProfile, request.data))
        return _detail(profile, status.HTTP_201_CREATED)

    def retrieve(self, request: Request, name: str) -> Response:
        """Answer with one profile in full."""
        return _detail(resolve_profile(name))

    def partial_update(self, request: Request, name: str) -> Response:
        """Change a local profile, which makes a new version of it."""
        return _detail(profiles.update(name, **checked(UpdateProfile, request.data)))

    def destroy(self, request: Request, name: str) -> Response:
        """Delete a local profile with its versions."""
        profiles.delete(name)
        return Response(status=status.HTTP_204_NO_CONTENT)

    def copy(self, request: Request, name: str) -> Response:
        """Copy any profile to the collection `local`."""
        profile = profiles.copy(name, **checked(CopyProfile, request.data))
        return _detail(profile, status.HTTP_201_CREATED)

    def compile(self, request: Request, name: str) -> Response:
        """Check whether a session would find all that the profile names."""
        checked(Nothing, request.data)
        profile = compile_profile(name)
        return Response(
            {
                "status": "compiled",
                "collectionId": profile.collection,
                "profileName": profile.name,
                "name": str(profile),
                "compiledPath": f"{ROOT}/{profile}/versions/{profile.version_number}",
            }
        )

    def activate(self, request: Request, name: str) -> Response:
        """Make a profile the active one."""
        checked(Nothing, request.data)
        profiles.activate(name)
        return Response({"status": "activated", "name": name})

    def active(self, request: Request) -> JsonResponse:
        """Answer with the active profile in full, or null."""
        profile = Profile.objects.active()
        # REST framework writes None as an empty body.
        return JsonResponse(profile and ProfileDetailSerializer(profile).data, safe=False)

    def deactivate(self, request: Request) -> Response:
        """Let no profile be active."""
        profiles.deactivate()
        return Response({"success": True})


def _detail(profile: Profile, code: int = status.HTTP_200_OK) -> Response:
    return Response(ProfileDetailSerializer(profile).data, code)
