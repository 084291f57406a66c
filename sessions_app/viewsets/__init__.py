"""The REST API of sessions: request → serializer → service → representation."""

from typing import Any

from rest_framework import viewsets
from rest_framework.request import Request

from sessions_app.viewsets.approvals import ApprovalActions, ApprovalViewSet
from sessions_app.viewsets.copies import CopyActions
from sessions_app.viewsets.execution import ExecutionActions
from sessions_app.viewsets.history import HistoryActions
from sessions_app.viewsets.life import LifeActions
from sessions_app.viewsets.lookup import check_visible, owner_of
from sessions_app.viewsets.reading import ReadingActions
from sessions_app.viewsets.upkeep import UpkeepActions

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
            check_visible(session_id, owner_of(request))
