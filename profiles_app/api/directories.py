"""Amplified directories, and the browser of all directories below the root."""

from django.http import FileResponse
from rest_framework import status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.callers import get_caller
from amplifierd.common.openapi.operation import operation
from amplifierd.common.openapi.schema import text
from amplifierd.common.serializers import Nothing, parse_query, validate
from profiles_app.api import requests
from profiles_app.api.serializers import (
    AgentsWrittenSerializer,
    AmplifiedDirectoriesSerializer,
    AmplifiedDirectoryDetailSerializer,
    AmplifiedDirectorySerializer,
    DirectoryCreatedSerializer,
    DirectoryListSerializer,
    FileContentSerializer,
    FileListSerializer,
    serialize_directory,
)
from profiles_app.models import AmplifiedDirectory
from profiles_app.models.directory import ROOT
from profiles_app.services import directories, directory_browser


class AmplifiedDirectoryViewSet(viewsets.ViewSet):
    """Amplified directories, by their path below the root directory.

    Browsers turn `/.` into `/`, so `root` names the root, and a PATCH without a path changes it.
    """

    tag = "directories"
    path_parameters = {
        "path": text(
            "A directory below the root; `root` in a path is the root.",
            pattern=requests.PATH_PATTERN,
            example="root",
        )
    }

    @operation({200: AmplifiedDirectoriesSerializer}, operation_id="list_amplified_directories")
    def list(self, request: Request) -> Response:
        """List amplified directories

        All that the caller may read, in order of their paths.
        """
        rows = [
            serialize_directory(item, AmplifiedDirectorySerializer, profile)
            for item, profile in directories.list_readable(get_caller(request).sees)
        ]
        answer = AmplifiedDirectoriesSerializer.serialize(directories=rows, total=len(rows))
        return Response(answer)

    @operation(
        {201: AmplifiedDirectoryDetailSerializer},
        operation_id="amplify_directory",
        request=requests.AmplifyDirectory,
        errors=[404],
        links={"path": "$response.body#/relative_path"},
    )
    def create(self, request: Request) -> Response:
        """Amplify a directory

        Creates the directory if it is missing. It has the owner and the shares of the nearest one
        above it; an admin may name another `owner`. 400 for one that is already amplified, an
        absolute path, `..`, or a link that leaves the root; 404 where the caller may not be.
        """
        values = validate(requests.AmplifyDirectory, request.data)
        path, sees = values.pop("relative_path"), get_caller(request).sees
        directory = directories.amplify(path, **values, sees=sees)
        return self.answer(request, directory, status.HTTP_201_CREATED)

    @operation({200: AmplifiedDirectoryDetailSerializer}, operation_id="get_amplified_directory")
    def retrieve(self, request: Request, path: str) -> Response:
        """Show an amplified directory

        One directory in full; `root` is the root directory.
        """
        directory = directories.find_directory(resolve_path(path), get_caller(request).sees)
        return self.answer(request, directory)

    @operation(
        {200: AmplifiedDirectoryDetailSerializer},
        operation_id="update_amplified_directory",
        request=requests.ChangeDirectory,
    )
    def partial_update(self, request: Request, path: str = ROOT) -> Response:
        """Change an amplified directory

        Sets its default profile, merges into its metadata and its `shares`. Its owner shares it;
        only an admin gives it another `owner`.
        """
        changes = validate(requests.ChangeDirectory, request.data)
        directory = directories.change(resolve_path(path), changes, get_caller(request).sees)
        return self.answer(request, directory)

    @operation(
        {200: AmplifiedDirectoryDetailSerializer},
        operation_id="update_root_directory",
        request=requests.ChangeDirectory,
        errors=[404],
    )
    def update_root(self, request: Request) -> Response:
        """Change the root directory

        The same as with the path `root`, because browsers turn `/.` into this URL.
        """
        return self.partial_update(request)

    @operation(
        {204: None},
        operation_id="release_amplified_directory",
        query=requests.RemoveDirectory,
        errors=[409],
    )
    def destroy(self, request: Request, path: str) -> Response:
        """Deregister an amplified directory

        The directory and its files stay; with `remove_marker` its marker is removed. 409 for the
        root.
        """
        validate(Nothing, request.data)
        query = parse_query(requests.RemoveDirectory, request.query_params)
        directories.deregister(resolve_path(path), **query, sees=get_caller(request).sees)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @operation(
        {200: AgentsWrittenSerializer},
        operation_id="write_agents_content",
        request=requests.AgentsContent,
    )
    def agents(self, request: Request, path: str) -> Response:
        """Write a directory's AGENTS.md

        Replaces the directory's instructions for agents.
        """
        content = validate(requests.AgentsContent, request.data)["content"]
        place = resolve_path(path.removesuffix("/agents"))
        directories.write_agents_content(place, content, get_caller(request).sees)
        message = "AGENTS.md updated successfully"
        return Response(AgentsWrittenSerializer.serialize(success=True, message=message))

    def answer(
        self, request: Request, directory: AmplifiedDirectory, code: int = status.HTTP_200_OK
    ) -> Response:
        agents = directories.read_agents_content(directory, get_caller(request).sees)
        answer = serialize_directory(
            directory, AmplifiedDirectoryDetailSerializer, agents_content=agents
        )
        return Response(answer, code)


class DirectoryViewSet(viewsets.ViewSet):
    """The directories below the root, amplified or not."""

    tag = "directories"

    @operation(
        {200: DirectoryListSerializer},
        operation_id="browse_directories",
        query=requests.BrowseDirectories,
        errors=[404],
    )
    def list(self, request: Request) -> Response:
        """Browse directories

        The directories in a directory below the root, amplified or not, in order of their names.
        """
        query = parse_query(requests.BrowseDirectories, request.query_params)
        found = directory_browser.list_directories(query["path"], get_caller(request).sees)
        return Response(DirectoryListSerializer.serialize(found))

    @operation(
        {200: FileListSerializer},
        operation_id="list_files",
        query=requests.BrowseDirectories,
        errors=[404],
    )
    def files(self, request: Request) -> Response:
        """List files

        The files and directories in a directory below the root, in order of their names; hidden
        ones are left out. Needs the scope `write`, as everything that reads files.
        """
        query = parse_query(requests.BrowseDirectories, request.query_params)
        found = directory_browser.list_entries(query["path"], get_caller(request).sees)
        return Response(FileListSerializer.serialize(found))

    @operation(
        {200: FileContentSerializer},
        operation_id="read_file",
        query=requests.ReadFile,
        errors=[404],
    )
    def content(self, request: Request) -> Response:
        """Read a file

        The text of a file below the root, at most its first MiB.
        """
        query = parse_query(requests.ReadFile, request.query_params)
        found = directory_browser.read_content(query["path"], get_caller(request).sees)
        return Response(FileContentSerializer.serialize(found))

    @operation(
        {200: text("The bytes.", format="binary")},
        operation_id="download_file",
        query=requests.ReadFile,
        errors=[404],
        media_type="application/octet-stream",
    )
    def download(self, request: Request) -> FileResponse:
        """Download a file

        The bytes of a file below the root, as an attachment.
        """
        # As an attachment, so that no browser shows the file as a page of the daemon.
        query = parse_query(requests.ReadFile, request.query_params)
        found = directory_browser.open_download(query["path"], get_caller(request).sees)
        file, name, media_type = found
        return FileResponse(
            file,
            as_attachment=True,
            filename=name,
            content_type=media_type,
            headers={"X-Content-Type-Options": "nosniff"},
        )

    @operation(
        {201: DirectoryCreatedSerializer},
        operation_id="create_directory",
        request=requests.CreateDirectory,
    )
    def create(self, request: Request) -> Response:
        """Create a directory

        Creates a directory below the root, with its parents.
        """
        values = validate(requests.CreateDirectory, request.data)
        sees = get_caller(request).sees
        path = directory_browser.create_directory(values["relative_path"], sees)
        answer = DirectoryCreatedSerializer.serialize(
            created_path=path, absolute_path=str(directories.absolute_path(path))
        )
        return Response(answer, status.HTTP_201_CREATED)


def resolve_path(path: str) -> str:
    return ROOT if path == directories.ROOT_NAME else path
