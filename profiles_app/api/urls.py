"""The catalogue's URLs, below `/api/v1/`."""

from typing import Any

from django.urls import URLPattern, re_path
from rest_framework.viewsets import ViewSet

from profiles_app.api.collections import CacheViewSet, CollectionViewSet, ModuleViewSet
from profiles_app.api.directories import AmplifiedDirectoryViewSet, DirectoryViewSet
from profiles_app.api.profiles import MountPlanViewSet, ProfileViewSet


def route(pattern: str, viewset: type[ViewSet], **actions: Any) -> URLPattern:
    """Return a URL, with and without its trailing slash; `actions` has those of each method."""
    return re_path(rf"^{pattern}/?$", viewset.as_view(actions))


# `collection/name`, or the name alone.
PROFILE = r"profiles/(?P<name>[^/]+(?:/[^/]+)?)"
DIRECTORY: dict[str, Any] = {"get": "retrieve", "patch": "partial_update", "delete": "destroy"}
COLLECTION = r"collections/(?P<collection>[^/]+)"
PROFILE_OF_COLLECTION = r"profiles/(?P<collection>[^/]+)/(?P<name>[^/]+)"

urlpatterns = [
    route("profiles", ProfileViewSet, get="list", post="create"),
    route("profiles/active", ProfileViewSet, get="active", delete="deactivate"),
    route(f"{PROFILE}/activate", ProfileViewSet, post="activate"),
    route(f"{PROFILE}/copy", ProfileViewSet, post="copy"),
    route(f"{PROFILE}/compile", ProfileViewSet, post="compile"),
    route(f"{PROFILE}/versions", ProfileViewSet, get="versions"),
    route(rf"{PROFILE}/versions/(?P<number>[0-9]{{1,9}})", ProfileViewSet, get="version"),
    route(f"{PROFILE}/diff", ProfileViewSet, get="diff"),
    route(PROFILE, ProfileViewSet, get="retrieve", patch="partial_update", delete="destroy"),
    route(
        "amplified-directories",
        AmplifiedDirectoryViewSet,
        get="list",
        post="create",
        patch="update_root",
    ),
    # PUT is for the directory's instructions; else it is a directory of that name.
    route(
        r"amplified-directories/(?P<path>.+/agents)",
        AmplifiedDirectoryViewSet,
        **DIRECTORY,
        put="agents",
    ),
    route(r"amplified-directories/(?P<path>.+?)", AmplifiedDirectoryViewSet, **DIRECTORY),
    route("directories/list", DirectoryViewSet, get="list"),
    route("directories/files", DirectoryViewSet, get="files"),
    route("directories/file/content", DirectoryViewSet, get="content"),
    route("directories/file/download", DirectoryViewSet, get="download"),
    route("directories/create", DirectoryViewSet, post="create"),
    route("mount-plans/generate", MountPlanViewSet, post="create"),
    route("collections", CollectionViewSet, get="list", post="create"),
    route("collections/sync", CollectionViewSet, post="sync"),
    route(r"collections/(?P<name>[^/]+)", CollectionViewSet, get="retrieve", delete="destroy"),
    route(r"collections/(?P<name>[^/]+)/mount", CollectionViewSet, post="mount"),
    route("modules", ModuleViewSet, get="list"),
    route("modules/providers", ModuleViewSet, get="providers"),
    route("modules/tools", ModuleViewSet, get="tools"),
    route("modules/hooks", ModuleViewSet, get="hooks"),
    route("modules/orchestrators", ModuleViewSet, get="orchestrators"),
    route(r"modules/(?P<id>.+?)", ModuleViewSet, get="retrieve"),
    route("cache/status", CacheViewSet, get="status"),
    route(f"cache/status/{COLLECTION}", CacheViewSet, get="collection_status"),
    route(f"cache/status/{PROFILE_OF_COLLECTION}", CacheViewSet, get="profile_status"),
    route("cache/update", CacheViewSet, post="update"),
    route(f"cache/update/{COLLECTION}", CacheViewSet, post="update_collection"),
    route(f"cache/update/{PROFILE_OF_COLLECTION}", CacheViewSet, post="update_profile"),
]
