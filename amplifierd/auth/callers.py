"""Who sends a request: told by an API key, or by the console's session, or not asked at all."""

from django.conf import settings
from django.contrib import auth
from django.http import HttpRequest
from rest_framework.authentication import CSRFCheck
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied

from amplifierd.auth import keys
from amplifierd.auth.scopes import Scope, includes
from amplifierd.common.callers import Caller, Everyone, Owner

CHALLENGE = "Bearer"
# On loopback, if no keys are required, the guard has decided.
ANYBODY = Caller(Everyone(), scope=Scope.ADMIN)
NOBODY = Caller()
# What a login to the console may do here, by what it may do there; the best first.
BY_PERMISSION = {
    Scope.WRITE: "sessions_app.change_session",
    Scope.READ: "sessions_app.view_session",
}


class BadCredentials(AuthenticationFailed):
    """401, with a challenge whoever answers it."""

    auth_header = CHALLENGE


def caller_of(request: HttpRequest) -> Caller:
    """Return who sends the request; found out once per request.

    Raises BadCredentials where a key is shown that is not let in, and PermissionDenied where the
    console's session comes without its CSRF token.
    """
    if not hasattr(request, "caller"):
        request.caller = _find(request)
    return request.caller


def demand(caller: Caller, needed: Scope) -> None:
    """Raise BadCredentials or PermissionDenied, with what is missing, unless the caller has it."""
    if not caller.is_authenticated:
        raise BadCredentials("Send an API key: `Authorization: Bearer amp_…`.")
    if not includes(caller.scope, needed):
        raise PermissionDenied(f"This needs the scope {needed}; what you sent has {caller.scope}.")


def _find(request: HttpRequest) -> Caller:
    if given := request.headers.get("Authorization"):
        return _by_key(given)
    if not settings.REQUIRE_KEYS:
        return ANYBODY
    return _by_login(request)


def _by_key(authorization: str) -> Caller:
    kind, _, key = authorization.partition(" ")
    if kind.lower() != CHALLENGE.lower():
        raise BadCredentials("Send an API key: `Authorization: Bearer amp_…`.")
    try:
        found = keys.check(key.strip())
    except keys.KeyRefused as refusal:
        raise BadCredentials(str(refusal)) from None
    sees = Everyone() if found.scope == Scope.ADMIN else Owner(found.owner)
    return Caller(sees, found.owner, found.scope, found.name or found.owner)


def _by_login(request: HttpRequest) -> Caller:
    """Return what somebody who is signed in to the console may do; NOBODY without a login."""
    user = request.user
    if not (user.is_active and user.is_staff):
        return NOBODY
    scope = _scope_of(user)
    if not scope:
        return NOBODY
    _check_csrf(request)
    return Caller(Everyone(), scope=scope, name=user.get_username())


def _scope_of(user: auth.models.AbstractBaseUser) -> str:
    if user.is_superuser:
        return Scope.ADMIN
    held = (scope for scope, permission in BY_PERMISSION.items() if user.has_perm(permission))
    return next(held, "")


def _check_csrf(request: HttpRequest) -> None:
    """Raise PermissionDenied unless one of our own pages sent what a cookie vouches for."""
    # Read whole, it is there for the view as well: the token may stand in a form.
    _ = request.body
    check = CSRFCheck(lambda request: None)
    check.process_request(request)
    if reason := check.process_view(request, None, (), {}):
        raise PermissionDenied(f"CSRF Failed: {reason} Send the header X-CSRFToken.")
