"""Arbitrary JSON in the bodies of profiles: taken unchanged or refused, and never a failure."""

from typing import Any

import pytest
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiles_app.models import Profile

pytestmark = pytest.mark.django_db

BASE = "/api/v1/profiles"
TEXT = st.text(max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | TEXT
JSON = st.recursive(
    SCALARS, lambda parts: st.lists(parts, max_size=3) | st.dictionaries(TEXT, parts, max_size=3)
)
MODULE = st.fixed_dictionaries(
    {"module": st.sampled_from(["provider-mock", "tool-a", "a/b"]) | TEXT},
    optional={"source": TEXT | st.none(), "config": st.dictionaries(TEXT, JSON, max_size=3) | JSON},
)
BODY = st.fixed_dictionaries(
    {},
    optional={
        "version": TEXT | JSON,
        "description": TEXT | JSON,
        "instruction": TEXT | JSON,
        **dict.fromkeys(("providers", "tools", "hooks"), st.lists(MODULE, max_size=2) | JSON),
        **dict.fromkeys(("orchestrator", "context"), MODULE | JSON),
        **dict.fromkeys(("agents", "contexts"), st.dictionaries(TEXT, TEXT, max_size=2) | JSON),
        "expected_version": JSON,
        "name": JSON,
    },
)
slowly = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@slowly
@given(body=BODY)
def test_what_is_taken_is_kept_and_everything_else_is_refused(client: Client, body: Any) -> None:
    Profile.objects.filter(name="mine").delete()
    first = client.post(f"{BASE}/", {**body, "name": "mine"}, content_type="application/json")
    assert first.status_code in (201, 400)
    if first.status_code == 400:
        client.post(f"{BASE}/", {"name": "mine"}, content_type="application/json")
    answer = client.patch(f"{BASE}/mine", body, content_type="application/json")
    assert answer.status_code in (200, 400, 409)
    for key in ("version", "description", "instruction"):
        if answer.status_code == 200 and key in body:
            assert answer.json()[key] == body[key]
    for path in ("mine", "mine/versions/1", "mine/diff"):
        assert client.get(f"{BASE}/{path}").status_code == 200
    compiled = client.post(f"{BASE}/mine/compile", content_type="application/json")
    assert compiled.status_code in (200, 400)


@slowly
@given(body=JSON, name=TEXT)
def test_no_body_and_no_name_makes_a_failure(client: Client, body: Any, name: str) -> None:
    answers = [
        client.post(f"{BASE}/", body, content_type="application/json"),
        client.post(f"{BASE}/", {"name": name}, content_type="application/json"),
        client.post(f"{BASE}/base/copy", body, content_type="application/json"),
        client.patch(f"{BASE}/base", body, content_type="application/json"),
        client.get(f"{BASE}/base/diff", {"from": name, "to": name}),
    ]
    assert all(answer.status_code < 500 for answer in answers)
