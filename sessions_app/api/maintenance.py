"""Upkeep of sessions: another profile, old ones removed."""

from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from sessions_app.api import serializers
from sessions_app.api.lookup import find_session, get_caller
from sessions_app.api.representations import session_json
from sessions_app.api.serializers import checked
from sessions_app.services import cleanup, sessions


class UpkeepActions:
    """What becomes of sessions beside their transcripts."""

    @action(detail=True, methods=["post"], url_path="change-profile")
    def change_profile(self, request: Request, session_id: str) -> Response:
        """Give an active session another profile, from its next attempt on."""
        find_session(request, session_id)
        sessions.change_profile(session_id, **checked(serializers.ChangeProfile, request.data))
        return Response(session_json(find_session(request, session_id)))

    @action(detail=False, methods=["post"], url_path="cleanup")
    def cleanup(self, request: Request) -> Response:
        """Remove sessions that ended long ago or never started; with `dry_run` only count them."""
        wanted = checked(serializers.Cleanup, request.data)
        is_dry = wanted.pop("dry_run")
        found = cleanup.removable(get_caller(request).sees, **wanted)
        count = found.count() if is_dry else cleanup.remove(found)
        return Response({"removed_count": count, "removedCount": count, "dryRun": is_dry})
