"""Loading the shipped profiles: repeatable, whole, and safe when two do it at once."""

import time
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from profiles_app.exceptions import InvalidDefinition
from profiles_app.models import AmplifiedDirectory, Profile
from profiles_app.services.collections import Loaded, load_shipped
from profiles_app.services.profiles import CATALOGUE

SHIPPED = {
    "developer-expertise/dev",
    "developer-expertise/full",
    "foundation/base",
    "foundation/default",
    "foundation/foundation",
    "foundation/production",
    "foundation/test",
}


def write(folder: Path, name: str, body: str = "Help.") -> None:
    path = folder / f"{name}.md"
    path.parent.mkdir(exist_ok=True)
    front = f'schema_version: 2\nprofile: {{name: {path.stem}, version: "1", description: A.}}'
    path.write_text(f"---\n{front}\n---\n{body}\n")


@pytest.mark.usefixtures("no_catalogue")
def test_all_shipped_profiles_are_loaded() -> None:
    assert set(load_shipped().created) == SHIPPED
    assert {str(profile) for profile in Profile.objects.filter(source="shipped")} == SHIPPED


@pytest.mark.usefixtures("no_catalogue")
def test_only_the_test_profile_is_a_mock() -> None:
    load_shipped()
    modules = {
        str(profile): [entry["module"] for entry in profile.definition["providers"]]
        for profile in Profile.objects.all()
    }
    assert modules.pop("foundation/test") == ["provider-mock"]
    assert modules and all(providers[-1] == "provider-local" for providers in modules.values())


@pytest.mark.usefixtures("no_catalogue")
def test_a_second_load_changes_nothing() -> None:
    load_shipped()
    before = list(Profile.objects.values())
    assert load_shipped() == Loaded()
    assert list(Profile.objects.values()) == before


@pytest.mark.usefixtures("no_catalogue")
def test_the_root_directory_begins_with_the_base_profile() -> None:
    load_shipped()
    assert AmplifiedDirectory.objects.get().default_profile == "foundation/base"


@pytest.mark.usefixtures("no_catalogue")
def test_the_roots_profile_stays_as_it_was_chosen() -> None:
    load_shipped()
    AmplifiedDirectory.objects.update(default_profile="foundation/test")
    load_shipped()
    assert AmplifiedDirectory.objects.get().default_profile == "foundation/test"


@pytest.mark.usefixtures("no_catalogue")
def test_a_changed_file_updates_its_profile(tmp_path: Path) -> None:
    write(tmp_path, "c/one", "Help.")
    load_shipped(tmp_path)
    write(tmp_path, "c/one", "Help more.")
    assert load_shipped(tmp_path) == Loaded(updated=["c/one"])
    assert Profile.objects.get().instruction == "Help more."


@pytest.mark.usefixtures("no_catalogue")
def test_a_profile_whose_file_is_gone_is_removed_and_local_ones_stay(tmp_path: Path) -> None:
    write(tmp_path, "c/one")
    load_shipped(tmp_path)
    Profile.objects.create(collection="local", name="mine", version="1", source="local")
    (tmp_path / "c/one.md").unlink()
    assert load_shipped(tmp_path) == Loaded(removed=["c/one"])
    assert str(Profile.objects.get()) == "local/mine"


@pytest.mark.usefixtures("no_catalogue")
def test_one_wrong_file_leaves_everything_as_it_was(tmp_path: Path) -> None:
    write(tmp_path, "c/good")
    write(tmp_path, "c/wrong")
    (tmp_path / "c/wrong.md").write_text("---\nschema_version: 1\nprofile: {}\n---\n")
    with pytest.raises(InvalidDefinition, match=r"^c/wrong\.md: schema_version"):
        load_shipped(tmp_path)
    assert not Profile.objects.exists()


@pytest.mark.usefixtures("no_catalogue")
def test_a_file_is_named_like_its_profile(tmp_path: Path) -> None:
    write(tmp_path, "c/one")
    (tmp_path / "c/one.md").rename(tmp_path / "c/two.md")
    with pytest.raises(InvalidDefinition, match=r"c/two\.md: profile\.name: must be 'two'"):
        load_shipped(tmp_path)


@pytest.mark.usefixtures("no_catalogue")
@pytest.mark.parametrize(("verbosity", "said"), [(0, ""), (1, "Profiles: 7 created, 0 updated,")])
def test_the_command_says_what_it_did_unless_it_is_to_be_quiet(verbosity: int, said: str) -> None:
    output = StringIO()
    call_command("load_profiles", verbosity=verbosity, stdout=output)
    assert output.getvalue().startswith(said)
    assert bool(output.getvalue()) == bool(said)


def load_elsewhere() -> Loaded:
    """Load on a connection of its own."""
    try:
        return load_shipped()
    finally:
        connection.close()


def someone_waits(deadline: float = 10.0) -> bool:
    """Tell whether a connection comes to wait for the lock before the deadline, in seconds."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s"
                " AND NOT granted",
                [CATALOGUE],
            )
            if cursor.fetchone() == (1,):
                return True
        time.sleep(0.01)
    return False


@pytest.mark.usefixtures("no_catalogue")
@pytest.mark.django_db(transaction=True)
def test_a_load_waits_for_the_one_before_it_and_finds_nothing_to_do() -> None:
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            assert len(load_shipped().created) == len(SHIPPED)
            second = pool.submit(load_elsewhere)
            assert someone_waits()
        assert second.result(timeout=10) == Loaded()
