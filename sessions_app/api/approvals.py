"""Approvals: calls of tools that wait for a person, listed and answered."""

from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from amplifierd.common.pagination import paginate
from sessions_app.api import queries, serializers
from sessions_app.api.lookup import find_session, get_caller
from sessions_app.api.queries import asked
from sessions_app.api.representations import approval_json
from sessions_app.api.serializers import checked
from sessions_app.exceptions import ApprovalNotFound
from sessions_app.models import Approval
from sessions_app.models.querysets import ApprovalQuerySet
from sessions_app.services import approvals
from sessions_app.totals import total


class ApprovalActions:
    """What a session asks, and the answers to it."""

    @action(detail=True, methods=["post"], url_path="approval-response")
    def approval_response(self, request: Request, session_id: str) -> Response:
        """Answer a tool call that waits for a person."""
        answer = checked(serializers.ApprovalResponse, request.data)
        claimed = answer.pop("answered_by")
        # What a key says of its holder counts more than what the holder says.
        by = get_caller(request).name or claimed
        answered = approvals.answer(session_id, **answer, by=by)
        return Response({"approval_id": answered.id, **approval_json(answered)})

    @action(detail=True, url_path="approvals")
    def list_approvals(self, request: Request, session_id: str) -> Response:
        """List the approvals of a session, newest first."""
        session = find_session(request, session_id)
        found = Approval.objects.filter(session=session)
        return _listed(request, found, queries.SessionApprovalsQuery)


class ApprovalViewSet(viewsets.ViewSet):
    """Approvals of all sessions that the caller may see."""

    lookup_field = "approval_id"
    lookup_value_regex = r"[^/]+"

    def list(self, request: Request) -> Response:
        """List approvals, newest first."""
        found = Approval.objects.visible_to(get_caller(request).sees)
        return _listed(request, found, queries.ApprovalsQuery)

    def retrieve(self, request: Request, approval_id: str) -> Response:
        """Return an approval."""
        found = Approval.objects.visible_to(get_caller(request).sees).filter(pk=approval_id).first()
        if found is None:
            raise ApprovalNotFound(
                f"There is no approval {approval_id!r}. `GET /api/v1/approvals/` lists them."
            )
        return Response(approval_json(found))


def _listed(
    request: Request, found: ApprovalQuerySet, kind: type[queries.SessionApprovalsQuery]
) -> Response:
    query = asked(kind, request.query_params)
    filters = {name: value for name, value in query.items() if name not in queries.ABOUT_PAGE}
    found = found.filter(**filters)
    return paginate(request, found, total(found), query, approval_json)
