"""Collections, modules, and the state of collections compared with their sources."""

from collections.abc import Callable
from typing import Any

from rest_framework import status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.openapi.operation import operation
from amplifierd.common.openapi.schema import text
from amplifierd.common.pagination import PageQuery, paginate
from amplifierd.common.serializers import Nothing, parse_query, validate
from profiles_app.api import requests
from profiles_app.api.serializers import (
    CacheStatusSerializer,
    CacheUpdateSerializer,
    CollectionAddedSerializer,
    CollectionCheckSerializer,
    CollectionDetailSerializer,
    CollectionSerializer,
    CollectionUpdateSerializer,
    ModuleDetailSerializer,
    ModuleInfoSerializer,
    ProfileCheckSerializer,
    ProfileUpdateSerializer,
    SuccessSerializer,
    SyncResultSerializer,
    serialize_checks,
    serialize_profile_check,
    serialize_profile_update,
    serialize_sync,
    serialize_updates,
)
from profiles_app.exceptions import ModuleNotFound, ProfileNotFound
from profiles_app.models import Collection
from profiles_app.services import collections, collections_sync
from profiles_app.services.known_modules import list_modules

NAME = text("A name.", example="foundation")


class CollectionViewSet(viewsets.ViewSet):
    """Collections, by name."""

    tag = "collections"
    path_parameters = {"name": NAME}

    @operation({200: [CollectionSerializer]}, operation_id="list_collections", query=PageQuery)
    def list(self, request: Request) -> Response:
        """List collections

        All collections, newest first.
        """
        query = parse_query(PageQuery, request.query_params)
        found = Collection.objects.with_profile_names()
        total = Collection.objects.count()
        return paginate(request, found, total, query, CollectionSerializer.serialize_all, str)

    @operation(
        {201: CollectionAddedSerializer},
        operation_id="add_collection",
        request=requests.AddCollection,
        links={"name": "$response.body#/id", "collection": "$response.body#/id"},
    )
    def create(self, request: Request) -> Response:
        """Add a collection

        Reads a folder (its absolute path) or a git repository
        (`git+https://…@ref#subdirectory=…`). Nothing of it is executed.
        """
        values = validate(requests.AddCollection, request.data)
        return self.add(values["identifier"], values["source"])

    @operation(
        {201: CollectionAddedSerializer},
        operation_id="mount_collection",
        request=requests.MountCollection,
    )
    def mount(self, request: Request, name: str) -> Response:
        """Add a collection by its path

        The same as adding it, as older clients write it.
        """
        return self.add(name, validate(requests.MountCollection, request.data)["source"])

    @operation({200: CollectionDetailSerializer}, operation_id="get_collection")
    def retrieve(self, request: Request, name: str) -> Response:
        """Show a collection

        A collection with all its contents.
        """
        return Response(CollectionDetailSerializer.serialize(collections.find(name)))

    @operation({200: SuccessSerializer}, operation_id="remove_collection", errors=[409])
    def destroy(self, request: Request, name: str) -> Response:
        """Remove a collection

        Removes it with its profiles. 403 for those that are shipped, 409 while in use.
        """
        validate(Nothing, request.data)
        collections.remove(name)
        return Response(SuccessSerializer.serialize(success=True))

    @operation(
        {200: SyncResultSerializer},
        operation_id="sync_collections",
        request=requests.SyncCollections,
        errors=[404],
    )
    def sync(self, request: Request) -> Response:
        """Sync collections

        Reads the sources of some collections, or of all, again.
        """
        names = validate(requests.SyncCollections, request.data)["collections"]
        return Response(serialize_sync(collections_sync.sync_all(names)))

    def add(self, name: str, source: str) -> Response:
        _, loaded = collections.add(name, source)
        count = len(loaded.created)
        answer = CollectionAddedSerializer.serialize(
            collections.find(name),
            status="mounted",
            message=f"Profiles of the collection {name}: {count}.",
            **dict.fromkeys(("profileCount", "profile_count", "profiles_discovered"), count),
        )
        return Response(answer, status.HTTP_201_CREATED)


def list_modules_of(kind: str) -> Callable[["ModuleViewSet", Request], Response]:
    def answer(view: "ModuleViewSet", request: Request) -> Response:
        return view.answer(kind)

    answer.__doc__ = f"List {kind}s\n\nThe modules that are {kind}s."
    describe = operation(
        {200: [ModuleInfoSerializer]}, operation_id=f"list_{kind}s", headers=["X-Total-Count"]
    )
    return describe(answer)


class ModuleViewSet(viewsets.ViewSet):
    """Modules by id, which may have slashes. Modules of collections are only listed."""

    tag = "modules"
    path_parameters = {"id": text("A module; it may have slashes.", example="provider-mock")}

    @operation(
        {200: [ModuleInfoSerializer]},
        operation_id="list_modules",
        query=requests.ModulesQuery,
        headers=["X-Total-Count"],
    )
    def list(self, request: Request) -> Response:
        """List modules

        The daemon's own first, then those of collections, which are only listed, never executed.
        """
        return self.answer(parse_query(requests.ModulesQuery, request.query_params).get("type"))

    providers = list_modules_of("provider")
    tools = list_modules_of("tool")
    hooks = list_modules_of("hook")
    orchestrators = list_modules_of("orchestrator")

    @operation({200: ModuleDetailSerializer}, operation_id="get_module")
    def retrieve(self, request: Request, id: str) -> Response:
        """Show a module

        One module; its id may have slashes.
        """
        for module in list_modules():
            if module["id"] == id:
                return Response(module | {"configSchema": None})
        raise ModuleNotFound

    def answer(self, kind: str | None) -> Response:
        found = [item for item in list_modules() if kind in (None, item["type"])]
        return Response(found, headers={"X-Total-Count": str(len(found))})


class CacheViewSet(viewsets.ViewSet):
    """Compares collections with their sources, and updates them."""

    tag = "cache"
    path_parameters = {"collection": text("A collection.", example="foundation"), "name": NAME}

    @operation({200: CacheStatusSerializer}, operation_id="get_cache_status")
    def status(self, request: Request) -> Response:
        """Compare all collections with their sources

        The state of all collections.
        """
        return Response(serialize_checks(collections_sync.check_all()))

    @operation({200: CollectionCheckSerializer}, operation_id="get_collection_status")
    def collection_status(self, request: Request, collection: str) -> Response:
        """Compare a collection with its source

        The state of one collection.
        """
        [check] = collections_sync.check_all([collection])
        return Response(CollectionCheckSerializer.serialize(check))

    @operation({200: ProfileCheckSerializer}, operation_id="get_profile_status")
    def profile_status(self, request: Request, collection: str, name: str) -> Response:
        """Compare a profile with its source

        The state of one profile.
        """
        [check] = collections_sync.check_all([collection])
        if f"{collection}/{name}" not in check.profiles:
            raise ProfileNotFound
        return Response(serialize_profile_check(check, f"{collection}/{name}"))

    @operation(
        {200: CacheUpdateSerializer},
        operation_id="update_cache",
        request=requests.UpdateCache,
        query=requests.UpdateCacheQuery,
    )
    def update(self, request: Request) -> Response:
        """Update all collections

        Syncs the stale ones; with `check_only` nothing is changed.
        """
        return Response(serialize_updates(collections_sync.update(**self.read_options(request))))

    @operation(
        {200: CollectionUpdateSerializer},
        operation_id="update_cached_collection",
        request=requests.UpdateCache,
        query=requests.UpdateCacheQuery,
    )
    def update_collection(self, request: Request, collection: str) -> Response:
        """Update a collection

        Syncs it if it is stale, or always with `force`.
        """
        [result] = collections_sync.update([collection], **self.read_options(request))
        return Response(CollectionUpdateSerializer.serialize(result))

    @operation(
        {200: ProfileUpdateSerializer},
        operation_id="update_cached_profile",
        request=requests.UpdateCache,
        query=requests.UpdateCacheQuery,
    )
    def update_profile(self, request: Request, collection: str, name: str) -> Response:
        """Update a profile

        Syncs its collection if that is stale, or always with `force`.
        """
        options = self.read_options(request)
        result, *outcome = collections_sync.update_profile(collection, name, **options)
        return Response(serialize_profile_update(result, f"{collection}/{name}", *outcome))

    def read_options(self, request: Request) -> dict[str, Any]:
        """Return the options; those in the body win over those in the query."""
        query = parse_query(requests.UpdateCacheQuery, request.query_params)
        return query | validate(requests.UpdateCache, request.data)
