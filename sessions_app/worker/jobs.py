"""The one job of the worker's queue."""

from procrastinate import JobContext
from procrastinate.contrib.django import app

from sessions_app.services.jobs import ADVANCE_SESSION
from sessions_app.worker.executor import Executor


@app.task(name=ADVANCE_SESSION, pass_context=True)
async def advance_session(context: JobContext, session_id: str) -> None:
    """Execute the session's queued runs, one after the other.

    Several jobs for one session do no harm: the claim decides who executes.
    """
    executor: Executor = context.additional_context["executor"]
    await executor.advance(session_id)
