"""Imports follow the layers: each folder lists what it may not import."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ABOVE_SERVICES = [f"sessions_app.{name}" for name in ("api", "admin", "cli", "worker")]
# Folder or file → what nothing in it imports. The apps import `amplifierd.common` only.
FORBIDDEN = {
    "amplifierd/common": ["sessions_app", "profiles_app", "amplifierd"],
    "profiles_app": ["sessions_app", "amplifierd"],
    "sessions_app": ["amplifierd"],
    "sessions_app/states.py": ["sessions_app", "django"],
    "sessions_app/events.py": [
        "django",
        *ABOVE_SERVICES,
        "sessions_app.models",
        "sessions_app.services",
        "sessions_app.streaming",
        "sessions_app.engine",
    ],
    "sessions_app/models": [
        *ABOVE_SERVICES,
        "sessions_app.invariants",
        "sessions_app.services",
        "sessions_app.streaming",
        "sessions_app.engine",
    ],
    "sessions_app/services": [
        *ABOVE_SERVICES,
        "sessions_app.invariants",
        "sessions_app.streaming",
        "sessions_app.engine",
        "rest_framework",
    ],
    "sessions_app/streaming": [
        *ABOVE_SERVICES,
        "sessions_app.invariants",
        "sessions_app.services",
        "sessions_app.engine",
    ],
    "sessions_app/worker": [
        "sessions_app.api",
        "sessions_app.admin",
        "sessions_app.cli",
        "sessions_app.streaming",
        "rest_framework",
    ],
    "sessions_app/invariants": ["sessions_app.services", *ABOVE_SERVICES],
    "sessions_app/engine": [
        *ABOVE_SERVICES,
        "django.db",
        "sessions_app.models",
        "sessions_app.services",
        "sessions_app.streaming",
    ],
    "sessions_app/api": ["sessions_app.worker", "sessions_app.engine", "sessions_app.cli"],
}
ALLOWED = "amplifierd.common"


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("place", FORBIDDEN)
def test_no_layer_imports_one_above_it(place: str) -> None:
    where = ROOT / place
    files = [where] if where.is_file() else list(where.rglob("*.py"))
    assert files
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        if "migrations" not in path.parts
        for name in imports(path)
        for forbidden in FORBIDDEN[place]
        if is_within(name, forbidden) and not is_within(name, ALLOWED)
    ]
    assert found == []


@pytest.mark.parametrize("place", ["amplifierd", "profiles_app", "sessions_app"])
def test_nothing_imports_a_package_of_extras(place: str) -> None:
    packages = [path.parent.name for path in ROOT.glob("extras/*/*/__init__.py")]
    assert "amplifierd_amplifier" in packages
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / place).rglob("*.py")
        for name in imports(path)
        if any(is_within(name, package) for package in packages)
    ]
    assert found == []


# What `sessions_app/cli` imports besides the standard library: no Django, no database, no service.
CLI_IMPORTS = {
    "amplifierd.common.program",
    "amplifierd.common.redaction",
    "amplifierd.common.text",
    "httpx2",
    "markdown_it",
    "prompt_toolkit",
    "rich",
    "sessions_app.cli",
    "sessions_app.events",
    "sessions_app.states",
    "sessions_app.usage",
}


def test_the_terminal_is_a_client_and_nothing_else() -> None:
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / "sessions_app" / "cli").rglob("*.py")
        for name in imports(path)
        if name.partition(".")[0] not in sys.stdlib_module_names
        if not any(is_within(name, allowed) for allowed in CLI_IMPORTS)
    }
    assert found == set()


def test_the_terminal_starts_without_django() -> None:
    code = (
        "import sys; from sessions_app.cli import chat, main\n"
        "print([name for name in ('django', 'psycopg', 'rest_framework') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


# Where times are stored, or compared with stored ones.
TIMED = ("amplifierd/auth", "amplifierd/models.py", "profiles_app", "sessions_app/models")
TIMED += ("sessions_app/services", "sessions_app/worker")


@pytest.mark.parametrize("place", TIMED)
def test_stored_times_are_those_of_the_database(place: str) -> None:
    """`read_clock`, `Now` and `statement_timestamp` are: the clocks of machines differ."""
    where = ROOT / place
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in ([where] if where.is_file() else where.rglob("*.py"))
        if "migrations" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr)
        in {("timezone", "now"), ("datetime", "now"), ("datetime", "utcnow")}
    ]
    assert wrong == []
