"""The directory browser over REST."""

from django.http import FileResponse
from rest_framework import status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.bodies import checked
from profiles_app.api.queries import asked
from profiles_app.api.serializers import requests
from profiles_app.api.serializers.directories import both_casings, content_json, file_json
from profiles_app.services import directories, directory_browser


class DirectoryViewSet(viewsets.ViewSet):
    """The directories below the root, amplified or not."""

    def list(self, request: Request) -> Response:
        """Answer with the directories in a directory, in order of their names."""
        found = directory_browser.list_directories(
            asked(requests.BrowseDirectories, request)["path"]
        )
        members = {
            "current_path": found.path,
            "parent_path": found.parent,
            "directories": found.names,
            "truncated": found.is_truncated,
            "left_out": found.unnamable,
        }
        return Response(both_casings(members))

    def files(self, request: Request) -> Response:
        """Answer with the files and directories in a directory, in order of their names."""
        found = directory_browser.list_entries(asked(requests.BrowseDirectories, request)["path"])
        members = {
            "current_path": found.path,
            "parent_path": found.parent,
            "files": [file_json(entry) for entry in found.entries],
            "truncated": found.is_truncated,
            "left_out": found.unnamable,
        }
        return Response(both_casings(members))

    def content(self, request: Request) -> Response:
        """Answer with the text of a file."""
        found = directory_browser.read_content(asked(requests.ReadFile, request)["path"])
        return Response(content_json(found))

    def download(self, request: Request) -> FileResponse:
        """Answer with the bytes of a file; no browser shows them as a page of ours."""
        file, name, media_type = directory_browser.open_download(
            asked(requests.ReadFile, request)["path"]
        )
        return FileResponse(file, as_attachment=True, filename=name, content_type=media_type)

    def create(self, request: Request) -> Response:
        """Make a directory, with its parents."""
        given = checked(requests.CreateDirectory, request.data)["relative_path"]
        path = directory_browser.create_directory(given)
        members = {"created_path": path, "absolute_path": str(directories.place_of(path))}
        return Response(both_casings(members), status.HTTP_201_CREATED)
