"""Mount plans over REST."""

from rest_framework import status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.bodies import checked
from amplifierd.common.redaction import masked
from profiles_app.api.serializers.requests import GenerateMountPlan
from profiles_app.services import mount_plans


class MountPlanViewSet(viewsets.ViewSet):
    """Mount plans that no session has."""

    def create(self, request: Request) -> Response:
        """Answer with the plan that a session would get now; nothing is stored."""
        plan = mount_plans.preview_mount_plan(**checked(GenerateMountPlan, request.data))
        return Response(masked(plan), status.HTTP_201_CREATED)
