"""Imports follow the layers: each folder lists what it may not import."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Folder or file → what nothing in it imports.
FORBIDDEN = {
    "profiles_app": ["sessions_app", "amplifierd"],
    "sessions_app": ["amplifierd"],
    "sessions_app/models": [
        "sessions_app.console",
        "sessions_app.invariants",
        "sessions_app.services",
        "sessions_app.streaming",
        "sessions_app.execution",
        "sessions_app.engine",
        "sessions_app.serializers",
    ],
    "sessions_app/states.py": ["sessions_app"],
    "sessions_app/search.py": ["sessions_app"],
    "sessions_app/openapi": ["sessions_app.viewsets", "sessions_app.streaming"],
    "sessions_app/services": [
        "sessions_app.openapi",
        "sessions_app.console",
        "sessions_app.invariants",
        "sessions_app.streaming",
        "sessions_app.execution",
        "sessions_app.engine",
        "sessions_app.serializers",
        "sessions_app.viewsets",
        "rest_framework",
    ],
    "sessions_app/streaming": [
        "sessions_app.console",
        "sessions_app.invariants",
        "sessions_app.services",
        "sessions_app.execution",
        "sessions_app.engine",
        "sessions_app.viewsets",
    ],
    "sessions_app/execution": [
        "sessions_app.console",
        "sessions_app.streaming",
        "sessions_app.viewsets",
        "rest_framework",
    ],
    "sessions_app/invariants": ["sessions_app.services", "sessions_app.console"],
    "sessions_app/engine": [
        "django.db",
        "sessions_app.models",
        "sessions_app.services",
        "sessions_app.streaming",
        "sessions_app.execution",
    ],
    "sessions_app/viewsets": ["sessions_app.execution", "sessions_app.engine"],
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("place", FORBIDDEN)
def test_no_layer_imports_one_above_it(place: str) -> None:
    where = ROOT / place
    files = [where] if where.is_file() else list(where.rglob("*.py"))
    assert files
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports(path)
        for forbidden in FORBIDDEN[place]
        if name == forbidden or name.startswith(f"{forbidden}.")
    ]
    assert found == []
