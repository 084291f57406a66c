"""`manage.py collections`: list, add, remove and sync collections."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from profiles_app.api.serializers import CollectionSerializer, serialize_sync
from profiles_app.exceptions import InvalidFiles, ProfilesError
from profiles_app.models import Collection
from profiles_app.services import collections, collections_sync
from profiles_app.services.collections_sync import FAILED, REFUSED

SOURCE = "/a/folder, or git+https://host/path@ref#subdirectory=a/b"


class Command(BaseCommand):
    help = "List, add, remove and sync collections of profiles. Nothing of them is executed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
        listing = actions.add_parser("list", help="List collections, newest first.")
        add = actions.add_parser("add", help="Add a collection with all contents of its source.")
        add.add_argument("name", metavar="NAME")
        add.add_argument("source", metavar="SOURCE", help=SOURCE)
        remove = actions.add_parser("remove", help="Remove a collection with its profiles.")
        remove.add_argument("name", metavar="NAME")
        sync = actions.add_parser("sync", help="Read the sources of collections again.")
        sync.add_argument("names", metavar="NAME", nargs="*", help="all if none is given")
        for action in (listing, sync):
            action.add_argument(
                "--json", action="store_true", dest="as_json", help="print what the API prints"
            )

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        try:
            if action == "list":
                self.list_collections(options["as_json"])
            elif action == "add":
                collection, loaded = collections.add(options["name"], options["source"])
                self.stdout.write(f"{collection}: added, with profiles: {len(loaded.created)}.")
            elif action == "remove":
                collections.remove(options["name"])
                self.stdout.write(f"{options['name']}: removed.")
            else:
                self.sync(options["names"], options["as_json"])
        except InvalidFiles as error:
            lines = [format_error(item) for item in error.extra["errors"]]
            raise CommandError("\n".join(["Nothing was changed.", *lines])) from None
        except ProfilesError as error:
            raise CommandError(str(error)) from None

    def list_collections(self, as_json: bool) -> None:
        listed = Collection.objects.with_profile_names()
        found = [CollectionSerializer.serialize(collection) for collection in listed]
        if as_json:
            self.print_json(found)
            return
        for item in found:
            version = (item["version"] or "-")[:12]
            count = f"profiles: {item['profilesCount']}"
            self.stdout.write("\t".join([item["id"], item["source"], version, count]))
            if item["lastError"]:
                self.stdout.write(f"\t{item['lastError']}")

    def sync(self, names: list[str], as_json: bool) -> None:
        results = collections_sync.sync_all(names or None)
        if as_json:
            self.print_json(serialize_sync(results))
        else:
            for result in results:
                loaded = result.loaded
                self.stdout.write(f"{result.collection}\t{result.status}")
                changes = (("+", loaded.created), ("~", loaded.updated), ("-", loaded.removed))
                for sign, changed in changes:
                    for name in changed:
                        self.stdout.write(f"\t{sign} {name}")
                for item in result.errors:
                    self.stdout.write(f"\t! {format_error(vars(item))}")
                if result.error and not result.errors:
                    self.stdout.write(f"\t! {result.error}")
        if any(result.status in (FAILED, REFUSED) for result in results):
            raise CommandError("Not every collection was synced.")

    def print_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, ensure_ascii=False, indent=2))


def format_error(item: dict[str, Any]) -> str:
    """Return an error in a file as compilers write it: file, line, reason."""
    line = "" if item["line"] is None else f":{item['line']}"
    return f"{item['file']}{line}: {item['detail']}"
