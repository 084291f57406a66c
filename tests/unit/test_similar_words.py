"""Which known word an unknown one probably means."""

import pytest

from amplifierd.common.text import find_similar, suggest

KNOWN = ("status", "profile_name", "limit", "cursor", "path", "q", "wait", "id_prefix")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("statsu", "status"),
        ("Status", "status"),
        ("profile_nam", "profile_name"),
        ("profil_nme", "profile_name"),
        ("profilename", "profile_name"),
        ("ProfileName", "profile_name"),
        ("profile-name", "profile_name"),
        ("limt", "limit"),
        ("limits", "limit"),
        ("curosr", "cursor"),
        ("paht", "path"),
        ("Q", "q"),
    ],
)
def test_a_misspelt_word_is_found(word: str, meant: str) -> None:
    assert find_similar(word, KNOWN) == meant


@pytest.mark.parametrize(
    "word", ["", "_", "page", "part", "watt", "state", "size", "a", "prefix", "profile", "x" * 9999]
)
def test_another_word_is_no_misspelt_one(word: str) -> None:
    assert find_similar(word, KNOWN) is None
    assert suggest(word, KNOWN) == ""


def test_the_nearest_of_several_is_meant() -> None:
    known = ["provider-google", "provider-openai", "provider-opentai"]
    assert suggest("provider-opnai", known) == " Did you mean provider-openai?"
