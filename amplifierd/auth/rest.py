"""Access, as REST framework asks for it."""

from typing import Any

from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from amplifierd.auth.callers import CHALLENGE, caller_of, demand
from amplifierd.auth.scopes import needed_for
from amplifierd.common.callers import Caller


class CallerAuthentication(BaseAuthentication):
    """Makes the caller the request's user."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        """Return the caller; raise what `caller_of` raises."""
        return caller_of(request._request), None

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge of a 401."""
        return CHALLENGE


class HasScope(BasePermission):
    """Lets in whose scope includes what the request needs."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return True; raise as `demand` does, with what is missing."""
        demand(request.user, needed_for(request.method or "", request.path_info))
        return True
