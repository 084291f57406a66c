"""Which directory a path means, and which profile counts there."""

from pathlib import Path

import pytest
from pytest_django import Settings

from profiles_app.exceptions import DirectoryNotAmplified, InvalidPath
from profiles_app.models import AmplifiedDirectory
from profiles_app.services.directories import clean_path, find_default_profile, require_directory


@pytest.fixture(autouse=True)
def root(tmp_path: Path, settings: Settings) -> Path:
    settings.ROOT_DIR = tmp_path / "root"
    settings.ROOT_DIR.mkdir()
    return settings.ROOT_DIR


def amplify(path: str, profile: str = "") -> AmplifiedDirectory:
    return AmplifiedDirectory.objects.create(relative_path=path, default_profile=profile)


@pytest.mark.parametrize("path", [".", "./", "", "././"])
def test_the_root_has_several_spellings(path: str) -> None:
    assert clean_path(path) == "."


@pytest.mark.parametrize("path", ["a/b", "a/b/", "./a/b", "a//b", "a/./b"])
def test_a_path_is_brought_to_one_form(path: str) -> None:
    assert clean_path(path) == "a/b"


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/etc", "//etc", "..", "../a", "a/../b", "a/.."),
        *("a\\b", "C:\\", "a\0b", "a\nb", "\ud800", "a" * 1025),
    ],
)
def test_a_path_that_could_lead_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(InvalidPath):
        clean_path(path)


def test_a_link_out_of_the_root_is_refused(root: Path) -> None:
    (root / "out").symlink_to(root.parent)
    for path in ("out", "out/deeper"):
        with pytest.raises(InvalidPath, match="symbolic link"):
            clean_path(path)


def test_a_link_within_the_root_is_followed(root: Path) -> None:
    (root / "real").mkdir()
    (root / "link").symlink_to("real")
    assert clean_path("link/a") == "link/a"


def test_a_loop_of_links_is_no_failure(root: Path) -> None:
    (root / "loop").symlink_to("loop")
    assert clean_path("loop") == "loop"


def test_a_root_that_is_itself_a_link_is_followed(root: Path, settings: Settings) -> None:
    settings.ROOT_DIR = root.parent / "alias"
    settings.ROOT_DIR.symlink_to(root)
    assert clean_path("a") == "a"


@pytest.mark.usefixtures("no_catalogue")
def test_only_exactly_an_amplified_directory_is_found() -> None:
    amplify(".", "foundation/base")
    directory = amplify("a")
    assert require_directory("./a/") == directory
    for path in ("a/b", "b", "A"):
        with pytest.raises(DirectoryNotAmplified, match="is not amplified"):
            require_directory(path)


@pytest.mark.usefixtures("no_catalogue")
def test_a_missing_root_says_how_to_get_it() -> None:
    with pytest.raises(DirectoryNotAmplified, match="load_profiles"):
        require_directory(".")


@pytest.mark.usefixtures("no_catalogue")
def test_a_directorys_own_profile_counts() -> None:
    amplify(".", "foundation/base")
    assert find_default_profile(amplify("a", "foundation/test")) == "foundation/test"


@pytest.mark.usefixtures("no_catalogue")
def test_without_its_own_the_nearest_parents_profile_counts() -> None:
    amplify(".", "foundation/base")
    amplify("a", "foundation/test")
    assert find_default_profile(amplify("a/b/c")) == "foundation/test"
    assert find_default_profile(amplify("b/c")) == "foundation/base"
    assert find_default_profile(amplify("ab")) == "foundation/base"
