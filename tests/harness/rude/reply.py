"""What the server does for a request, and how a service words its refusals."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tests.harness.rude.request import Request
from tests.harness.rude.wire import WIRES, Answer


class End(Enum):
    """How a reply ends that does not end as HTTP has it."""

    # The connection is closed before the body is whole.
    CLOSE = "close"
    # The connection is reset.
    RESET = "reset"
    # Nothing more comes until the caller has gone.
    HANG = "hang"


@dataclass
class Reply:
    """A reply: bytes are sent, a number is a pause of so many seconds."""

    frames: list[bytes | float | End]
    status: int = 200
    kind: str = "text/event-stream; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    # Whether the body is as long as the connection lasts, as before HTTP/1.1.
    until_closed: bool = False


# Returns a reply, or None where it has nothing to object and nothing to say.
Behaviour = Callable[[Request], Reply | None]


def stream(request: Request, answer: Answer) -> Reply:
    """Return the answer as the protocol of the request has it."""
    return Reply([*WIRES[request.protocol](model_of(request)).whole(answer)])


def model_of(request: Request) -> str:
    """Return the model that is asked."""
    if request.protocol == "gemini":
        return request.path.partition("/models/")[2].partition(":")[0]
    return str(request.body.get("model"))


def refuse(
    request: Request, status: int, message: str, code: str | None = None, **headers: str
) -> Reply:
    """Return a refusal in the form of the protocol; `code` is what programs tell it by."""
    if request.protocol == "messages":
        kinds = {401: "authentication_error", 404: "not_found_error", 413: "request_too_large"}
        kinds |= {429: "rate_limit_error", 500: "api_error", 529: "overloaded_error"}
        error = {"type": kinds.get(status, "invalid_request_error"), "message": message}
        return send_json(
            {"type": "error", "error": error, "request_id": "req_1"}, status, **headers
        )
    if request.protocol == "gemini":
        names = {401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}
        name = names.get(status, "INVALID_ARGUMENT")
        return send_json(
            {"error": {"code": status, "message": message, "status": name}}, status, **headers
        )
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": None, "code": code}
    return send_json({"error": error}, status, **headers)


def send_json(body: Any, status: int = 200, **headers: str) -> Reply:
    return send_text(json.dumps(body), "application/json", status, **headers)


def send_text(text: str, kind: str, status: int = 200, **headers: str) -> Reply:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply([text.encode()], status, kind, given)
