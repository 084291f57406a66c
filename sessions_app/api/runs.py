"""A session's runs: sending a message for execution, looking at runs, cancelling them."""

from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.openapi.operation import operation
from amplifierd.common.pagination import PageQuery, paginate
from amplifierd.common.serializers import Nothing, parse_query, validate
from sessions_app.api import queries, serializers
from sessions_app.api.serializers import (
    AcceptedSerializer,
    CancelledSerializer,
    NothingRunsSerializer,
    OutcomeSerializer,
    RunSerializer,
)
from sessions_app.api.viewsets import NEW_SESSION, SessionsViewSet
from sessions_app.exceptions import RunNotFound
from sessions_app.models import Run
from sessions_app.services import runs
from sessions_app.states import RunStatus

RUN_PATH = r"runs/(?P<run_id>[^/]+)"
NEW_RUN = {"run_id": "$response.body#/runId", **NEW_SESSION}


class RunViewSet(SessionsViewSet):
    """Messages that are executed, and what became of them."""

    tag = "execution"

    @operation(
        {202: AcceptedSerializer, 200: OutcomeSerializer},
        operation_id="send_message",
        request=serializers.SendMessage,
        query=queries.SendQuery,
        errors=[410, 429],
        links=NEW_RUN,
    )
    @action(detail=True, methods=["post"], url_path="send-message")
    def send_message(self, request: Request, session_id: str) -> Response:
        """Send a message for execution

        202: there will be one outcome in the journal, whatever dies. The answer comes over the
        stream. With `wait` (or `Prefer: wait=N`) the request waits for it: 200 with the run and its
        message if the run ends in time, otherwise 202 as usual. 409 where the session is not
        active, or has a run and the strategy is `reject`; 429 where too many runs wait. 410 with
        `wait` if the database was set back meanwhile, and with it the message was lost.
        """
        # `amplifierd.server.send_and_wait` holds the request that waits.
        parse_query(queries.SendQuery, request.query_params)
        run, seq = runs.send(session_id, **validate(serializers.SendMessage, request.data))
        accepted = AcceptedSerializer.serialize(
            run, status="executing", session_id=session_id, sessionId=session_id, lastEventId=seq
        )
        return Response(accepted, status.HTTP_202_ACCEPTED)

    @operation(
        {200: OutcomeSerializer, 202: AcceptedSerializer},
        operation_id="execute",
        request=serializers.SendMessage,
        query=queries.SendQuery,
        errors=[410, 429],
        links=NEW_RUN,
    )
    @action(detail=True, methods=["post"])
    def execute(self, request: Request, session_id: str) -> Response:
        """Send a message and wait for its answer

        `send-message` that waits 300 seconds where `wait` does not say otherwise: 200 with the run
        and its message, 202 where it takes longer.
        """
        return self.send_message(request, session_id)

    @operation({200: [RunSerializer]}, operation_id="list_runs", query=PageQuery)
    @action(detail=True, url_path="runs")
    def list_runs(self, request: Request, session_id: str) -> Response:
        """List runs

        Newest first.
        """
        self.require_existing(request, session_id)
        query = parse_query(PageQuery, request.query_params)
        found = Run.objects.filter(session_id=session_id)
        return paginate(request, found, found.count(), query, RunSerializer.serialize_all)

    @operation({200: RunSerializer}, operation_id="get_run")
    @action(detail=True, url_path=RUN_PATH)
    def run(self, request: Request, session_id: str, run_id: str) -> Response:
        """Show a run

        One run.
        """
        self.require_existing(request, session_id)
        found = Run.objects.filter(session_id=session_id, pk=run_id).first()
        if found is None:
            raise RunNotFound(f"Session {session_id} has no run {run_id!r}.")
        return Response(RunSerializer.serialize(found))

    @operation({202: CancelledSerializer, 200: NothingRunsSerializer}, operation_id="cancel_run")
    @action(detail=True, methods=["post"], url_path=f"{RUN_PATH}/cancel")
    def cancel_run(self, request: Request, session_id: str, run_id: str) -> Response:
        """Cancel a run

        202: cancelled, what it has said is kept; 200: it had ended.
        """
        validate(Nothing, request.data)
        return self.cancel(session_id, run_id)

    @operation(
        {202: CancelledSerializer, 200: NothingRunsSerializer}, operation_id="cancel_execution"
    )
    @action(detail=True, methods=["post"], url_path="cancel-execution")
    def cancel_execution(self, request: Request, session_id: str) -> Response:
        """Cancel what runs

        The run that is running, or else the one that is next; 200: there is none.
        """
        validate(Nothing, request.data)
        self.require_existing(request, session_id)
        run = Run.objects.filter(session_id=session_id).open().first()
        return self.cancel(session_id, run and run.id)

    def cancel(self, session_id: str, run_id: str | None) -> Response:
        if run_id is None or not runs.cancel(session_id, run_id):
            return Response(NothingRunsSerializer.serialize(status="no_active_execution"))
        answer = CancelledSerializer.serialize(status=str(RunStatus.CANCELLED), runId=run_id)
        return Response(answer, status.HTTP_202_ACCEPTED)
