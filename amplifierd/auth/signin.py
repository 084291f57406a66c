"""Signing in to the console: by a link, and the page of a login locked after failures.

A link works once, for some minutes, on this machine only. It is stored as a file in the data
folder, named by the hash of its token; the request that removes the file is signed in. A user that
may read that folder may do anything to the daemon anyway.
"""

import hashlib
import re
import secrets
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables

from amplifierd.common.program import command
from amplifierd.env import is_loopback

# Seconds for which a link is valid.
LIFETIME = 15 * 60
# The account that a link signs in to. It has no password: only links sign in to it.
ACCOUNT = "operator"
BACKEND = "django.contrib.auth.backends.ModelBackend"
TEMPLATE = "admin/amplifierd/signin.html"
TOKEN = re.compile(r"[\w-]{43}")


class InvalidLink(Exception):
    """Nobody is signed in; the message says what to do."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(
            message
            or f"It was used, or its time has run out: {command('console_link')} prints another."
        )


def make_link(url: str) -> str:
    """Return a new link below the daemon's URL; raise InvalidLink if others can reach that."""
    if settings.PUBLIC:
        raise InvalidLink(
            "Links work only if no other machine can reach the daemon; "
            f"`{command('createsuperuser')}` creates a login with a password."
        )
    token = secrets.token_urlsafe(32)
    file = _file(token)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in file.parent.iterdir():
        if _age(old) > LIFETIME:
            old.unlink(missing_ok=True)
    file.touch(mode=0o600)
    return url.rstrip("/") + reverse("sign-in", args=[token])


@never_cache
@sensitive_variables("token")
def sign_in(request: HttpRequest, token: str) -> HttpResponse:
    """Sign in on POST; on GET only ask, so that a preview does not use the link up."""
    if settings.PUBLIC or not is_loopback(request.META.get("REMOTE_ADDR", "")):
        raise Http404
    try:
        if not TOKEN.fullmatch(token) or _age(_file(token)) > LIFETIME:
            raise InvalidLink
        if request.method != "POST":
            return render(request, TEMPLATE, {"title": "Sign in", "minutes": LIFETIME // 60})
        with transaction.atomic():
            rights = {"is_staff": True, "is_superuser": True}
            user, is_new = User.objects.get_or_create(username=ACCOUNT, defaults=rights)
            if is_new:
                user.set_unusable_password()
                user.save(update_fields=["password"])
            if not (user.is_active and user.is_staff and user.is_superuser):
                raise InvalidLink(
                    f"The account {ACCOUNT} was restricted; sign in with a password instead."
                )
            try:
                # Of several requests at once, only one removes the file.
                _file(token).unlink()
            except FileNotFoundError:
                raise InvalidLink from None
        login(request, user, backend=BACKEND)
    except InvalidLink as error:
        context = {"title": "This link cannot be used", "error": str(error)}
        return render(request, TEMPLATE, context, status=410)
    return HttpResponseRedirect(reverse("admin:index"))


def show_lockout(request: HttpRequest, *_: Any) -> HttpResponse:
    """Return the page of a login that is locked after too many failures."""
    minutes = int(settings.AXES_COOLOFF_TIME.total_seconds() // 60)
    response = render(request, "admin/amplifierd/locked_out.html", {"minutes": minutes}, status=429)
    response["Retry-After"] = str(minutes * 60)
    return response


def _age(file: Path) -> float:
    """Return the seconds since a file was created; infinity if it does not exist."""
    try:
        return max(0.0, time.time() - file.stat().st_mtime)
    except FileNotFoundError:
        return float("inf")


def _file(token: str) -> Path:
    return settings.HOME / "signin" / hashlib.sha256(token.encode()).hexdigest()
