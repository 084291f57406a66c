"""No text is a failure of the server: a name is kept as it was sent, or refused."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_django import Settings

from profiles_app.models import AmplifiedDirectory
from tests.conftest import Api

BASE = "/amplified-directories"
# More of what paths are made of than chance would give.
PARTS = st.sampled_from(["a", "b c", ".", "..", ".amplified", "root", "agents", "link", "out", "é"])
PATHS = st.one_of(
    st.text(max_size=40),
    st.lists(st.one_of(PARTS, st.text(max_size=8)), max_size=5).map("/".join),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
ANY = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(autouse=True)
def root(catalogue: None, tmp_path: Path, settings: Settings) -> Path:
    settings.ROOT_DIR = tmp_path / "root"
    settings.ROOT_DIR.mkdir()
    (settings.ROOT_DIR / "out").symlink_to(tmp_path)
    (settings.ROOT_DIR / "link").symlink_to("a")
    return settings.ROOT_DIR


@ANY
@given(path=PATHS, metadata=st.dictionaries(st.text(max_size=9), JSON, max_size=4))
def test_a_directory_is_kept_as_it_was_sent_or_refused(
    api: Api, path: str, metadata: dict[str, Any]
) -> None:
    AmplifiedDirectory.objects.exclude(relative_path=".").delete()
    body = {"relative_path": path, "metadata": metadata, "create_marker": False}
    answer = api("post", f"{BASE}/", body)
    assert answer.status_code in (201, 400, 404), answer.content
    if answer.status_code == 201:
        told = answer.json()
        profile = told["metadata"].pop("default_profile")
        assert profile == metadata.get("default_profile", "foundation/base")
        assert told["metadata"] == {k: v for k, v in metadata.items() if k != "default_profile"}
        url = quote(told["relativePath"])
        assert api("get", f"{BASE}/{url}").json()["relativePath"] == told["relativePath"]


@ANY
@given(path=PATHS)
def test_any_path_is_answered(api: Api, root: Path, path: str) -> None:
    url = quote(path, safe="")
    for method, where, body in (
        ("get", f"/directories/list?path={url}", None),
        ("post", "/directories/create", {"relative_path": path}),
        ("get", f"{BASE}/{url}", None),
        ("patch", f"{BASE}/{url}", {"metadata": {"a": 1}}),
        ("put", f"{BASE}/{url}/agents", {"content": path}),
        ("delete", f"{BASE}/{url}?remove_marker=true", None),
    ):
        answer = api(method, where, body)
        assert answer.status_code < 500, (method, where, answer.content)
    assert [found.name for found in root.parent.iterdir()] == ["root"]


@ANY
@given(overrides=st.dictionaries(st.text(max_size=9), JSON, max_size=3), module=JSON, config=JSON)
def test_any_overrides_are_planned_or_refused(
    api: Api, overrides: dict[str, Any], module: Any, config: Any
) -> None:
    entry = {"module": module, "config": config}
    for given_ in (overrides, overrides | {"providers": [entry]}, overrides | {"session": config}):
        body = {"profile_id": "foundation/base", "settings_overrides": given_}
        assert api("post", "/mount-plans/generate", body).status_code in (201, 400)
