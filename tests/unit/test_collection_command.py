"""`manage.py collections`."""

import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from profiles_app.models import Collection, Profile
from tests.harness.repositories import profile, write

pytestmark = pytest.mark.usefixtures("catalogue")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "mine", {"profiles/one.md": profile("one")})


def run(*arguments: object) -> str:
    output = StringIO()
    call_command("collections", *map(str, arguments), stdout=output)
    return output.getvalue()


def test_a_collection_is_added_listed_and_removed(folder: Path) -> None:
    assert run("add", "mine", folder) == "mine: added, with profiles: 1.\n"
    [mine] = [line.split("\t") for line in run("list").splitlines() if line.startswith("mine")]
    assert (mine[1], mine[3]) == (str(folder), "profiles: 1")
    assert run("remove", "mine") == "mine: removed.\n"
    assert not Collection.objects.filter(name="mine").exists()


def test_a_sync_tells_what_changed(folder: Path) -> None:
    run("add", "mine", folder)
    write(folder, {"profiles/two.md": profile("two")})
    assert run("sync", "mine") == "mine\tsynced\n\t+ mine/two\n"


def test_all_are_synced_where_none_is_named(folder: Path) -> None:
    assert json.loads(run("sync", "--json"))["collections"] == {
        "developer-expertise": "unchanged",
        "foundation": "unchanged",
        "local": "unchanged",
    }


def test_refused_files_are_told_with_their_lines(folder: Path) -> None:
    write(folder, {"profiles/one.md": profile("one", "tools: [")})
    with pytest.raises(CommandError, match=r"Nothing was changed\.\nprofiles/one\.md:4: "):
        run("add", "mine", folder)


def test_a_sync_that_fails_ends_with_an_error_and_syncs_the_others(folder: Path) -> None:
    run("add", "mine", folder)
    run("add", "other", folder)
    write(folder, {"profiles/one.md": profile("one", body="More.")})
    Collection.objects.filter(name="mine").update(source="/nowhere")
    with pytest.raises(CommandError, match="Not every collection"):
        run("sync")
    assert Profile.objects.get(collection="other").instruction == "More."


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("add", "mine", "ext::sh -c id"), "A source has at most"),
        (("add", "Mine", "/tmp"), "The name of a collection"),
        (("remove", "foundation"), "stays"),
        (("remove", "nobody"), "There is no such collection"),
        (("sync", "nobody"), "There is no collection 'nobody'"),
    ],
)
def test_a_refusal_says_why(arguments: tuple[str, ...], reason: str) -> None:
    with pytest.raises(CommandError, match=reason):
        run(*arguments)
