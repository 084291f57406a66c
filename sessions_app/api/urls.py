"""The paths below /api/v1, each with and without its trailing slash."""

from rest_framework.routers import SimpleRouter

from sessions_app.api import ApprovalViewSet, SessionViewSet


class SlashOptionalRouter(SimpleRouter):
    """Every path answers with and without its trailing slash; neither is a redirect."""

    def __init__(self) -> None:
        super().__init__()
        self.trailing_slash = "/?"


router = SlashOptionalRouter()
router.register("sessions", SessionViewSet, basename="session")
router.register("approvals", ApprovalViewSet, basename="approval")
urlpatterns = router.urls
