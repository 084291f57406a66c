"""Approvals: calls of tools that wait for a person, listed and answered."""

from typing import ClassVar

from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.callers import get_caller
from amplifierd.common.openapi.operation import operation
from amplifierd.common.openapi.schema import Schema
from amplifierd.common.pagination import count_total, paginate
from amplifierd.common.serializers import parse_query, validate
from sessions_app.api import queries, serializers
from sessions_app.api.serializers import ApprovalAnsweredSerializer, ApprovalSerializer
from sessions_app.api.viewsets import PATH_PARAMETERS, SessionsViewSet
from sessions_app.exceptions import ApprovalNotFound
from sessions_app.models import Approval
from sessions_app.models.querysets import ActionQuerySet
from sessions_app.services import pending_actions


class SessionApprovalsViewSet(SessionsViewSet):
    """What a session asks, and the answers to it."""

    tag = "approvals"

    @operation(
        {200: ApprovalAnsweredSerializer},
        operation_id="respond_to_approval",
        request=serializers.ApprovalResponse,
        links={"approval_id": "$response.body#/approvalId"},
    )
    @action(detail=True, methods=["post"], url_path="approval-response")
    def approval_response(self, request: Request, session_id: str) -> Response:
        """Answer an approval

        Answers a tool call that waits for a person, in upper or lower case; `always` also lets the
        tool go on in this session without being asked about again, as long as its module, config,
        description and schema stay as they are. 404 for an unknown one, 409 `already_answered` for
        one that is not `pending`: of those who answer at once one does. The run goes on once all
        that it asked is answered.
        """
        answer = validate(serializers.ApprovalResponse, request.data)
        claimed = answer.pop("answered_by")
        # The name of the caller's key counts before the name that the caller claims.
        by = get_caller(request).name or claimed
        answered = pending_actions.answer(session_id, **answer, by=by)
        return Response(ApprovalAnsweredSerializer.serialize(answered))

    @operation(
        {200: [ApprovalSerializer]},
        operation_id="list_session_approvals",
        query=queries.SessionApprovalsQuery,
    )
    @action(detail=True, url_path="approvals")
    def list_approvals(self, request: Request, session_id: str) -> Response:
        """List a session's approvals

        Newest first.
        """
        self.require_existing(request, session_id)
        found = Approval.objects.filter(session_id=session_id)
        return paginate_approvals(request, found, queries.SessionApprovalsQuery)


class ApprovalViewSet(viewsets.ViewSet):
    """Approvals of all sessions that the caller may see."""

    lookup_field = "approval_id"
    lookup_value_regex = r"[^/]+"
    path_parameters: ClassVar[dict[str, Schema]] = PATH_PARAMETERS
    tag = "approvals"

    @operation(
        {200: [ApprovalSerializer]}, operation_id="list_approvals", query=queries.ApprovalsQuery
    )
    def list(self, request: Request) -> Response:
        """List approvals

        Those of all sessions that the caller may see, newest first; `status=pending` is the inbox.
        """
        found = Approval.objects.visible_to(get_caller(request).sees)
        return paginate_approvals(request, found, queries.ApprovalsQuery)

    @operation({200: ApprovalSerializer}, operation_id="get_approval")
    def retrieve(self, request: Request, approval_id: str) -> Response:
        """Show an approval

        One approval.
        """
        found = Approval.objects.visible_to(get_caller(request).sees).filter(pk=approval_id).first()
        if found is None:
            raise ApprovalNotFound(
                f"There is no approval {approval_id!r}. `GET /api/v1/approvals/` lists them."
            )
        return Response(ApprovalSerializer.serialize(found))


def paginate_approvals(
    request: Request, found: ActionQuerySet, kind: type[queries.SessionApprovalsQuery]
) -> Response:
    query = parse_query(kind, request.query_params)
    filters = {name: value for name, value in query.items() if name not in queries.ABOUT_PAGE}
    found = found.filter(**filters)
    return paginate(request, found, count_total(found), query, ApprovalSerializer.serialize_all)
