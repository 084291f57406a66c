"""The paths below /api/v1, each with and without its trailing slash."""

from django.urls import URLPattern, URLResolver
from rest_framework.routers import SimpleRouter

from sessions_app.api import streams as streams  # adds the streams to the API's description
from sessions_app.api.approvals import ApprovalViewSet, SessionApprovalsViewSet
from sessions_app.api.messages import HistoryViewSet
from sessions_app.api.runs import RunViewSet
from sessions_app.api.sessions import SessionViewSet


class SlashOptionalRouter(SimpleRouter):
    """Every path answers with and without its trailing slash; neither is a redirect."""

    def __init__(self) -> None:
        super().__init__()
        self.trailing_slash = "/?"


router = SlashOptionalRouter()
router.register("sessions", HistoryViewSet, basename="history")
router.register("sessions", RunViewSet, basename="run")
router.register("sessions", SessionApprovalsViewSet, basename="session-approval")
router.register("sessions", SessionViewSet, basename="session")
router.register("approvals", ApprovalViewSet, basename="approval")


def order(path: URLPattern | URLResolver) -> tuple[int, bool]:
    """Sort short paths first, which most requests have, and words before ids, which may be any."""
    return str(path.pattern).count("/"), "(?P<" in str(path.pattern)


urlpatterns = sorted(router.urls, key=order)
