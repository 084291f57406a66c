"""Events and streams in the API's description: what `sessions_app.events` says, as OpenAPI has it.

The streams are served outside Django, by `streaming`.
"""

from collections.abc import Mapping
from typing import Any

from amplifierd.common.openapi.components import COMPONENTS
from amplifierd.common.openapi.operation import describe_stream
from amplifierd.common.openapi.schema import (
    Schema,
    choice,
    flag,
    free,
    list_of,
    record,
    ref,
    text,
    time,
    whole,
)
from sessions_app.api.queries import EPOCH
from sessions_app.api.viewsets import PATH_PARAMETERS
from sessions_app.events import NOW, RUN_ID, SESSION_ID, Event, Frame, Hint, Notice
from sessions_app.services.epoch import EPOCH_HEADER


def title(name: str) -> str:
    """Return the name of an event for a component: `hook:tool:pre` becomes HookToolPre."""
    return "".join(word.capitalize() for word in name.replace(":", "_").split("_"))


def _describe_data(frames: Mapping[str, type[Frame]], suffix: str) -> dict[str, Schema]:
    return {f"{title(name)}{suffix}": frame.schema() for name, frame in frames.items()}


# The component of each event of the journal, by its name.
EVENTS = {name: f"{title(name)}Event" for name in Event.registry}
COMPONENTS.update(
    {
        **_describe_data(Event.registry, "Data"),
        **{
            EVENTS[name]: record(
                f"`{name}` in the journal.",
                {
                    "id": whole("1..n in its session."),
                    "event": {"type": "string", "const": name},
                    "data": ref(f"{title(name)}Data"),
                    "createdAt": time(),
                },
            )
            for name in Event.registry
        },
        **_describe_data(Notice.registry, "Data"),
        **_describe_data(Hint.registry, "Hint"),
        "TreeEvents": record(
            "A page of the journals of a session and all below it, oldest first.",
            {
                "events": list_of(ref("TreeEvent")),
                "total": whole("Events of all of them."),
                "hasMore": flag("Whether there are more after these."),
            },
        ),
        "TreeEvent": record(
            "An event of a session of a tree.",
            {"event": text(), "ts": time(), "data": free(), "session_id": text()},
            example={
                "event": "content",
                "ts": NOW,
                "data": {"type": "content", "content": "Paris", "runId": RUN_ID},
                "session_id": SESSION_ID,
            },
        ),
        "Event": {
            "description": "An entry of a session's journal.",
            "oneOf": [ref(name) for name in EVENTS.values()],
            "discriminator": {
                "propertyName": "event",
                "mapping": {event: ref(name)["$ref"] for event, name in EVENTS.items()},
            },
        },
    }
)


def _describe_frame(datas: dict[str, Schema], example: Schema) -> Schema:
    """Return the schema of one frame of a stream; `datas` has what its data is, by its event."""
    frame = record(
        "One frame of a stream of server-sent events.",
        {
            "id": text("The number of an event in the journal: the cursor to come back with."),
            "event": choice(*datas, description="What `data` is, as x-events says."),
            "data": text("One line of JSON.", contentMediaType="application/json"),
        },
        optional="id",
        example=example,
    )
    return frame | {"x-events": datas}


_streamed = {name: ref(f"{title(name)}Data") for name in (*Notice.registry, *Event.registry)}
STREAM = _describe_frame(
    _streamed,
    {
        "id": "8",
        "event": "content",
        "data": f'{{"type": "content", "content": "Paris", "runId": "{RUN_ID}"}}',
    },
)
TREE = _describe_frame(
    _streamed,
    {
        "event": "content",
        "data": f'{{"event": "content", "ts": "{NOW}", "data": {{"content": "Paris"}},'
        f' "session_id": "{SESSION_ID}", "seq": 8}}',
    },
)
FEED = _describe_frame(
    {name: ref(f"{title(name)}Hint") for name in Hint.registry},
    {"event": "session_updated", "data": f'{{"sessionId": "{SESSION_ID}", "status": "active"}}'},
)


def parameter(name: str, place: str, description: str, schema: Any, **more: Any) -> dict[str, Any]:
    """Return a parameter that no serializer has."""
    found = {"name": name, "in": place, "required": False, "description": description, **more}
    return {**found, "schema": schema}


describe_stream(
    "/sessions/{session_id}/stream",
    {200: STREAM, 204: None},
    operationId="stream_session",
    summary="Follow a session",
    description="The journal as server-sent events. With a cursor (`Last-Event-ID`, or `after`)"
    " everything after it and then what is new; without one only what is new. `connected` comes"
    " first; a client without a cursor then gets a `keepalive` with its first one, and without an"
    " id what a run waits for. `keepalive` comes after 15 s of silence, `session_ended` last. 204"
    " where the session has ended and the cursor is at its end. `journal_reset`, after which the"
    " stream closes, says that the database was set back: reload the session.",
    path_schemas=PATH_PARAMETERS,
    parameters=[
        parameter(
            "Last-Event-ID",
            "header",
            "The last event that the client has; browsers send it by themselves.",
            text(pattern="^([0-9]{1,18}(-[0-9a-f]{12})?)?$"),
        ),
        parameter("after", "query", "Only what comes after this number.", {"type": "integer"}),
        parameter(EPOCH_HEADER, "header", EPOCH, text()),
        parameter("epoch", "query", f"{EPOCH} For an `EventSource`, which has no headers.", text()),
    ],
    errors=[410, 429],
    headers=[EPOCH_HEADER],
)
describe_stream(
    "/events",
    {200: TREE, 204: None},
    operationId="stream_tree",
    summary="Follow a session and its sub-sessions",
    description="What happens in the session (`session`, required) and in all below it from now on,"
    " as server-sent events whose data is `{event, ts, data, session_id, seq}`; `filter` has names"
    " of events or patterns such as `hook:*`, with commas. There are no ids and no replay: who must"
    " miss nothing reads `events`, or follows each session. It ends with the session; 204 where"
    " that has ended.",
    path_schemas=PATH_PARAMETERS,
    parameters=[
        parameter("session", "query", "The session to follow.", text(minLength=1), required=True),
        parameter(
            "filter", "query", "Names of events, or patterns such as `hook:*`, with commas.", text()
        ),
    ],
    errors=[404, 429],
    headers=[EPOCH_HEADER],
)
describe_stream(
    "/events/stream",
    {200: FEED},
    operationId="stream_hints",
    summary="Follow all sessions",
    description="Live hints on all sessions that the caller may see, without ids or replay: who"
    " reconnects reads the list again.",
    path_schemas=PATH_PARAMETERS,
    errors=[429],
)
