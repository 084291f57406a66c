"""Collections in the admin console."""

from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from profiles_app.models import Collection, Profile
from profiles_app.services import collections
from tests.harness.repositories import profile, write

LIST = "/admin/profiles_app/collection/"


@pytest.fixture
def folder(catalogue: None, tmp_path: Path) -> Path:
    """The source of the collection `mine`."""
    folder = write(tmp_path / "mine", {"profiles/one.md": profile("one")})
    collections.add("mine", str(folder))
    return folder


def sync(client: Client) -> str:
    """Run the action on `mine` and return the page that follows."""
    chosen = {"action": "sync", "_selected_action": [Collection.objects.get(name="mine").pk]}
    return client.post(LIST, chosen, follow=True).content.decode()


def test_collections_are_listed_with_their_source(admin_client: Client, folder: Path) -> None:
    page = admin_client.get(LIST).content.decode()
    assert str(folder) in page
    assert "foundation" in page


def test_a_collection_is_read_only(admin_client: Client, folder: Path) -> None:
    url = f"{LIST}{Collection.objects.get(name='mine').pk}"
    assert admin_client.get(f"{url}/change/").status_code == 200
    assert admin_client.post(f"{url}/change/", {"name": "other"}).status_code == 403
    assert admin_client.post(f"{url}/delete/", {"post": "yes"}).status_code == 403
    assert admin_client.get(f"{LIST}add/").status_code == 403


def test_the_action_syncs_and_tells_what_came_of_it(admin_client: Client, folder: Path) -> None:
    write(folder, {"profiles/two.md": profile("two")})
    assert "Collection mine: synced, 1 added, 0 updated, 0 removed." in sync(admin_client)
    assert Profile.objects.filter(collection="mine").count() == 2


def test_a_failure_is_told(admin_client: Client, folder: Path) -> None:
    write(folder, {"profiles/<b>.md": "x"})
    page = sync(admin_client)
    assert "profiles/&lt;b&gt;.md, line 1" in page


def test_who_may_only_look_cannot_sync(client: Client, folder: Path) -> None:
    user = User.objects.create_user("reader", password="x", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_collection"))
    client.force_login(user)
    write(folder, {"profiles/two.md": profile("two")})
    sync(client)
    assert Profile.objects.filter(collection="mine").count() == 1
