"""The one kind of job: look at a session, and do what there is to do."""

from procrastinate.contrib.django import app

# The name by which the worker knows the job that executes a session's runs.
ADVANCE_SESSION = "advance_session"


def defer(session_id: str) -> None:
    """Queue the job that executes the session's runs; joins the caller's transaction."""
    app.configure_task(ADVANCE_SESSION).defer(session_id=session_id)
