"""Collections over REST."""

from collections import defaultdict

from rest_framework import status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.bodies import Nothing, checked
from amplifierd.common.pagination import ProfilePagination
from profiles_app.api.serializers.collection_requests import (
    AddCollection,
    MountCollection,
    SyncCollections,
)
from profiles_app.api.serializers.collections import (
    collection_detail,
    collection_json,
    mounted,
    synced_json,
)
from profiles_app.models import Collection, Profile
from profiles_app.services import collections, collections_sync


class CollectionPagination(ProfilePagination):
    """Pages of collections, newest first."""

    ordering = ("-created_at", "name")


class CollectionViewSet(viewsets.GenericViewSet[Collection]):
    """Collections, by their name."""

    queryset = Collection.objects.order_by(*CollectionPagination.ordering)
    pagination_class = CollectionPagination

    def list(self, request: Request) -> Response:
        """Answer with a page of collections."""
        page = self.paginate_queryset(self.get_queryset())
        names = defaultdict(list)
        of_page = Profile.objects.filter(collection__in=[item.name for item in page])
        for collection, name in of_page.values_list("collection", "name"):
            names[collection].append(name)
        return self.get_paginated_response(
            [collection_json(item, names[item.name]) for item in page]
        )

    def create(self, request: Request) -> Response:
        """Add a collection with all that its source holds."""
        values = checked(AddCollection, request.data)
        return _added(values["identifier"], values["source"])

    def mount(self, request: Request, name: str) -> Response:
        """Add a collection, as older clients name it in the path."""
        return _added(name, checked(MountCollection, request.data)["source"])

    def retrieve(self, request: Request, name: str) -> Response:
        """Answer with one collection and all that it holds."""
        return Response(_detail(collections.find(name)))

    def destroy(self, request: Request, name: str) -> Response:
        """Remove a collection with its profiles."""
        checked(Nothing, request.data)
        collections.remove(name)
        return Response({"success": True})

    def sync(self, request: Request) -> Response:
        """Read the sources of collections anew."""
        names = checked(SyncCollections, request.data)["collections"]
        return Response(synced_json(collections_sync.sync_all(names)))


def _added(name: str, source: str) -> Response:
    collection, loaded = collections.add(name, source)
    answer = _detail(collection) | mounted(collection, loaded)
    return Response(answer, status.HTTP_201_CREATED)


def _detail(collection: Collection) -> dict[str, object]:
    return collection_detail(collection, list(Profile.objects.filter(collection=collection.name)))
