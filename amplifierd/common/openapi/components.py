"""What all answers may have in common: refusals, headers, how to authenticate."""

from typing import Any

from amplifierd.common.openapi.operation import Operation
from amplifierd.common.openapi.schema import (
    Schema,
    choice,
    listed,
    nullable,
    number,
    record,
    ref,
    text,
    whole,
)

DAEMON = "daemon"
OPERATIONS = {
    "GET /status": Operation(
        "get_status", DAEMON, "Show the daemon", "Version and age.", {200: ref("ServerStatus")}
    ),
    "GET /health": Operation(
        "get_health", DAEMON, "Ask whether all is well", "503 if not.", {200: ref("Health")}
    ),
}
# The groups of operations, in the order in which somebody meets them.
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
    DAEMON: "The daemon itself.",
}
# Status → name of the response, the codes it comes with, what it means.
REFUSALS: dict[int, tuple[str, tuple[str, ...], str]] = {
    400: ("Invalid", ("invalid", "parse_error", "header_not_allowed"), "Malformed or refused."),
    401: ("NotAuthenticated", ("not_authenticated",), "No or bad credentials."),
    403: ("NotAllowed", ("permission_denied", "origin_not_allowed"), "Not allowed."),
    404: ("NotFound", ("not_found",), "Unknown, or not the caller's to see."),
    406: ("NotAcceptable", ("not_acceptable",), "Only application/json is answered."),
    409: (
        "Conflict",
        (
            "invalid_transition",
            "in_progress",
            "run_in_progress",
            "conflict",
            "append_only",
            "too_large",
            "already_answered",
        ),
        "The state of things does not allow it.",
    ),
    413: ("TooLarge", ("too_large",), "The body is too large."),
    415: ("UnsupportedMediaType", ("unsupported_media_type",), "Only application/json is read."),
    422: (
        "IdempotencyMismatch",
        ("idempotency_mismatch",),
        "The Idempotency-Key came with another request before.",
    ),
    429: ("TooMany", ("too_many",), "Too many streams, or runs that wait."),
    503: ("Unavailable", ("unavailable",), "The database is away, or too much is asked."),
}
# Further members of the problem.
_MORE: dict[int, dict[str, Schema]] = {
    400: {"errors": listed(ref("FieldError"), "One for each field that is refused.")},
    409: {
        "from": text("Where the session stands."),
        "to": text("Where it was to go."),
        "allowed": listed(text(), "Where it can go from here."),
    },
}
_DETAILS = {
    400: "name: Ensure this field has no more than 200 characters.",
    409: "A session that is created cannot become completed; it can become active.",
}


def _problem(status: int) -> Schema:
    _name, codes, meaning = REFUSALS[status]
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
    "ServerStatus": record(
        "The daemon.",
        {
            "status": choice("running"),
            "version": text(),
            "uptimeSeconds": number("Age of the process that answered."),
            "rootDir": text("The folder that amplified directories are relative to."),
        },
    ),
    "Health": record("All is well.", {"status": choice("healthy")}),
    "FieldError": record(
        "Why one field is refused.",
        {"field": nullable(text("null: the whole body.")), "code": text(), "detail": text()},
    ),
    **{f"{name}Problem": _problem(status) for status, (name, _, _) in REFUSALS.items()},
}
HEADERS: dict[str, dict[str, Any]] = {
    "Link": {
        "description": 'URL of the next page: `<…>; rel="next"`; not there on the last one.',
        "schema": text(),
    },
    "X-Total-Count": {
        "description": "How many there are in all.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "X-Search-Incomplete": {
        "description": "`true` where not all could be searched.",
        "schema": choice("true"),
    },
    "Idempotent-Replayed": {
        "description": "`true` where this is the first answer to the key, once more.",
        "schema": choice("true"),
    },
    "Retry-After": {
        "description": "Seconds to wait before asking again.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
}


def responses() -> dict[str, Any]:
    """Return the refusals, each a response that operations refer to."""
    return {name: _response(status) for status, (name, _, _) in REFUSALS.items()}


def _response(status: int) -> dict[str, Any]:
    name, _, meaning = REFUSALS[status]
    schema = ref(f"{name}Problem")
    response: dict[str, Any] = {
        "description": meaning,
        "content": {"application/problem+json": {"schema": schema}},
    }
    if status in (429, 503):
        response["headers"] = {"Retry-After": header("Retry-After")}
    return response


def header(name: str) -> dict[str, str]:
    """Return the reference to a header."""
    return {"$ref": f"#/components/headers/{name}"}


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
# What parameters mean, and what more is to be said of their values.
PARAMETERS: dict[str, Schema] = {
    "session_id": text("A session.", examples=["session_019c13a5d0f57d3e9a4cb6e07a1b2c3d"]),
    "run_id": text("A run.", examples=["run_019c13a5d0f57d3e9a4cb6e07a1b2c3d"]),
    "approval_id": text("An approval.", examples=["approval_019c13a5d0f57d3e9a4cb6e07a1b2c3d"]),
    "name": text(
        "A name. That of a profile may be `collection/name` (`%2F` in a path is a slash).",
        examples=["foundation%2Fbase"],
    ),
    "collection": text("A collection.", examples=["foundation"]),
    "number": whole("The number of a version.", maximum=999_999_999),
    "path": text(
        "A directory below the root; `root` in a path is the root.",
        pattern=r"^[^\\\x00-\x1f\x7f]+$",
        examples=["root"],
    ),
    "id": text("A module; it may have slashes.", examples=["provider-mock"]),
    "status": {"description": "Only those with this status."},
    "profile_name": {"description": "Only sessions with this profile."},
    "amplified_dir": {"description": "Only sessions in this directory."},
    "parent_session_id": {"description": "Only sub-sessions of this one."},
    "since": {"description": "Created at this time or later."},
    "until": {"description": "Created before this time."},
    "id_prefix": {"description": "Only those whose id begins with this."},
    "lookup": {"description": "An id, a name, the beginning of an id, or a part of either."},
    "q": {"description": "Words to be found in names and transcripts."},
    "limit": {"description": "At most so many."},
    "cursor": {"description": "From the `Link` of the page before."},
    "after": {"description": "Only what comes after this number."},
    "before": {"description": "Only what comes before this number."},
    "type": {"description": "Only those of this type."},
    "from": {"description": "The older version."},
    "to": {"description": "The newer version."},
    "remove_marker": {"description": "Whether the marker on disk goes, too."},
    "metadata.KEY": {
        "description": "Only sessions with this value under KEY of their metadata; KEY may be a"
        " path with dots. Can be given for several keys."
    },
    "wait": {
        "description": "Seconds to wait for the answer; more than 300 count as 300, and so does an"
        " empty value."
    },
    "include_children": {
        "description": "Also those of its sub-sessions: pages of another shape, by `offset`."
    },
    "offset": {"description": "With `include_children`: skip so many."},
    "session": {"description": "The session to follow.", "minLength": 1},
    "filter": {"description": "Names of events, or patterns such as `hook:*`, with commas."},
    "check_only": {"description": "Only tell what would be done."},
    "force": {"description": "Also where nothing has changed."},
}
