"""What a stream is refused for. The docstring is the default message, as in the services."""

from sessions_app.exceptions import SessionsError


class BadCursor(SessionsError):
    """The cursor is not the id of an event; send the id of the last event that you have."""

    status = 400
    code = "invalid"


class BadQuery(SessionsError):
    """Name the session to follow: `?session=session_…`; for hints of all, use /events/stream."""

    status = 400
    code = "invalid"


class Unavailable(SessionsError):
    """The journal cannot be read at the moment; connect again with your last event id."""

    status = 503
    code = "unavailable"


class TooManyStreams(SessionsError):
    """Too many streams are open; close one, or connect again in a few seconds."""

    status = 429
    code = "too_many"
    retry_after = 5


class MethodNotAllowed(SessionsError):
    """A stream is only read; use GET."""

    status = 405
    code = "method_not_allowed"
    headers = {"Allow": "GET"}
