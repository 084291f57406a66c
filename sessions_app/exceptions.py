"""What the services refuse. The docstring is the default message; one handler maps it to HTTP."""

from amplifierd.common.errors import ServiceError
from sessions_app.states import SESSION_TRANSITIONS


class SessionsError(ServiceError):
    """The request cannot be carried out."""


class SessionNotFound(SessionsError, status=404):
    """There is no such session. List the sessions that exist with GET /api/v1/sessions/."""

    @classmethod
    def of(cls, session_id: str) -> "SessionNotFound":
        return cls(f"There is no session {session_id!r}.")


class RunNotFound(SessionsError, status=404):
    """The session has no such run. List its runs with GET /api/v1/sessions/{id}/runs."""


class MessageNotFound(SessionsError, status=404):
    """The session has no messages yet."""


class ApprovalNotFound(SessionsError, status=404):
    """Nothing in this session waits for this approval."""


class ApprovalAnswered(SessionsError, status=409, code="already_answered"):
    """This approval has been answered already."""


class AppendOnly(SessionsError, status=409, code="append_only"):
    """A transcript only grows. To go on without its last messages, fork the session before them."""


class ForkBeyondEnd(SessionsError):
    """The session has no such message to fork at."""

    @classmethod
    def of(cls, length: int) -> "ForkBeyondEnd":
        return cls(f"The session has {length} messages; give an `after` from 0 to {length}.")


class TooMuchToCopy(SessionsError, status=409, code="too_large"):
    """There is too much to copy at a time."""


class MetadataTooLarge(SessionsError):
    """With this the session's metadata would be too large."""

    @classmethod
    def beyond(cls, limit: int) -> "MetadataTooLarge":
        detail = f"Have at most {limit} bytes of JSON in all; send null for keys to be removed."
        return cls(
            f"metadata: {detail}",
            errors=[{"field": "metadata", "code": "too_large", "detail": detail}],
        )


class InvalidTransition(SessionsError, status=409, code="invalid_transition"):
    """The session's status does not allow this."""

    @classmethod
    def between(cls, source: str, target: str) -> "InvalidTransition":
        allowed = [str(status) for status in SESSION_TRANSITIONS[source]]
        choices = " or ".join(allowed) or "nothing: it has ended"
        return cls(
            f"A session that is {source} cannot become {target}; it can become {choices}.",
            **{"from": str(source), "to": str(target), "allowed": allowed},
        )

    @classmethod
    def not_active(cls, source: str, does: str = "takes messages") -> "InvalidTransition":
        hint = "start it first" if SESSION_TRANSITIONS[source] else "it has ended"
        allowed = [str(status) for status in SESSION_TRANSITIONS[source]]
        return cls(
            f"Only an active session {does}; this one is {source}: {hint}.",
            **{"from": str(source), "to": "active", "allowed": allowed},
        )


class RunInProgress(SessionsError, status=409, code="run_in_progress"):
    """The session already has a run that is not finished; wait for it, cancel it, or enqueue."""


class TooManyRuns(SessionsError, status=429):
    """Too many runs of this session are waiting; send again when some have finished."""


class OwnerLimitReached(SessionsError, status=429):
    """You use as much of this daemon as you may; end or delete something, or ask an admin."""

    def __init__(self, message: str | None = None, *, retry_after: int = 10) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OwnerBusy(SessionsError, status=429):
    """As many runs of this owner are under way as may be; the message names the owner."""


class LeaseLost(SessionsError, status=409, code="lease_lost"):
    """This attempt no longer holds the lease of its run: nothing was written."""


class InvalidIdempotencyKey(SessionsError):
    """An Idempotency-Key is 1 to 255 visible ASCII characters; a UUID is a good one."""


class IdempotencyInProgress(SessionsError, status=409, code="in_progress"):
    """A request with this Idempotency-Key is still being carried out; repeat it in a moment."""


class IdempotencyMismatch(SessionsError, status=422, code="idempotency_mismatch"):
    """This Idempotency-Key came with another request before; choose a new key for a new request."""


class SessionNotEnded(SessionsError, status=409, code="session_not_ended"):
    """Only the journal of a session that has ended can be compacted."""


class BadCursor(SessionsError):
    """The cursor is not the id of an event; send the id of the last event that you have."""


class JournalWasReset(SessionsError, status=410, code="journal_reset"):
    """The database was set back since you got this cursor, so events that you have may be lost.
    Reload the session, and read on from its lastEventId with its new epoch."""

    @classmethod
    def to(cls, epoch: str, last: int | None = None) -> "JournalWasReset":
        """Say which epoch it is now and, if known, where the journal of the session ends."""
        more = {} if last is None else {"lastEventId": last}
        return cls(" ".join((cls.__doc__ or "").split()), epoch=epoch, **more)


class JournalWasCompacted(SessionsError, status=410, code="journal_reset"):
    """The events around this cursor were joined to one after the session had ended. Reload the
    session, or read on from the cursor `after`, where the joined event begins."""

    @classmethod
    def to(cls, after: int) -> "JournalWasCompacted":
        """Say which cursor before the joined event is good."""
        return cls(" ".join((cls.__doc__ or "").split()), after=after)


class RunWasLost(SessionsError, status=410, code="journal_reset"):
    """The database was set back after it had accepted your message, which is lost. Reload the
    session, and send the message again if it is not there."""

    @classmethod
    def to(cls, epoch: str) -> "RunWasLost":
        return cls(" ".join((cls.__doc__ or "").split()), epoch=epoch)


class BadStreamQuery(SessionsError):
    """Name the session to follow: `?session=session_…`; for hints of all, use /events/stream."""


class StreamUnavailable(SessionsError, status=503):
    """The journal cannot be read at the moment; connect again with your last event id."""


class TooManyStreams(SessionsError, status=429):
    """Too many streams are open; close one, or connect again in a few seconds."""

    retry_after = 5


class StreamMethodNotAllowed(SessionsError, status=405, code="method_not_allowed"):
    """A stream is only read; use GET."""

    headers = {"Allow": "GET"}
