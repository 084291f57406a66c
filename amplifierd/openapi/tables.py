"""What all apps say of the API, in one place."""

from amplifierd.openapi import components
from profiles_app.openapi import components as catalogue
from profiles_app.openapi import operations as of_catalogue
from profiles_app.openapi.operation import Operation
from profiles_app.openapi.schema import Schema
from sessions_app.openapi import components as sessions
from sessions_app.openapi import events
from sessions_app.openapi import operations as of_sessions

OPERATIONS: dict[str, Operation] = (
    components.OPERATIONS | of_sessions.OPERATIONS | of_catalogue.OPERATIONS
)
STREAMS: dict[str, Operation] = of_sessions.OF_STREAMS
COMPONENTS: dict[str, Schema] = (
    components.COMPONENTS | sessions.COMPONENTS | events.COMPONENTS | catalogue.COMPONENTS
)
