"""What OPTIONS answers: which methods there are. The rest is in the API's description."""

from typing import Any

from rest_framework.metadata import BaseMetadata
from rest_framework.request import Request


class Methods(BaseMetadata):
    """Names the methods of a URL, as the Allow header does."""

    def determine_metadata(self, request: Request, view: Any) -> dict[str, Any]:
        """Return the body."""
        return {"methods": view.allowed_methods, "description": "/api/v1/openapi.json"}
