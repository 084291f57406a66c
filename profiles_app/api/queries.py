"""Query parameters: those that are known are checked, others are passed over."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

from amplifierd.common.bodies import checked, snake


def asked(kind: type[serializers.Serializer], request: Request) -> dict[str, Any]:
    """Return the checked parameters; names may be in camelCase, empty ones count as absent.

    Raises ValidationError with a reason for each parameter.
    """
    given = request.query_params.dict().items()
    return checked(kind, {snake(name): value for name, value in given if value != ""})
