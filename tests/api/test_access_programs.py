"""Who may have programs run: whoever keeps the profiles, which takes the scope admin."""

from typing import Any

import pytest

from profiles_app.services import profiles
from tests.api.callers import Caller
from tests.conftest import Api

pytestmark = pytest.mark.usefixtures("catalogue")

RUNNING = [
    {"tools": [{"module": "tool-bash"}]},
    {"tools": [{"module": "tool-mcp", "config": {"command": "npx"}}]},
]


@pytest.fixture(autouse=True)
def demanded(settings: Any) -> None:
    """A daemon that demands keys."""
    settings.REQUIRE_KEYS = True


@pytest.mark.parametrize("sections", RUNNING)
def test_profiles_that_run_programs_are_made_and_changed_with_the_scope_admin(
    api: Api, sections: dict[str, Any]
) -> None:
    writer, admin = Caller(api, "w"), Caller(api, "a", "admin")
    profiles.create("theirs")
    requests = [
        ("post", "/profiles/", {"name": "mine", **sections}),
        ("patch", "/profiles/local/theirs", sections),
    ]
    for method, path, body in requests:
        answer = writer(method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
        assert answer.json()["detail"] == "This needs the scope admin; what you sent has write."
        assert admin(method, path, body).status_code in (200, 201)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/profiles/local/theirs/copy", {"name": "mine"}),
        ("/profiles/local/theirs/activate", {}),
        ("/collections/", {"identifier": "mine", "source": "/tmp"}),
        ("/collections/sync", {}),
    ],
)
def test_no_other_way_to_a_profile_is_open_to_less(api: Api, path: str, body: Any) -> None:
    profiles.create("theirs", sections=RUNNING[0])
    assert Caller(api, "w")("post", path, body).status_code == 403


@pytest.mark.parametrize("scope", ["write", "admin"])
@pytest.mark.parametrize("sections", RUNNING)
def test_no_session_brings_programs_with_it(api: Api, scope: str, sections: dict[str, Any]) -> None:
    caller = Caller(api, "caller", scope)
    body = {"profile_name": "foundation/test", "amplified_dir": caller.directory}
    answer = caller("post", "/sessions/", body | {"settings_overrides": sections})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert "cannot add" in answer.json()["detail"]
