"""The console: sessions and runs in Django's admin, changed only through the services."""

from sessions_app.admin.owner_limits import OwnerLimitsAdmin
from sessions_app.admin.pending_actions import ApprovalAdmin
from sessions_app.admin.runs import RunAdmin
from sessions_app.admin.sessions import DirectoryAdmin, SessionAdmin

__all__ = ["ApprovalAdmin", "DirectoryAdmin", "OwnerLimitsAdmin", "RunAdmin", "SessionAdmin"]
