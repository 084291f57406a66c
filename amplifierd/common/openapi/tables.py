"""What all apps say of the API, in one place."""

from amplifierd.common.openapi import components
from amplifierd.common.openapi.operation import Operation
from amplifierd.common.openapi.schema import Schema
from profiles_app.openapi import components as catalogue
from profiles_app.openapi import operations as of_catalogue
from sessions_app.api import event_schemas as events
from sessions_app.openapi import components as sessions
from sessions_app.openapi import operations as of_sessions

OPERATIONS: dict[str, Operation] = (
    components.OPERATIONS | of_sessions.OPERATIONS | of_catalogue.OPERATIONS
)
STREAMS: dict[str, Operation] = of_sessions.OF_STREAMS
COMPONENTS: dict[str, Schema] = (
    components.COMPONENTS | sessions.COMPONENTS | events.COMPONENTS | catalogue.COMPONENTS
)
