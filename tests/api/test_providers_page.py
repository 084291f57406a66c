"""docs/providers.md: every profile on it is one that can be saved, compiled and run."""

import re
from pathlib import Path
from typing import Any

import pytest

from profiles_app.profile_format import ProfileFile, parse_profile
from profiles_app.services.profile_validation import find_errors
from sessions_app.engine.registry import PROVIDERS, Provider, find_variables, provider_chain

PAGE = Path(__file__).parents[2] / "docs/providers.md"
SECTION = re.compile(
    r"^## (?P<title>.+?)\n(?P<words>.*?)```markdown\n(?P<text>.*?)```", re.M | re.S
)
SECTIONS = {found["title"]: found for found in SECTION.finditer(PAGE.read_text())}
on_the_page = pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS)


def profile(section: re.Match[str]) -> ProfileFile:
    return parse_profile(section["text"].encode())


def needed(section: re.Match[str]) -> set[str]:
    """The variables that the words above a profile name."""
    return set(re.findall(r"`([A-Z]+_[A-Z_]+)`", section["words"]))


def providers(section: re.Match[str]) -> list[dict[str, Any]]:
    return profile(section).definition["providers"]


def test_every_module_of_a_service_is_on_the_page() -> None:
    shown = {each["module"] for section in SECTIONS.values() for each in providers(section)}
    assert shown == set(PROVIDERS.classes) - {"provider-local", "provider-mock"}


@on_the_page
def test_the_words_name_all_variables_of_a_profile(section: re.Match[str]) -> None:
    assert needed(section) == find_variables(providers(section))


@on_the_page
@pytest.mark.usefixtures("catalogue")
def test_a_profile_compiles_with_the_variables_it_needs_and_its_provider_is_built(
    section: re.Match[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in needed(section):
        monkeypatch.setenv(name, "https://a.example" if "ENDPOINT" in name else "canary-012345")
    assert find_errors(profile(section).definition) == []
    for provider in provider_chain({"providers": providers(section)}):
        assert isinstance(provider, Provider)
        assert provider.service.startswith(provider.module)


@on_the_page
@pytest.mark.usefixtures("catalogue")
def test_without_them_it_says_which_are_missing(
    section: re.Match[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in needed(section):
        monkeypatch.delenv(name, raising=False)
    errors = find_errors(profile(section).definition)
    assert {error["code"] for error in errors} <= {"missing_key"}
    assert set(re.findall(r"variable (\w+),", str(errors))) == needed(section)
