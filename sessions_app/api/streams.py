"""The streams in the API's description. They are served outside Django, by `streaming`."""

from typing import Any

from amplifierd.common.openapi.components import COMPONENTS
from amplifierd.common.openapi.operation import describe_stream
from amplifierd.common.openapi.schema import text
from sessions_app.api import event_schemas as events
from sessions_app.api.viewsets import PATH_PARAMETERS

COMPONENTS.update(events.COMPONENTS)


def parameter(name: str, place: str, description: str, schema: Any, **more: Any) -> dict[str, Any]:
    """Return a parameter that no serializer has."""
    found = {"name": name, "in": place, "required": False, "description": description, **more}
    return {**found, "schema": schema}


describe_stream(
    "/sessions/{session_id}/stream",
    {200: events.STREAM, 204: None},
    operationId="stream_session",
    summary="Follow a session",
    description="The journal as server-sent events. With a cursor (`Last-Event-ID`, or `after`)"
    " everything after it and then what is new; without one only what is new. `connected` comes"
    " first; a client without a cursor then gets a `keepalive` with its first one, and without an"
    " id what a run waits for. `keepalive` comes after 15 s of silence, `session_ended` last. 204"
    " where the session has ended and the cursor is at its end.",
    path_schemas=PATH_PARAMETERS,
    parameters=[
        parameter(
            "Last-Event-ID",
            "header",
            "The last event that the client has; browsers send it by themselves.",
            text(pattern="^[0-9]{0,18}$"),
        ),
        parameter("after", "query", "Only what comes after this number.", {"type": "integer"}),
    ],
    errors=[429],
)
describe_stream(
    "/events",
    {200: events.TREE, 204: None},
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
)
describe_stream(
    "/events/stream",
    {200: events.FEED},
    operationId="stream_hints",
    summary="Follow all sessions",
    description="Live hints on all sessions that the caller may see, without ids or replay: who"
    " reconnects reads the list again.",
    path_schemas=PATH_PARAMETERS,
    errors=[429],
)
