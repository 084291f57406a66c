"""The catalogue's URLs, below `/api/v1/`; each with and without its trailing slash."""

from typing import Any

from django.urls import re_path

from profiles_app.api.collections import CacheViewSet, CollectionViewSet, ModuleViewSet
from profiles_app.api.directories import AmplifiedDirectoryViewSet, DirectoryViewSet
from profiles_app.api.profiles import MountPlanViewSet, ProfileViewSet

# `collection/name`, or the name alone.
PROFILE = r"(?P<name>[^/]+(?:/[^/]+)?)"
DIRECTORY: dict[str, Any] = {"get": "retrieve", "patch": "partial_update", "delete": "destroy"}

urlpatterns = [
    re_path(r"^profiles/?$", ProfileViewSet.as_view({"get": "list", "post": "create"})),
    re_path(
        r"^profiles/active/?$", ProfileViewSet.as_view({"get": "active", "delete": "deactivate"})
    ),
    re_path(rf"^profiles/{PROFILE}/activate/?$", ProfileViewSet.as_view({"post": "activate"})),
    re_path(rf"^profiles/{PROFILE}/copy/?$", ProfileViewSet.as_view({"post": "copy"})),
    re_path(rf"^profiles/{PROFILE}/compile/?$", ProfileViewSet.as_view({"post": "compile"})),
    re_path(rf"^profiles/{PROFILE}/versions/?$", ProfileViewSet.as_view({"get": "versions"})),
    re_path(
        rf"^profiles/{PROFILE}/versions/(?P<number>[0-9]{{1,9}})/?$",
        ProfileViewSet.as_view({"get": "version"}),
    ),
    re_path(rf"^profiles/{PROFILE}/diff/?$", ProfileViewSet.as_view({"get": "diff"})),
    re_path(
        rf"^profiles/{PROFILE}/?$",
        ProfileViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    re_path(
        r"^amplified-directories/?$",
        AmplifiedDirectoryViewSet.as_view(
            {"get": "list", "post": "create", "patch": "update_root"}
        ),
    ),
    # PUT is for the directory's instructions; else it is a directory of that name.
    re_path(
        r"^amplified-directories/(?P<path>.+/agents)/?$",
        AmplifiedDirectoryViewSet.as_view({**DIRECTORY, "put": "agents"}),
    ),
    re_path(
        r"^amplified-directories/(?P<path>.+?)/?$", AmplifiedDirectoryViewSet.as_view(DIRECTORY)
    ),
    re_path(r"^directories/list/?$", DirectoryViewSet.as_view({"get": "list"})),
    re_path(r"^directories/files/?$", DirectoryViewSet.as_view({"get": "files"})),
    re_path(r"^directories/file/content/?$", DirectoryViewSet.as_view({"get": "content"})),
    re_path(r"^directories/file/download/?$", DirectoryViewSet.as_view({"get": "download"})),
    re_path(r"^directories/create/?$", DirectoryViewSet.as_view({"post": "create"})),
    re_path(r"^mount-plans/generate/?$", MountPlanViewSet.as_view({"post": "create"})),
    re_path(r"^collections/?$", CollectionViewSet.as_view({"get": "list", "post": "create"})),
    re_path(r"^collections/sync/?$", CollectionViewSet.as_view({"post": "sync"})),
    re_path(
        r"^collections/(?P<name>[^/]+)/?$",
        CollectionViewSet.as_view({"get": "retrieve", "delete": "destroy"}),
    ),
    re_path(r"^collections/(?P<name>[^/]+)/mount/?$", CollectionViewSet.as_view({"post": "mount"})),
    re_path(r"^modules/?$", ModuleViewSet.as_view({"get": "list"})),
    re_path(r"^modules/providers/?$", ModuleViewSet.as_view({"get": "providers"})),
    re_path(r"^modules/tools/?$", ModuleViewSet.as_view({"get": "tools"})),
    re_path(r"^modules/hooks/?$", ModuleViewSet.as_view({"get": "hooks"})),
    re_path(r"^modules/orchestrators/?$", ModuleViewSet.as_view({"get": "orchestrators"})),
    re_path(r"^modules/(?P<id>.+?)/?$", ModuleViewSet.as_view({"get": "retrieve"})),
    re_path(r"^cache/status/?$", CacheViewSet.as_view({"get": "status"})),
    re_path(
        r"^cache/status/collections/(?P<collection>[^/]+)/?$",
        CacheViewSet.as_view({"get": "collection_status"}),
    ),
    re_path(
        r"^cache/status/profiles/(?P<collection>[^/]+)/(?P<name>[^/]+)/?$",
        CacheViewSet.as_view({"get": "profile_status"}),
    ),
    re_path(r"^cache/update/?$", CacheViewSet.as_view({"post": "update"})),
    re_path(
        r"^cache/update/collections/(?P<collection>[^/]+)/?$",
        CacheViewSet.as_view({"post": "update_collection"}),
    ),
    re_path(
        r"^cache/update/profiles/(?P<collection>[^/]+)/(?P<name>[^/]+)/?$",
        CacheViewSet.as_view({"post": "update_profile"}),
    ),
]
