"""What an operator limits, and what whoever goes beyond it is told."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from amplifierd.common.program import BASE_DIR
from tests.conftest import Api

SMALL = {
    "AMPLIFIERD_PAGE_SIZE": "2",
    "AMPLIFIERD_NAME_LENGTH": "5",
    "AMPLIFIERD_METADATA_BYTES": "40",
    "AMPLIFIERD_METADATA_DEPTH": "2",
}
# What a process with other settings says of some bodies and queries.
ASK = """
import json, os, django
os.environ["DJANGO_SETTINGS_MODULE"] = "amplifierd.settings"
django.setup()
from sessions_app.api import queries, serializers
def said(kind, data):
    checked = kind(data=data)
    return [] if checked.is_valid() else sorted(
        str(error) for errors in checked.errors.values() for error in errors
    )
body = serializers.CreateSession
print(json.dumps({
    "name": said(body, {"name": "123456"}),
    "fitting": said(body, {"name": "12345", "metadata": {"a": {"b": 1}}}),
    "bytes": said(body, {"metadata": {"a": "x" * 40}}),
    "depth": said(body, {"metadata": {"a": {"b": {}}}}),
    "page": said(queries.SessionsQuery, {"limit": 3}),
    "default": queries.PAGE,
}))
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a daemon with small limits says."""
    home = {"AMPLIFIERD_HOME": str(tmp_path_factory.mktemp("home")), "DATABASE_URL": ""}
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=BASE_DIR,
        env=os.environ | SMALL | home,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("name", "no more than 5 characters"),
        ("bytes", "at most 40 bytes"),
        ("depth", "at most 2 levels"),
        ("page", "less than or equal to 2"),
    ],
)
def test_a_limit_is_said_to_whoever_goes_beyond_it(
    small: dict[str, Any], what: str, says: str
) -> None:
    [said] = small[what]
    assert says in said


def test_what_fits_is_taken(small: dict[str, Any]) -> None:
    assert small["fitting"] == []
    assert small["default"] == 2


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("post", "/sessions/", {"name": "x" * 201}, "name"),
        ("post", "/sessions/", {"metadata": {"a": "x" * 65_536}}, "metadata"),
        ("get", "/sessions/?limit=1001", None, "limit"),
    ],
)
def test_the_limits_that_are_set_count(
    api: Api, method: str, path: str, body: Any, field: str
) -> None:
    refused = api(method, path, body)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid")
    assert refused.json()["errors"][0]["field"] == field
