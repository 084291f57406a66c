"""How drf-spectacular describes one operation: what the code tells, and what the apps say of it."""

from typing import Any

import uritemplate
from drf_spectacular.openapi import AutoSchema
from rest_framework.serializers import Serializer

from amplifierd.common.openapi.components import IDEMPOTENCY_KEY, PARAMETERS, REFUSALS, header
from amplifierd.common.openapi.operation import PAGED, Operation
from amplifierd.common.openapi.schema import Schema, example_of
from amplifierd.common.openapi.tables import COMPONENTS, OPERATIONS

PREFIX = "/api/v1"
# Refusals that any request may get, and those of methods that come with a body.
ALWAYS = (400, 401, 403, 406, 503)
WITH_BODY = (413, 415)
OF_POST = (409, 422)
EVENT_STREAM = "text/event-stream"
DONE = {200: "Done.", 201: "Made.", 202: "Accepted.", 204: "Done; there is nothing to tell."}
PAGE: list[dict[str, Any]] = [
    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000}},
    {"name": "cursor", "in": "query", "schema": {"type": "string"}},
]


class Description(AutoSchema):
    """Describes an operation by its entry in the apps' tables, found by method and path."""

    @property
    def told(self) -> Operation:
        """Return what is said of the operation; raise KeyError where nothing is."""
        return OPERATIONS[f"{self.method} {self.path.removeprefix(PREFIX)}"]

    def get_operation(self, *args: Any, **options: Any) -> dict[str, Any] | None:
        """Return the operation; None for what is no part of the API."""
        if not args[0].startswith(f"{PREFIX}/"):
            return None
        return super().get_operation(*args, **options)

    def get_operation_id(self) -> str:
        """Return the name for generated clients."""
        return self.told.id

    def get_summary(self) -> str:
        """Return what it does, in some words."""
        return self.told.summary

    def get_description(self) -> str:
        """Return what there is to know."""
        return self.told.description

    def get_tags(self) -> list[str]:
        """Return the one group that it belongs to."""
        return [self.told.tag]

    def get_auth(self) -> list[dict[str, Any]]:
        """Return that a key may be needed."""
        return [{"apiKey": []}, {}]

    def get_request_serializer(self) -> type[Serializer] | None:
        """Return what the body must be; None where there is none."""
        return self.told.body

    def get_response_serializers(self) -> None:
        """Return nothing: answers are described by components of our own."""

    def get_override_parameters(self) -> list[Any]:
        """Return the serializer of the query."""
        return [self.told.query] if self.told.query else []

    def _resolve_path_parameters(self, variables: list[str]) -> list[dict[str, Any]]:
        return []

    def _get_parameters(self) -> list[dict[str, Any]]:
        query = super()._get_parameters()
        if self.told.headers == PAGED and not self.told.query:
            query = PAGE
        words = [
            {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
            for name in self.told.words
        ]
        found = [*common(self.method, self.path), *query, *words]
        return [explained(item) for item in found]

    def _get_pagination_parameters(self) -> list[dict[str, Any]]:
        return []

    def _get_request_body(self, direction: str = "request") -> dict[str, Any] | None:
        body = super()._get_request_body(direction)
        if body and self.told.example is not None:
            body["content"]["application/json"]["example"] = self.told.example
        return body

    def _get_response_bodies(self, direction: str = "response") -> dict[str, Any]:
        return responses(self.told, self.method, self.path)


def common(method: str, path: str) -> list[dict[str, Any]]:
    """Return the parameters that follow from method and path."""
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in uritemplate.variables(path)
    ]
    return [*found, IDEMPOTENCY_KEY] if method == "POST" else found


def explained(parameter: dict[str, Any]) -> dict[str, Any]:
    """Return the parameter with what it means; an empty one counts as absent in a query."""
    known = dict(PARAMETERS.get(parameter["name"], {}))
    description = known.pop("description", parameter.get("description", ""))
    may_be_empty = parameter["in"] == "query" and not parameter.get("required")
    in_query = {"allowEmptyValue": True} if may_be_empty else {}
    return {
        **parameter,
        **in_query,
        **({"description": description} if description else {}),
        "schema": {**parameter["schema"], **known},
    }


def responses(told: Operation, method: str, path: str) -> dict[str, Any]:
    """Return the answers by their status, then the refusals."""
    statuses = {*ALWAYS, *told.errors}
    statuses |= {404} if "{" in path else set()
    statuses |= set(WITH_BODY) if method != "GET" else set()
    statuses |= set(OF_POST) if method == "POST" else set()
    headers = (*told.headers, "Idempotent-Replayed") if method == "POST" else told.headers
    answers = {
        str(status): _answer(status, schema, headers, told.media_type)
        for status, schema in told.answers.items()
    }
    refusals = {
        str(status): {"$ref": f"#/components/responses/{REFUSALS[status][0]}"}
        for status in sorted(statuses)
    }
    return answers | refusals


def _answer(
    status: int, schema: Schema | None, headers: tuple[str, ...], media_type: str
) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": DONE[status]}
    if headers:
        answer["headers"] = {name: header(name) for name in headers}
    if schema is not None:
        example = example_of(schema, COMPONENTS)
        content: dict[str, Any] = {"schema": schema, "example": example}
        if media_type == EVENT_STREAM:
            # As OpenAPI 3.2 has it: the whole of it is text to generated clients.
            content |= {"schema": {"description": "Server-sent events."}, "itemSchema": schema}
        answer["content"] = {media_type: content}
    return answer
