"""A session's runs: sending a message for execution, looking at runs, cancelling them."""

from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.pagination import paginate
from sessions_app.api import queries, serializers
from sessions_app.api.lookup import find_session
from sessions_app.api.queries import asked
from sessions_app.api.representations import run_json
from sessions_app.api.serializers import checked
from sessions_app.exceptions import RunNotFound
from sessions_app.models import Run
from sessions_app.services import runs
from sessions_app.states import RunStatus

RUN_PATH = r"runs/(?P<run_id>[^/]+)"


class ExecutionActions:
    """Messages that are executed, and what became of them."""

    @action(detail=True, methods=["post"], url_path="send-message")
    def send_message(self, request: Request, session_id: str) -> Response:
        """Accept a message for execution; the answer comes over the stream.

        A request that waits for it (`wait`) is kept by the layer before this view.
        """
        asked(queries.SendQuery, request.query_params)
        run, seq = runs.send(session_id, **checked(serializers.SendMessage, request.data))
        accepted = {
            "status": "executing",
            "session_id": session_id,
            "sessionId": session_id,
            "runId": run.id,
            "messageId": run.message_id,
            "lastEventId": seq,
        }
        return Response(accepted, status.HTTP_202_ACCEPTED)

    @action(detail=True, methods=["post"])
    def execute(self, request: Request, session_id: str) -> Response:
        """Accept a message for execution, as `send_message`; the layer before it waits."""
        return self.send_message(request, session_id)

    @action(detail=True, url_path="runs")
    def list_runs(self, request: Request, session_id: str) -> Response:
        """List the runs of a session, newest first."""
        find_session(request, session_id)
        query = asked(queries.RunsQuery, request.query_params)
        found = Run.objects.filter(session_id=session_id)
        return paginate(request, found, found.count(), query, run_json)

    @action(detail=True, url_path=RUN_PATH)
    def run(self, request: Request, session_id: str, run_id: str) -> Response:
        """Return a run."""
        find_session(request, session_id)
        found = Run.objects.filter(session_id=session_id, pk=run_id).first()
        if found is None:
            raise RunNotFound(f"Session {session_id} has no run {run_id!r}.")
        return Response(run_json(found))

    @action(detail=True, methods=["post"], url_path=f"{RUN_PATH}/cancel")
    def cancel_run(self, request: Request, session_id: str, run_id: str) -> Response:
        """Cancel a run; what it has said is kept."""
        checked(serializers.Nothing, request.data)
        return _cancelled(runs.cancel(session_id, run_id), run_id)

    @action(detail=True, methods=["post"], url_path="cancel-execution")
    def cancel_execution(self, request: Request, session_id: str) -> Response:
        """Cancel the run that is running, or else the one that is next."""
        checked(serializers.Nothing, request.data)
        find_session(request, session_id)
        run = Run.objects.filter(session_id=session_id).open().first()
        return _cancelled(run is not None and runs.cancel(session_id, run.id), run and run.id)


def _cancelled(won: bool, run_id: str | None) -> Response:
    if won:
        answer = {"status": str(RunStatus.CANCELLED), "runId": run_id}
        return Response(answer, status.HTTP_202_ACCEPTED)
    return Response({"status": "no_active_execution"})
