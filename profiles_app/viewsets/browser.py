"""The directory browser over REST."""

from rest_framework import status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from profiles_app.bodies import checked
from profiles_app.serializers import requests
from profiles_app.serializers.directories import both_casings
from profiles_app.services import directories, directories_browse
from profiles_app.viewsets.queries import asked


class DirectoryViewSet(viewsets.ViewSet):
    """The directories below the root, amplified or not."""

    def list(self, request: Request) -> Response:
        """Answer with the directories in a directory, in order of their names."""
        found = directories_browse.listing(asked(requests.BrowseDirectories, request)["path"])
        members = {
            "current_path": found.path,
            "parent_path": found.parent,
            "directories": found.names,
            "truncated": found.is_truncated,
            "left_out": found.unnamable,
        }
        return Response(both_casings(members))

    def create(self, request: Request) -> Response:
        """Make a directory, with its parents."""
        given = checked(requests.CreateDirectory, request.data)["relative_path"]
        path = directories_browse.create(given)
        members = {"created_path": path, "absolute_path": str(directories.place_of(path))}
        return Response(both_casings(members), status.HTTP_201_CREATED)
