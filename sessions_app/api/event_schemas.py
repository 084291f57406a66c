"""The API's description of events: what `sessions_app.events` says, as components of OpenAPI."""

from collections.abc import Iterable, Mapping

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
from sessions_app.events import NOW, RUN_ID, SESSION_ID, Event, Frame, Hint, Notice


def title(name: str) -> str:
    """Return the name of an event for a component: `hook:tool:pre` becomes HookToolPre."""
    return "".join(word.capitalize() for word in name.replace(":", "_").split("_"))


def _describe_data(frames: Mapping[str, type[Frame]], suffix: str) -> dict[str, Schema]:
    return {f"{title(name)}{suffix}": frame.schema() for name, frame in frames.items()}


def _describe_entry(name: str) -> Schema:
    return record(
        f"`{name}` in the journal.",
        {
            "id": whole("1..n in its session."),
            "event": {"type": "string", "const": name},
            "data": ref(f"{title(name)}Data"),
            "createdAt": time(),
        },
    )


def _describe_any_entry(names: Iterable[str]) -> Schema:
    entries = {name: f"#/components/schemas/{title(name)}Event" for name in names}
    return {
        "description": "An entry of a session's journal.",
        "oneOf": [{"$ref": place} for place in entries.values()],
        "discriminator": {"propertyName": "event", "mapping": entries},
    }


COMPONENTS: dict[str, Schema] = {
    **_describe_data(Event.registry, "Data"),
    **{f"{title(name)}Event": _describe_entry(name) for name in Event.registry},
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
    "Event": _describe_any_entry(Event.registry),
}
EVENTS = ref("Event")


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
    {
        "event": "session_updated",
        "data": f'{{"sessionId": "{SESSION_ID}", "status": "active"}}',
    },
)
