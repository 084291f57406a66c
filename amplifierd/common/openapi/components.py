"""The parts of the API's description that all answers share: errors, headers, authentication."""

from typing import Any

from rest_framework.metadata import BaseMetadata
from rest_framework.request import Request

from amplifierd.common.openapi.schema import (
    Schema,
    choice,
    list_of,
    nullable,
    record,
    ref,
    text,
    whole,
)

# The groups of operations, in the order of the documentation.
TAGS = {
    "sessions": "The life of a session.",
    "execution": "Messages that are executed, and their runs.",
    "approvals": "Calls of tools that wait for a person.",
    "streams": "What happens, as it happens.",
    "history": "Transcript, journal and read marks.",
    "copies": "Sessions made of others, and with other profiles.",
    "upkeep": "Old sessions.",
    "profiles": "What sessions are created from, and its versions.",
    "directories": "Where sessions work.",
    "mount plans": "What a session runs with.",
    "collections": "Where profiles come from.",
    "modules": "What profiles name.",
    "cache": "The catalogue against its sources.",
    "daemon": "The daemon itself.",
}
# Status → the name of the response, its codes, and what it means.
ERRORS = {
    400: ("Invalid", "invalid parse_error header_not_allowed", "Malformed or refused."),
    401: ("NotAuthenticated", "not_authenticated", "No or bad credentials."),
    403: ("NotAllowed", "permission_denied origin_not_allowed", "Not allowed."),
    404: ("NotFound", "not_found", "Unknown, or not the caller's to see."),
    406: ("NotAcceptable", "not_acceptable", "Only application/json is answered."),
    409: (
        "Conflict",
        "invalid_transition in_progress run_in_progress conflict append_only too_large"
        " already_answered",
        "The state of things does not allow it.",
    ),
    410: (
        "JournalReset",
        "journal_reset",
        "The database was set back since then: reload the session.",
    ),
    413: ("TooLarge", "too_large", "The body is too large."),
    415: ("UnsupportedMediaType", "unsupported_media_type", "Only application/json is read."),
    422: (
        "IdempotencyMismatch",
        "idempotency_mismatch",
        "The Idempotency-Key came with another request before.",
    ),
    429: ("TooMany", "too_many", "Too many streams, or runs that wait."),
    503: ("Unavailable", "unavailable", "The database is away, or too much is asked."),
}
# Further members of the problem details.
_MORE: dict[int, dict[str, Schema]] = {
    400: {"errors": list_of(ref("FieldError"), "One for each field that is refused.")},
    409: {
        "from": text("Where the session stands."),
        "to": text("Where it was to go."),
        "allowed": list_of(text(), "Where it can go from here."),
    },
    410: {
        "epoch": text("That of the journals now."),
        "lastEventId": whole("Where the journal of the session ends now."),
    },
}
_DETAILS = {
    400: "name: Ensure this field has no more than 200 characters.",
    409: "A session that is created cannot become completed; it can become active.",
}


class Methods(BaseMetadata):
    """The answer to OPTIONS: the methods of a URL, and where the rest is described."""

    def determine_metadata(self, request: Request, view: Any) -> dict[str, Any]:
        return {"methods": view.allowed_methods, "description": "/api/v1/openapi.json"}


def _problem(status: int) -> Schema:
    _name, words, meaning = ERRORS[status]
    codes = words.split()
    more = _MORE.get(status, {})
    properties = {
        "type": text(),
        "title": text(),
        "status": {"type": "integer", "const": status},
        "detail": text("A sentence that a person can act on."),
        "code": choice(*codes) if len(codes) == 1 else text(f"One of {', '.join(codes)}."),
        **more,
    }
    example = {
        "type": "about:blank",
        "title": meaning.rstrip("."),
        "status": status,
        "detail": _DETAILS.get(status, meaning),
        "code": codes[0],
    }
    return record(
        f"{meaning} Problem details (RFC 9457).",
        properties,
        optional=" ".join(more),
        example=example,
    )


COMPONENTS: dict[str, Schema] = {
    "FieldError": record(
        "Why one field is refused.",
        {"field": nullable(text("null: the whole body.")), "code": text(), "detail": text()},
    ),
    **{f"{name}Problem": _problem(status) for status, (name, _, _) in ERRORS.items()},
}
_COUNT = text(pattern="^[0-9]+$")
_HEADERS = {
    "Link": ('URL of the next page: `<…>; rel="next"`; not there on the last one.', text()),
    "X-Total-Count": ("How many there are in all.", _COUNT),
    "X-Search-Incomplete": ("`true` where not all could be searched.", choice("true")),
    "Idempotent-Replayed": (
        "`true` where this is the first answer to the key, once more.",
        choice("true"),
    ),
    "Journal-Epoch": (
        "The epoch of the journals: send it beside a cursor, and you are told if the database was"
        " set back.",
        text(),
    ),
    "Retry-After": ("Seconds to wait before asking again.", _COUNT),
}
HEADERS = {
    name: {"description": meaning, "schema": schema} for name, (meaning, schema) in _HEADERS.items()
}


def header(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}


# The errors, each a response that operations refer to.
RESPONSES: dict[str, Any] = {
    name: {
        "description": meaning,
        "content": {"application/problem+json": {"schema": ref(f"{name}Problem")}},
    }
    | ({"headers": {"Retry-After": header("Retry-After")}} if status in (429, 503) else {})
    for status, (name, _, meaning) in ERRORS.items()
}


IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "1 to 255 visible ASCII characters. The same key and body gives the first"
    " answer again; another body with it is refused.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": "^[!-~]([ -~]{0,253}[!-~])?$",
    },
}
SECURITY = {
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "amp_…",
        "description": "An API key. On loopback none is needed, unless AMPLIFIERD_REQUIRE_KEYS.",
    }
}
