"""The API's description says all that there is, and is the one that is committed."""

import json
import re
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, resolve
from drf_spectacular.generators import EndpointEnumerator
from jsonschema import Draft202012Validator

from amplifierd.common.openapi.operation import document, select_paths
from amplifierd.common.serializers import camel
from sessions_app.events import Event, EventType
from sessions_app.streaming.consumer import urlpatterns as streams
from tests.conftest import Api

DESCRIBED: dict[str, Any] = json.loads(document())
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DESCRIBED["paths"].items()
    for method, operation in methods.items()
}
# Not part of what it describes.
BESIDE = {"/api/v1/openapi.json"}


def patterns(resolver: URLResolver, before: str = "") -> list[tuple[str, Any]]:
    """Return regular expression and view of every URL."""
    found = []
    for entry in resolver.url_patterns:
        regex = before + str(entry.pattern)
        found += patterns(entry, regex) if isinstance(entry, URLResolver) else [(regex, entry)]
    return found


def served() -> set[str]:
    """Return METHOD /path for all that is served below /api/v1."""
    endpoints = select_paths(
        EndpointEnumerator()._get_api_endpoints(get_resolver().url_patterns, "")
    )
    found = {f"{method} {path}" for path, _, method, _ in endpoints if path.startswith("/api/v1/")}
    for pattern in streams:
        path = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", pattern.pattern.regex.pattern)
        found.add(f"GET /{path.strip('^$').removesuffix('/?')}")
    return found


def test_the_committed_file_is_that_of_the_code() -> None:
    committed = settings.BASE_DIR / "docs" / "openapi.json"
    assert committed.read_text() == document(), "run `make openapi`"


def test_every_url_is_described_once_and_nothing_else() -> None:
    assert served() == set(OPERATIONS)


def test_every_view_below_the_api_can_be_described() -> None:
    plain = {
        regex
        for regex, entry in patterns(get_resolver())
        if regex.startswith(("api/v1/", "^api/v1/"))
        and isinstance(entry, URLPattern)
        and not hasattr(entry.callback, "cls")
    }
    assert {"/" + regex.strip("^$").replace("\\", "").removesuffix("/?") for regex in plain} == (
        BESIDE
    )


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_says_what_it_does_with_an_example_and_its_refusals(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["summary"]
    assert operation["description"]
    answers = operation["responses"]
    assert {"400", "401", "403", "503"} <= set(answers)
    assert ("404" in answers) >= ("{" in name)
    for status, answer in answers.items():
        for content in answer.get("content", {}).values():
            assert "example" in content, status
    if "requestBody" in operation:
        assert "example" in operation["requestBody"]["content"]["application/json"]
    if name.startswith("POST"):
        assert "Idempotency-Key" in [item["name"] for item in operation["parameters"]]


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_examples_fit(name: str) -> None:
    operation = OPERATIONS[name]
    contents = [operation.get("requestBody", {"content": {}})["content"]]
    contents += [answer.get("content", {}) for answer in operation["responses"].values()]
    for content in (body for each in contents for body in each.values()):
        check(content.get("itemSchema", content["schema"]), content["example"])


def check(schema: dict[str, Any], value: Any) -> None:
    """Raise unless the value fits the schema."""
    whole = {**schema, "components": DESCRIBED["components"]}
    Draft202012Validator(whole).validate(value)


def test_no_property_of_a_body_has_a_default_that_would_make_it_required_in_typed_clients() -> None:
    bodies = {
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for operation in OPERATIONS.values()
        if "requestBody" in operation
    }
    schemas = DESCRIBED["components"]["schemas"]
    properties = {
        (name, key): s for name in bodies for key, s in schemas[name]["properties"].items()
    }
    assert len(properties) > 40
    assert [place for place, schema in properties.items() if "default" in schema] == []
    assert "required" not in schemas["CreateSession"]
    assert 'By default "."' in properties["CreateSession", "amplified_dir"]["description"]


def test_every_group_of_operations_is_explained() -> None:
    used = {tag for operation in OPERATIONS.values() for tag in operation["tags"]}
    assert used == {tag["name"] for tag in DESCRIBED["tags"]}


def test_every_parameter_is_explained() -> None:
    silent = {
        (name, parameter["name"])
        for name, operation in OPERATIONS.items()
        for parameter in operation.get("parameters", [])
        if not parameter.get("description")
    }
    assert silent == set()


def test_every_event_of_the_journal_is_described() -> None:
    assert set(EventType.values) == set(Event.registry)
    event = DESCRIBED["components"]["schemas"]["Event"]
    assert set(event["discriminator"]["mapping"]) == set(Event.registry)


def test_a_name_in_snake_case_beside_one_in_camel_case_is_deprecated() -> None:
    both = [
        (component, name, schema)
        for component, each in DESCRIBED["components"]["schemas"].items()
        for name, schema in each.get("properties", {}).items()
        if camel(name) != name and camel(name) in each["properties"]
    ]
    assert {name for _, name, _ in both} >= {"session_id", "relative_path", "created_path"}
    assert [place[:2] for *place, schema in both if not schema.get("deprecated")] == []


def test_the_call_of_a_tool_is_deprecated_but_described() -> None:
    call = DESCRIBED["components"]["schemas"]["HookToolPreData"]
    names = {"tool_name", "tool_input", "tool_call_id", "tool_response", "is_error"}
    properties = call["properties"]["hook_data"]["properties"]
    assert {name for name, schema in properties.items() if schema.get("deprecated")} == names


def test_every_component_that_is_referred_to_is_there() -> None:
    places = set(re.findall(r'"#/([^"]+)"', document()))
    assert len(places) > 50
    for place in places:
        found: Any = DESCRIBED
        for part in place.split("/"):
            found = found[part]
        assert found, place


# A path of each answer that a session gives, and the component that it is exactly.
EXACT = {
    "/sessions/{id}": "Session",
    "/sessions/{id}/messages": "Messages",
    "/sessions/{id}/messages/last": "Message",
    "/sessions/{id}/mount-plan": "MountPlan",
    "/sessions/{id}/execution-trace": "ExecutionTrace",
    "/sessions/{id}/events?include_children=true": "TreeEvents",
    "/profiles/foundation/base": "ProfileDetail",
    "/profiles/foundation/base/versions/1": "ProfileVersionDetail",
    "/amplified-directories/": "AmplifiedDirectories",
    "/amplified-directories/root": "AmplifiedDirectoryDetail",
    "/directories/list": "DirectoryList",
    "/collections/foundation": "CollectionDetail",
    "/cache/status/collections/foundation": "CollectionCheck",
    "/modules/provider-mock": "ModuleDetail",
    "/status": "ServerStatus",
    "/health": "Health",
    "/sessions/none": "NotFoundProblem",
}


@pytest.mark.parametrize("path", EXACT)
def test_an_answer_is_exactly_what_is_described(api: Api, session: Any, path: str) -> None:
    api("post", f"/sessions/{session.id}/messages", {"content": "hello"})
    answer = api("get", path.format(id=session.id)).json()
    component = DESCRIBED["components"]["schemas"][EXACT[path]]
    check(component, answer)
    assert set(answer) == set(component["properties"])


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_the_description_is_only_read_and_says_so_as_a_problem(method: str) -> None:
    answer = getattr(Client(enforce_csrf_checks=True), method)("/api/v1/openapi.json")
    assert answer.status_code == 405
    assert answer["Content-Type"] == "application/problem+json"


def test_the_description_and_its_page_are_served(client: Client) -> None:
    assert client.get("/api/v1/openapi.json").json() == DESCRIBED
    for url in ("/docs", "/docs/"):
        page = client.get(url)
        assert page.status_code == 200
        assert "script-src 'self'" in page["Content-Security-Policy"]
        text = page.content.decode()
        assert re.findall(r"<script(?![^>]*src=)|<style|style=| on\w+=|https?://", text) == []


def test_the_files_of_the_page_are_ours(db: None, client: Client) -> None:
    page = client.get("/docs").content.decode()
    files = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert len(files) == 5
    for file in files:
        answer = client.get(file)
        answer.close()
        assert answer.status_code == 200, file
    assert resolve("/docs").view_name == "docs"
