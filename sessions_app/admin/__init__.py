"""The console: sessions and runs in Django's admin, changed only through the services."""

from sessions_app.admin.approvals import ApprovalAdmin
from sessions_app.admin.directories import DirectoryAdmin
from sessions_app.admin.runs import RunAdmin
from sessions_app.admin.sessions import SessionAdmin

__all__ = ["ApprovalAdmin", "DirectoryAdmin", "RunAdmin", "SessionAdmin"]
