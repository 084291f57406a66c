"""The REST API of sessions: request → serializer → service → representation."""

from typing import Any

from rest_framework import viewsets
from rest_framework.request import Request

from sessions_app.api.approvals import ApprovalActions, ApprovalViewSet
from sessions_app.api.clone_fork import CopyActions
from sessions_app.api.execution import ExecutionActions
from sessions_app.api.history import HistoryActions
from sessions_app.api.lifecycle import LifeActions
from sessions_app.api.lookup import check_visible
from sessions_app.api.maintenance import UpkeepActions
from sessions_app.api.read_state import ReadingActions

__all__ = ["ApprovalViewSet", "SessionViewSet"]


class SessionViewSet(
    LifeActions,
    HistoryActions,
    ReadingActions,
    ExecutionActions,
    ApprovalActions,
    CopyActions,
    UpkeepActions,
    viewsets.ViewSet,
):
    """Sessions and what belongs to one."""

    lookup_field = "session_id"
    lookup_value_regex = r"[^/]+"

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse what concerns a session of somebody else, whichever action it is."""
        super().initial(request, *args, **kwargs)
        if session_id := kwargs.get("session_id"):
            check_visible(request, session_id)
