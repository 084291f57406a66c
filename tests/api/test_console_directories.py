"""Directories in the console: a tree with the profile that counts and the sessions of each."""

import re
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from profiles_app.admin.directories import build_tree
from profiles_app.models import AmplifiedDirectory
from sessions_app.models import Session

LIST = "/admin/profiles_app/amplifieddirectory/"


@pytest.fixture
def admin(admin_client: Client, catalogue: None) -> Client:
    """A superuser in the console."""
    return admin_client


def add(*paths: str, profile: str = "") -> None:
    for path in paths:
        AmplifiedDirectory.objects.create(relative_path=path, default_profile=profile)


def text(client: Client, **query: str) -> str:
    response = client.get(LIST, query)
    assert response.status_code == 200
    return response.content.decode()


def test_each_lies_below_the_nearest_amplified_one() -> None:
    profiles = {".": "base", "a": "", "a/b/c": "", "a-b": "other", "a/b/c/d": "own", "z": ""}
    nodes = build_tree(profiles, profiles)
    assert [(node.label, node.depth) for node in nodes] == [
        (".", 0),
        ("a", 1),
        ("b/c", 2),
        ("d", 3),
        ("a-b", 1),
        ("z", 1),
    ]
    assert [node.ends for node in nodes] == [0, 0, 0, 2, 0, 1]
    assert [(node.profile, node.given_by) for node in nodes][2:5] == [
        ("base", "."),
        ("own", "a/b/c/d"),
        ("other", "a-b"),
    ]


def test_a_list_that_is_open_is_closed_again(admin: Client) -> None:
    add("a", "a/b", "a/b/c", "d")
    page = text(admin)
    for tag in ("ul", "li", "details"):
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>")


def test_a_deep_tree_is_shown(admin: Client) -> None:
    add(*("/".join("x" * depth) for depth in range(1, 400)))
    assert text(admin).count('class="tree-name"') == 400


def test_a_profile_is_its_own_or_inherited_from_a_named_directory(admin: Client) -> None:
    add("work", profile="foundation/production")
    add("work/notes")
    page = text(admin)
    assert re.search(r"foundation/production</bdi> <span class=\"quiet\">its own", page)
    assert re.search(r"from <bdi>work</bdi>", page)


def test_it_shows_whose_a_directory_is_and_whether_it_is_shared(admin: Client) -> None:
    AmplifiedDirectory.objects.create(
        relative_path="team", owner="carol", shares={"bob": "read", "*": "write"}
    )
    page = text(admin)
    assert page.count("owner <bdi>carol</bdi>") == page.count("shared with 2") == 1


def test_its_sessions_are_counted_and_linked(
    admin: Client,
    make: Callable[..., Session],
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    add("a b&c")
    wanted = make("active", amplified_dir="a b&c")
    make("active"), make("active")
    with django_assert_max_num_queries(6):
        page = text(admin)
    assert ">2 sessions</a>" in page
    [url] = re.findall(r'href="([^"]+)">1 session</a>', page)
    shown = admin.get(url.replace("&amp;", "&")).content.decode()
    assert re.findall(r'<tr data-id="(\w+)"', shown) == [wanted.id]


def test_a_search_keeps_the_way_to_what_it_finds(admin: Client) -> None:
    add("work", "work/Notes", "other")
    page = text(admin, q="notes")
    assert re.findall(r"<bdi>(Root|work|Notes|other)</bdi></a>", page) == ["Root", "work", "Notes"]
    assert "No directory has" in text(admin, q="<nothing>")


def test_letting_one_go_keeps_the_root(admin: Client) -> None:
    add("a")
    gone, root = (AmplifiedDirectory.objects.get(relative_path=path) for path in ("a", "."))
    admin.post(f"{LIST}{gone.pk}/delete/", {"post": "yes"})
    assert admin.post(f"{LIST}{root.pk}/delete/", {"post": "yes"}).status_code == 403
    assert list(AmplifiedDirectory.objects.all()) == [root]


def test_who_may_not_look_sees_nothing(client: Client, catalogue: None) -> None:
    client.force_login(User.objects.create_user("nobody", is_staff=True))
    assert client.get(LIST).status_code == 403


def test_owner_and_shares_are_changed_with_a_check(admin: Client) -> None:
    add("app")
    row = AmplifiedDirectory.objects.get(relative_path="app")
    url, form = f"{LIST}{row.pk}/change/", {"default_profile": "", "metadata": "{}"}
    wrong = admin.post(url, form | {"owner": "alice", "shares": '{"bob": "all"}'})
    assert "is `read`, `write`, or null for nothing" in wrong.content.decode()
    right = form | {"owner": "alice", "shares": '{"bob": "read", "*": null}'}
    assert admin.post(url, right).status_code == 302
    row.refresh_from_db()
    assert (row.owner, row.shares) == ("alice", {"bob": "read"})
    assert admin.post(url, form | {"owner": "", "shares": ""}).status_code == 302
    row.refresh_from_db()
    assert (row.owner, row.shares) == (None, {})
