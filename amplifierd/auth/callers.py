"""Finds the caller of a request, by API key or console login, and checks what it may do.

The package decides who may call: API keys, scopes and owners, and where a daemon may listen.
"""

from typing import Any

from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponse
from rest_framework.authentication import BaseAuthentication, CSRFCheck
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from amplifierd.auth import keys
from amplifierd.common.callers import Caller, Everyone, Owner, Visibility, get_caller
from amplifierd.models import Scope

CHALLENGE = "Bearer"
SEND_A_KEY = "Send an API key: `Authorization: Bearer amp_…`."
# On loopback no keys are required; the security middleware has checked the request.
ANYBODY = Caller(Everyone(), scope=Scope.ADMIN)
NOBODY = Caller()
# Each scope may do what those before it may.
RANKS = Scope.values
# Scope of a login to the console, by its permissions; the highest first.
BY_PERMISSION = {
    Scope.WRITE: "sessions_app.change_session",
    Scope.READ: "sessions_app.view_session",
}
# POST, PATCH and DELETE below these change sessions; everywhere else they change the catalogue.
OF_SESSIONS = {"sessions", "approvals", "mount-plans"}
OF_DIRECTORIES = {"amplified-directories", "directories"}
READING = {"GET", "HEAD", "OPTIONS"}
# Files in directories of sessions: only for callers whose tools could read them as well.
OF_FILES = ("/api/v1/directories/file/", "/api/v1/directories/files")


class BadCredentials(AuthenticationFailed):
    """401, always with a challenge."""

    auth_header = CHALLENGE


class CallerAuthentication(BaseAuthentication):
    """REST framework's authentication: the caller is the request's user."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        return find_caller(request._request), None

    def authenticate_header(self, request: Request) -> str:
        """Return the value of `WWW-Authenticate` in a 401."""
        return CHALLENGE


class HasScope(BasePermission):
    """REST framework's permission: the caller has the scope that the request needs."""

    def has_permission(self, request: Request, view: Any) -> bool:
        plain, caller = request._request, get_caller(request)
        needed = required_scope(plain.method or "", plain.path_info, caller.sees)
        require_scope(caller, needed)
        return True


def find_caller(request: HttpRequest) -> Caller:
    """Return who sends the request; looked up once per request.

    Raises BadCredentials if the request has a key that is not valid, and PermissionDenied if the
    console's session comes without its CSRF token.
    """
    found = vars(request)
    if "caller" not in found:
        if authorization := request.META.get("HTTP_AUTHORIZATION"):
            scheme, _, sent = authorization.partition(" ")
            if scheme.lower() != CHALLENGE.lower():
                raise BadCredentials(SEND_A_KEY)
            try:
                key = keys.check(sent.strip())
            except keys.InvalidKey as error:
                raise BadCredentials(str(error)) from None
            sees = Everyone() if key.scope == Scope.ADMIN else Owner(key.owner)
            found["caller"] = Caller(sees, key.owner, key.scope, key.name or key.owner)
        elif not settings.REQUIRE_KEYS:
            found["caller"] = ANYBODY
        else:
            found["caller"] = _find_by_login(request)
    return found["caller"]


def require_scope(caller: Caller, needed: Scope) -> None:
    """Raise BadCredentials or PermissionDenied, with what is missing, without the scope."""
    if not caller.is_authenticated:
        raise BadCredentials(SEND_A_KEY)
    if caller.scope not in RANKS or RANKS.index(caller.scope) < RANKS.index(needed):
        raise PermissionDenied(f"This needs the scope {needed}; what you sent has {caller.scope}.")


def required_scope(method: str, path: str, sees: Visibility) -> Scope:
    """Return the scope that a request of the API needs; for an unknown path, the highest."""
    if method in READING:
        return Scope.WRITE if path.startswith(OF_FILES) else Scope.READ
    place = path.removeprefix("/api/v1/").partition("/")[0]
    # An owner changes its own directories: the services look whose they are.
    is_own = place in OF_DIRECTORIES and isinstance(sees, Owner) and settings.REQUIRE_KEYS
    return Scope.WRITE if place in OF_SESSIONS or is_own else Scope.ADMIN


def _answer_nothing(request: HttpRequest) -> HttpResponse:
    """A view that is never called: the arguments of Django's middleware include one."""
    return HttpResponse()


def _find_by_login(request: HttpRequest) -> Caller:
    """Return the caller with the rights of a user of the console; NOBODY without a login."""
    # Neither the API nor the streams are behind the console's middleware.
    for middleware in (SessionMiddleware, AuthenticationMiddleware):
        middleware(_answer_nothing).process_request(request)
    user = request.user
    if not (user.is_active and user.is_staff):
        return NOBODY
    allowed = (scope for scope, permission in BY_PERMISSION.items() if user.has_perm(permission))
    scope = Scope.ADMIN if user.is_superuser else next(allowed, "")
    if not scope:
        return NOBODY
    # The body is read now and kept for the view: the CSRF token may be in a form.
    _ = request.body
    check = CSRFCheck(_answer_nothing)
    check.process_request(request)
    if reason := check.process_view(request, _answer_nothing, (), {}):
        raise PermissionDenied(f"CSRF Failed: {reason} Send the header X-CSRFToken.")
    return Caller(Everyone(), scope=scope, name=user.get_username())
