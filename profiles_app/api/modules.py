"""Modules over REST: those of the daemon and those of collections, which are listed only."""

from typing import ClassVar

from rest_framework import viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from profiles_app.exceptions import ModuleNotFound
from profiles_app.services.profile_validation import list_modules


class ModuleViewSet(viewsets.ViewSet):
    """Modules by their id, which may have slashes."""

    # Set by a URL that names a type.
    kind: ClassVar[str | None] = None

    def list(self, request: Request) -> Response:
        """Answer with all modules, or those of one type."""
        kind = self.kind or request.query_params.get("type") or None
        found = [item for item in list_modules() if kind in (None, item["type"])]
        return Response(found, headers={"X-Total-Count": str(len(found))})

    def retrieve(self, request: Request, id: str) -> Response:
        """Answer with one module."""
        for module in list_modules():
            if module["id"] == id:
                return Response(module | {"configSchema": None})
        raise ModuleNotFound
