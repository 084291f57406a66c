"""Amplified directories over REST."""

from typing import Any

from rest_framework import status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.bodies import Nothing, checked
from profiles_app.api.queries import asked
from profiles_app.api.serializers import requests
from profiles_app.api.serializers.directories import AmplifiedDirectorySerializer, directory_json
from profiles_app.models import AmplifiedDirectory
from profiles_app.models.directory import ROOT
from profiles_app.services import directories
from profiles_app.services.directories import find_directory


class AmplifiedDirectoryViewSet(viewsets.ViewSet):
    """Amplified directories, by their path below the root directory.

    Browsers turn `/.` into `/`, so `root` is the root, and a PATCH without a path means it, too.
    """

    def list(self, request: Request) -> Response:
        """Answer with all of them, in order of their paths."""
        directories = list(AmplifiedDirectory.objects.all())
        defaults = {item.relative_path: item.default_profile for item in directories}
        serializer = AmplifiedDirectorySerializer(
            directories, many=True, context={"defaults": defaults}
        )
        return Response({"directories": serializer.data, "total": len(directories)})

    def create(self, request: Request) -> Response:
        """Amplify a directory."""
        values = checked(requests.AmplifyDirectory, request.data)
        directory = directories.amplify(values.pop("relative_path"), **values)
        return Response(directory_json(directory), status.HTTP_201_CREATED)

    def retrieve(self, request: Request, path: str) -> Response:
        """Answer with one directory."""
        return Response(directory_json(find_directory(_place(path))))

    def partial_update(self, request: Request, path: str = ROOT) -> Response:
        """Change a directory's default profile, merge into its metadata."""
        changes = checked(requests.ChangeDirectory, request.data)
        return Response(directory_json(directories.change(_place(path), changes)))

    def destroy(self, request: Request, path: str) -> Response:
        """Amplify a directory no longer; with `remove_marker` its marker goes, too."""
        checked(Nothing, request.data)
        query: dict[str, Any] = asked(requests.RemoveDirectory, request)
        directories.deregister(_place(path), **query)
        return Response(status=status.HTTP_204_NO_CONTENT)

    def agents(self, request: Request, path: str) -> Response:
        """Replace the instructions for agents of the directory above `/agents`."""
        content = checked(requests.AgentsContent, request.data)["content"]
        directories.write_agents_content(_place(path.removesuffix("/agents")), content)
        return Response({"success": True, "message": "AGENTS.md updated successfully"})


def _place(path: str) -> str:
    return ROOT if path == directories.ROOT_NAME else path
