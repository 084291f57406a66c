"""The API's description, made from each view's docstring, serializers and `@operation`."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import uritemplate
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import extend_schema
from rest_framework.viewsets import ViewSetMixin

from amplifierd.common.openapi.components import (
    COMPONENTS,
    ERRORS,
    HEADERS,
    IDEMPOTENCY_KEY,
    RESPONSES,
    SECURITY,
    TAGS,
    header,
)
from amplifierd.common.openapi.schema import Schema, example_of, list_of, ref
from amplifierd.common.pagination import PageQuery
from amplifierd.common.serializers import OutputSerializer

Endpoint = tuple[str, str, str, Any]
# The body of an answer: a serializer, a list of one, or a schema.
Answer = type[OutputSerializer] | list[type[OutputSerializer]] | Schema
PREFIX = "/api/v1"
# The key under which an operation's `Operation` is kept until the document is complete.
OWN = "x-amplifierd"
# Statuses of errors: of all requests, of methods with a body, of POST.
ALWAYS = (400, 401, 403, 406, 503)
WITH_BODY = (413, 415)
OF_POST = (409, 422)
EVENT_STREAM = "text/event-stream"
DONE = {200: "Done.", 201: "Created.", 202: "Accepted.", 204: "Done; the answer has no body."}
# A directory's path may end in `/agents`; only PUT means its instructions.
AGENTS = ".+/agents"


@dataclass(frozen=True)
class Operation:
    """What is described about an operation beside what `extend_schema` knows."""

    answers: dict[int, Answer | None]
    # Statuses of further errors, beside those that follow from the method and the path.
    errors: Sequence[int] = ()
    # Names of headers of the answer, beside those that every answer may have.
    headers: Sequence[str] = ()
    # Path parameters that the answer has a value for: name → runtime expression of the value.
    links: dict[str, str] | None = None
    media_type: str = "application/json"


def operation(
    answers: dict[int, Answer | None],
    *,
    query: Any = None,
    request: Any = None,
    parameters: Sequence[Any] = (),
    errors: Sequence[int] = (),
    headers: Sequence[str] = (),
    links: dict[str, str] | None = None,
    media_type: str = "application/json",
    **options: Any,
) -> Callable[[Any], Any]:
    """Describe an operation: `extend_schema`, with errors, headers and links.

    `answers` has the serializer of each status, `request` that of the body, `query` that of the
    parameters. The docstring of the view is the summary and, after an empty line, the description.
    The `tag` of the viewset is the operation's, unless `tags` are given.
    """
    if query and issubclass(query, PageQuery):
        headers = ("Link", "X-Total-Count", *headers)
    own = Operation(answers, errors, headers, links, media_type)
    return extend_schema(
        request=request,
        parameters=[*([query] if query else []), *parameters],
        extensions={OWN: own},
        **options,
    )


@cache
def document() -> str:
    """Return the description of the API as JSON, the same text for the same code."""
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


class Description(AutoSchema):
    """Describes one operation; the methods are hooks of drf-spectacular."""

    # One of our views, which have a tag and serializers with examples.
    view: Any

    @property
    def own(self) -> Operation:
        return self.get_extensions()[OWN]

    def is_excluded(self) -> bool:
        return not self.path.startswith(f"{PREFIX}/")

    def get_summary(self) -> str:
        return super().get_description().partition("\n")[0].rstrip(".")

    # REST framework's own has arguments, those of drf-spectacular none.
    def get_description(self) -> str:  # type: ignore[override]
        summary, _, rest = super().get_description().partition("\n\n")
        return " ".join(rest.split()) or summary

    def get_tags(self) -> list[str]:
        return [self.view.tag]

    def get_auth(self) -> list[dict[str, Any]]:
        return [{"apiKey": []}, {}]

    def get_response_serializers(self) -> None:
        """Return nothing: answers are described by `@operation`."""

    def _get_parameters(self) -> list[dict[str, Any]]:
        described = getattr(self.view, "path_parameters", {})
        in_path = path_parameters(self.path, described)
        return [*in_path, *(describe_query(item) for item in super()._get_parameters())] + (
            [IDEMPOTENCY_KEY] if self.method == "POST" else []
        )

    def _resolve_path_parameters(self, variables: list[str]) -> list[dict[str, Any]]:
        return []

    def _get_pagination_parameters(self) -> list[dict[str, Any]]:
        return []

    def _get_request_body(self, direction: str = "request") -> dict[str, Any] | None:
        body = super()._get_request_body(direction)
        if body:
            serializer: Any = self.get_request_serializer()
            body["content"]["application/json"]["example"] = serializer.example
        return body

    def _get_response_bodies(self, direction: str = "response") -> dict[str, Any]:
        headers = getattr(self.view, "answer_headers", ())
        return describe_responses(self.own, self.method, self.path, headers)


def path_parameters(path: str, described: dict[str, Schema]) -> list[dict[str, Any]]:
    """Return the parameters of a path; each must be described."""
    found = []
    for name in uritemplate.variables(path):
        schema = dict(described[name])
        description = schema.pop("description")
        parameter = {"name": name, "in": "path", "required": True, "description": description}
        found.append({**parameter, "schema": schema})
    return found


def describe_query(parameter: dict[str, Any]) -> dict[str, Any]:
    """Return the parameter; in a query, an empty value counts as absent."""
    is_optional = parameter["in"] == "query" and not parameter.get("required")
    return {**parameter, "allowEmptyValue": True} if is_optional else parameter


def describe_responses(
    own: Operation, method: str, path: str, more_headers: Sequence[str] = ()
) -> dict[str, Any]:
    statuses = {*ALWAYS, *own.errors}
    statuses |= {404} if "{" in path else set()
    statuses |= set(WITH_BODY) if method != "GET" else set()
    statuses |= set(OF_POST) if method == "POST" else set()
    headers = [*own.headers, *more_headers, *(["Idempotent-Replayed"] if method == "POST" else [])]
    answers: dict[str, Any] = {}
    for status, answer in own.answers.items():
        described: dict[str, Any] = {"description": DONE[status]}
        if headers:
            described["headers"] = {name: header(name) for name in headers}
        if answer is not None:
            described["content"] = {own.media_type: describe_content(answer, own.media_type)}
        answers[str(status)] = described
    errors = {
        str(status): {"$ref": f"#/components/responses/{ERRORS[status][0]}"}
        for status in sorted(statuses)
    }
    return answers | errors


def describe_content(answer: Answer, media_type: str) -> dict[str, Any]:
    if isinstance(answer, list):
        schema = list_of(ref(answer[0]))
    else:
        schema = answer if isinstance(answer, dict) else ref(answer)
    example = example_of(schema, components())
    if media_type == EVENT_STREAM:
        # As in OpenAPI 3.2. Generated clients take the whole stream for a text.
        whole = {"description": "Server-sent events."}
        return {"schema": whole, "example": example, "itemSchema": schema}
    return {"schema": schema, "example": example}


def components() -> dict[str, Schema]:
    found = {kind.__name__: kind.schema() for kind in OutputSerializer.subclasses()}
    return COMPONENTS | {name.removesuffix("Serializer"): each for name, each in found.items()}


def select_paths(endpoints: list[Endpoint]) -> list[Endpoint]:
    found = []
    for path, regex, method, view in endpoints:
        bare = path.rstrip("/")
        # Lists have a slash at the end, all other paths none.
        is_list = bare.removeprefix(f"{PREFIX}/").count("/") == 0
        if is_list and issubclass(view.cls, ViewSetMixin):
            bare = f"{bare}/"
        if AGENTS not in regex:
            found.append((bare, regex, method, view))
        elif method == "PUT":
            found.append((f"{bare}/agents", regex, method, view))
    return found


# Operations that are served outside Django, so that no view describes them: path → operation.
STREAMS: dict[str, dict[str, Any]] = {}


def describe_stream(
    path: str,
    answers: dict[int, Answer | None],
    *,
    path_schemas: dict[str, Schema],
    parameters: Sequence[dict[str, Any]] = (),
    errors: Sequence[int] = (),
    headers: Sequence[str] = (),
    **texts: str,
) -> None:
    own = Operation(answers, errors, headers, media_type=EVENT_STREAM)
    in_query = [describe_query(parameter) for parameter in parameters]
    STREAMS[path] = {
        **texts,
        "tags": ["streams"],
        "parameters": [*path_parameters(path, path_schemas), *in_query],
        "security": [{"apiKey": []}, {}],
        OWN: own,
    }


def complete(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Return the document with streams, components, links and tags beside the views' operations."""
    paths = result["paths"]
    for path, stream in STREAMS.items():
        responses = describe_responses(stream[OWN], "GET", path)
        paths.setdefault(f"{PREFIX}{path}", {})["get"] = {**stream, "responses": responses}
    bodies = result["components"].setdefault("schemas", {})
    for body in bodies.values():
        body["additionalProperties"] = False
        for schema in body["properties"].values():
            # A generator of types such as openapi-typescript takes a property with a `default` to
            # be always there, and requires callers to send it. So words name the default.
            if "default" in schema:
                default = f"By default {json.dumps(schema.pop('default'))}."
                schema["description"] = f"{schema.get('description', '')} {default}".strip()
    result["components"] = {
        "schemas": dict(sorted((bodies | components()).items())),
        "responses": RESPONSES,
        "headers": HEADERS,
        "securitySchemes": SECURITY,
    }
    result["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
    _add_links(paths)
    result["paths"] = dict(sorted(paths.items()))
    return _drop_key(result, "x-spec-enum-id")


def _add_links(paths: dict[str, dict[str, Any]]) -> None:
    """Link each answer that has an id to the operations that take it."""
    described = [(path, each) for path, methods in paths.items() for each in methods.values()]
    takers = {
        each["operationId"]: set(uritemplate.variables(path))
        for path, each in described
        if path.removeprefix(PREFIX) not in STREAMS
    }
    for _, each in described:
        own: Operation = each.pop(OWN)
        if own.links is None:
            continue
        links = {
            taker: {
                "operationId": taker,
                "parameters": {name: own.links[name] for name in sorted(variables)},
            }
            for taker, variables in takers.items()
            if variables and variables <= own.links.keys()
        }
        # If there are several answers, the one with the ids has the highest status: 202.
        each["responses"][str(max(own.answers))]["links"] = links


def _drop_key(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {name: _drop_key(item, key) for name, item in value.items() if name != key}
    return [_drop_key(item, key) for item in value] if isinstance(value, list) else value
