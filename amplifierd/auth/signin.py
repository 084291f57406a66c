"""A link that signs its opener in to the console: once, for some minutes, on this machine alone.

Who may read the data folder may do anything to the daemon anyway, so it is there that links are
kept: a file named by the hash of the link's token, and whoever removes it is signed in.
"""

import hashlib
import re
import secrets
import time
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model, login
from django.contrib.auth.models import AbstractUser
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables

from amplifierd.auth.addresses import is_loopback

# Seconds for which a link is good.
LIFETIME = 15 * 60
# The account that a link signs in to. It has no password: only links open it.
ACCOUNT = "operator"
BACKEND = "django.contrib.auth.backends.ModelBackend"
TEMPLATE = "admin/amplifierd/signin.html"
TOKEN = re.compile(r"[\w-]{43}")


class LinkRefused(Exception):
    """Nobody is signed in; the message says what to do."""


def make_link(url: str) -> str:
    """Return a new link below the daemon's URL; raise LinkRefused where others can reach it."""
    if settings.PUBLIC:
        raise LinkRefused(
            "Links sign in on a daemon that only this machine reaches; "
            "`manage.py createsuperuser` makes a login with a password."
        )
    folder = _folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in folder.iterdir():
        if _age(old) > LIFETIME:
            old.unlink(missing_ok=True)
    token = secrets.token_urlsafe(32)
    _file(token).touch(mode=0o600)
    return url.rstrip("/") + reverse("sign-in", args=[token])


@never_cache
@sensitive_variables("token")
def sign_in(request: HttpRequest, token: str) -> HttpResponse:
    """Ask on GET, so that a preview of the link does not use it up; sign in on POST."""
    if settings.PUBLIC or not is_loopback(request.META.get("REMOTE_ADDR", "")):
        raise Http404
    try:
        if request.method != "POST":
            if not _is_good(token):
                raise _used_up()
            return render(request, TEMPLATE, {"title": "Sign in", "minutes": LIFETIME // 60})
        login(request, _redeem(token), backend=BACKEND)
    except LinkRefused as refusal:
        context = {"title": "This link signs nobody in", "refusal": str(refusal)}
        return render(request, TEMPLATE, context, status=410)
    return HttpResponseRedirect(reverse("admin:index"))


def _redeem(token: str) -> AbstractUser:
    """Return the account of a link that is good; it is good no longer. Raises LinkRefused."""
    if not _is_good(token):
        raise _used_up()
    with transaction.atomic():
        user = _account()
        try:
            # Of those who come at once, one removes it.
            _file(token).unlink()
        except FileNotFoundError:
            raise _used_up() from None
    return user


def _account() -> AbstractUser:
    """Return the links' account, made when it is first needed; raise LinkRefused for another's."""
    users = get_user_model().objects
    rights = {"is_staff": True, "is_superuser": True}
    user, is_new = users.get_or_create(username=ACCOUNT, defaults=rights)
    if is_new:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    if not (user.is_active and user.is_staff and user.is_superuser):
        raise LinkRefused(
            f"The account {ACCOUNT} may not do everything; sign in with a password instead."
        )
    return user


def _is_good(token: str) -> bool:
    return bool(TOKEN.fullmatch(token)) and _age(_file(token)) <= LIFETIME


def _used_up() -> LinkRefused:
    return LinkRefused(
        "It was used, or its time has run out: manage.py console_link prints another."
    )


def _age(file: Path) -> float:
    """Return the seconds since a file was made; endless for one that is not there."""
    try:
        return max(0.0, time.time() - file.stat().st_mtime)
    except FileNotFoundError:
        return float("inf")


def _file(token: str) -> Path:
    return _folder() / hashlib.sha256(token.encode()).hexdigest()


def _folder() -> Path:
    return settings.HOME / "signin"
