"""README.md and docs: their links lead somewhere, and what they list is what the code has."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.harness.snippets import BLOCK, PAGES, ROOT
from tests.unit.test_deploy import variables_read

LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# Names that a page has in code, whatever stands beside them.
VARIABLE = re.compile(r"`((?:AMPLIFIERD|DATABASE)_[A-Z_]+)`")
# Ours, but of the commands in the terminal, which do not read the settings.
OF_COMMANDS = {"AMPLIFIERD_URL", "AMPLIFIERD_KEY"}
on_each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: list[str] = []
    for heading in HEADING.findall(BLOCK.sub("", page.read_text())):
        words = LINK.sub("]", heading).lower()
        found.append(re.sub(r"[^\w\- ]", "", words).replace(" ", "-"))
    return {f"{each}-{found[:at].count(each)}".removesuffix("-0") for at, each in enumerate(found)}


@on_each_page
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for link in LINK.findall(BLOCK.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        if "://" in path or path.startswith("mailto:"):
            continue
        target = (page.parent / path).resolve() if path else page
        is_there = target.exists() and target.is_relative_to(ROOT)
        if not is_there or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES[2:], ids=lambda page: page.name)
def test_the_readme_leads_to_every_page(page: Path) -> None:
    assert f"](docs/{page.name})" in (ROOT / "README.md").read_text()


def settings_rows() -> list[str]:
    """Return the variables in the first column of the tables of docs/settings.md."""
    lines = (ROOT / "docs" / "settings.md").read_text().splitlines()
    first = [line.split("|")[1] for line in lines if line.startswith("| `")]
    return [name for cell in first for name in VARIABLE.findall(cell)]


def test_each_variable_that_the_settings_read_is_listed_once_and_no_other() -> None:
    read = {name for name in variables_read() if VARIABLE.fullmatch(f"`{name}`")}
    # The programs of PostgreSQL are looked for without the settings.
    assert sorted(settings_rows()) == sorted(read | {"AMPLIFIERD_PG_BIN"})


@on_each_page
def test_a_page_names_no_variable_that_does_not_exist(page: Path) -> None:
    assert set(VARIABLE.findall(page.read_text())) <= {*settings_rows(), *OF_COMMANDS}


@cache
def texts() -> str:
    """Return all texts of the code, one a line, with `…` for what is put into them."""
    found: list[str] = []
    for app in ("amplifierd", "profiles_app", "sessions_app"):
        for path in (ROOT / app).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = [p.value if isinstance(p, ast.Constant) else "…" for p in node.values]
                    found.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return "\n".join(" ".join(text.split()) for text in found)


def messages() -> list[str]:
    """Return the messages in docs/troubleshooting.md, which are in the first column as code."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    tables = page.partition("| it says |")[2].partition("## Something looks wrong")[0]
    return re.findall(r"^\| `([^`]+)`", tables, re.MULTILINE)


@pytest.mark.parametrize("message", messages())
def test_a_message_in_troubleshooting_is_one_that_the_code_has(message: str) -> None:
    assert re.search(re.escape(message.strip("… ")).replace("…", ".*?"), texts())


def test_troubleshooting_has_messages() -> None:
    assert len(messages()) > 30
