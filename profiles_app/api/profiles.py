"""Profiles, their versions, and previews of mount plans."""

from dataclasses import asdict

from django.http import JsonResponse
from rest_framework import status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.callers import get_caller
from amplifierd.common.openapi.operation import operation
from amplifierd.common.openapi.schema import nullable, ref, text, whole
from amplifierd.common.pagination import PageQuery, paginate
from amplifierd.common.redaction import redact
from amplifierd.common.serializers import Nothing, parse_query, validate
from profiles_app.api import requests
from profiles_app.api.serializers import (
    ActivatedSerializer,
    CompiledSerializer,
    MountPlanSerializer,
    ProfileDetailSerializer,
    ProfileDiffSerializer,
    ProfileSerializer,
    ProfileVersionDetailSerializer,
    ProfileVersionSerializer,
    SuccessSerializer,
    serialize_profile,
    serialize_version,
)
from profiles_app.diff import compare_versions, unified_diff
from profiles_app.models import Profile
from profiles_app.services import mount_plans, profiles
from profiles_app.services.profile_validation import compile_profile
from profiles_app.services.profiles import find_pair, find_version, resolve_profile


class ProfileViewSet(viewsets.ViewSet):
    """Profiles, by `collection/name` or by a bare name."""

    tag = "profiles"
    path_parameters = {
        "name": text(
            "A name. That of a profile may be `collection/name` (`%2F` in a path is a slash).",
            example="foundation%2Fbase",
        ),
        "number": whole("The number of a version.", maximum=999_999_999),
    }

    @operation({200: [ProfileSerializer]}, operation_id="list_profiles", query=PageQuery)
    def list(self, request: Request) -> Response:
        """List profiles

        All profiles, newest first.
        """
        query = parse_query(PageQuery, request.query_params)
        found = Profile.objects.all()
        return paginate(request, found, found.count(), query, ProfileSerializer.serialize_all, str)

    @operation(
        {201: ProfileDetailSerializer},
        operation_id="create_profile",
        request=requests.CreateProfile,
        links={"name": "$response.body#/name"},
    )
    def create(self, request: Request) -> Response:
        """Create a profile

        Creates a profile in the collection `local`. 409 if one has the name.
        """
        profile = profiles.create(**validate(requests.CreateProfile, request.data))
        return Response(serialize_profile(profile), status.HTTP_201_CREATED)

    @operation({200: ProfileDetailSerializer}, operation_id="get_profile")
    def retrieve(self, request: Request, name: str) -> Response:
        """Show a profile

        One profile in full. Its secrets are masked.
        """
        return Response(serialize_profile(resolve_profile(name)))

    @operation(
        {200: ProfileDetailSerializer},
        operation_id="update_profile",
        request=requests.UpdateProfile,
        errors=[409],
    )
    def partial_update(self, request: Request, name: str) -> Response:
        """Change a profile

        Makes a new version of it; sessions keep the one that they began with. Only profiles of the
        collection `local` can change: 403 for others. With `expected_version`, 409 if the profile
        is at another version by now.
        """
        profile = profiles.update(name, **validate(requests.UpdateProfile, request.data))
        return Response(serialize_profile(profile))

    @operation({204: None}, operation_id="delete_profile", errors=[409])
    def destroy(self, request: Request, name: str) -> Response:
        """Delete a profile

        Deletes it with its versions; sessions keep their mount plans. 403 if it is not in the
        collection `local`, 409 while it is active.
        """
        profiles.delete(name)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @operation(
        {201: ProfileDetailSerializer}, operation_id="copy_profile", request=requests.CopyProfile
    )
    def copy(self, request: Request, name: str) -> Response:
        """Copy a profile

        Copies any profile to the collection `local`. 409 if one has the new name.
        """
        profile = profiles.copy(name, **validate(requests.CopyProfile, request.data))
        return Response(serialize_profile(profile), status.HTTP_201_CREATED)

    @operation({200: CompiledSerializer}, operation_id="compile_profile")
    def compile(self, request: Request, name: str) -> Response:
        """Check a profile

        Checks whether a session could run with the profile; 400 lists what is missing.
        """
        validate(Nothing, request.data)
        return Response(CompiledSerializer.serialize(compile_profile(name), status="compiled"))

    @operation({200: ActivatedSerializer}, operation_id="activate_profile")
    def activate(self, request: Request, name: str) -> Response:
        """Make a profile the active one

        At most one profile is active.
        """
        validate(Nothing, request.data)
        profiles.activate(name)
        return Response(ActivatedSerializer.serialize(status="activated", name=name))

    @operation({200: nullable(ref(ProfileDetailSerializer))}, operation_id="get_active_profile")
    def active(self, request: Request) -> JsonResponse:
        """Show the active profile

        The active profile in full, or null.
        """
        profile = Profile.objects.active()
        # REST framework writes None as an empty body.
        return JsonResponse(profile and serialize_profile(profile), safe=False)

    @operation({200: SuccessSerializer}, operation_id="deactivate_profile")
    def deactivate(self, request: Request) -> Response:
        """Deactivate the active profile

        Afterwards no profile is active.
        """
        profiles.deactivate()
        return Response(SuccessSerializer.serialize(success=True))

    @operation(
        {200: [ProfileVersionSerializer]}, operation_id="list_profile_versions", query=PageQuery
    )
    def versions(self, request: Request, name: str) -> Response:
        """List the versions of a profile

        Newest first.
        """
        profile = resolve_profile(name)
        found, query = profile.versions.all(), parse_query(PageQuery, request.query_params)
        return paginate(
            request,
            found,
            found.count(),
            query,
            lambda page: [serialize_version(version, profile) for version in page],
            lambda version: str(version.number),
        )

    @operation({200: ProfileVersionDetailSerializer}, operation_id="get_profile_version")
    def version(self, request: Request, name: str, number: str) -> Response:
        """Show a version of a profile

        One version in full.
        """
        profile = resolve_profile(name)
        version = find_version(profile, int(number))
        return Response(serialize_version(version, profile, in_full=True))

    @operation(
        {200: ProfileDiffSerializer}, operation_id="diff_profile_versions", query=requests.DiffQuery
    )
    def diff(self, request: Request, name: str) -> Response:
        """Compare two versions of a profile

        Without parameters: the newest version with the one before.
        """
        profile = resolve_profile(name)
        query = parse_query(requests.DiffQuery, request.query_params)
        old, new = find_pair(profile, query.get("from"), query.get("to"))
        found = {"from": old.number, "to": new.number, **asdict(compare_versions(old, new))}
        return Response(
            ProfileDiffSerializer.serialize(
                name=profile.name,
                collectionId=profile.collection,
                unified=unified_diff(old, new),
                **found,
            )
        )


class MountPlanViewSet(viewsets.ViewSet):
    """Previews of mount plans."""

    tag = "mount plans"

    @operation(
        {201: MountPlanSerializer},
        operation_id="generate_mount_plan",
        request=requests.GenerateMountPlan,
        errors=[404],
    )
    def create(self, request: Request) -> Response:
        """Generate a mount plan

        The plan that a session would get now; nothing is stored.
        """
        wanted = validate(requests.GenerateMountPlan, request.data)
        plan = mount_plans.preview_mount_plan(**wanted, sees=get_caller(request).sees)
        return Response(redact(plan), status.HTTP_201_CREATED)
