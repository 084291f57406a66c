"""Signing in to the console: the login page, the pages of a link, and that of a locked login.

The page that somebody asked for is in `next`, from the login page to the end: in its form, in
a link that its button has the daemon print, and in a cookie for links that the command prints.
"""

from typing import Any
from urllib.parse import quote, unquote

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables

from amplifierd.auth import links
from amplifierd.auth.links import LIFETIME, InvalidLink
from amplifierd.common.problems import Problem, page
from amplifierd.common.program import command
from amplifierd.env import is_loopback

# The account that a link signs in to. It has no password: only links sign in to it.
ACCOUNT = "operator"
BACKEND = "django.contrib.auth.backends.ModelBackend"
TEMPLATE = "admin/amplifierd/signin.html"
# The page that was asked for, percent-encoded, while somebody fetches a link from a terminal.
NEXT_COOKIE = "signin_next"
# Characters of it; a longer one is forgotten.
NEXT_LENGTH = 2000


@never_cache
def log_in(request: HttpRequest) -> HttpResponse:
    """Show the login page. On this machine it also says how to get a link."""
    wanted = find_next(request)
    if request.method == "GET" and wanted and admin.site.has_permission(request):
        return HttpResponseRedirect(wanted)
    has_links = can_use_links(request)
    context = {"has_links": has_links, "minutes": LIFETIME // 60}
    response = admin.site.login(request, context)
    if request.method == "GET" and wanted and has_links:
        response.set_cookie(
            NEXT_COOKIE,
            quote(wanted),
            max_age=LIFETIME,
            path=settings.SESSION_COOKIE_PATH,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite="Lax",
        )
    return response


@never_cache
def ask_for_link(request: HttpRequest) -> HttpResponse:
    """Have the daemon print a link on its terminal.

    The link is in no answer: only somebody who can read the terminal may sign in.
    """
    if not can_use_links(request):
        raise Http404
    wanted = find_next(request)
    back = redirect_to_login(wanted or reverse("admin:index"), reverse("admin:login"))
    if request.method != "POST":
        return back
    try:
        links.print_asked_link(wanted)
    except links.AskedTooSoon as error:
        problem = Problem(429, "too_many", str(error), retry_after=error.wait)
        return page(problem, request, back=back.url)
    except InvalidLink as error:
        return page(Problem.unavailable(str(error)), request, back=back.url)
    messages.success(
        request,
        "The link is on the daemon's terminal, or in its log. It works once, within"
        f" {LIFETIME // 60} minutes.",
    )
    return back


@never_cache
@sensitive_variables("token")
def sign_in(request: HttpRequest, token: str) -> HttpResponse:
    """Sign in on POST; on GET only ask, so that a preview does not use the link up."""
    if not can_use_links(request):
        raise Http404
    wanted = find_next(request)
    target = wanted or reverse("admin:index")
    try:
        if not links.is_valid(token):
            raise InvalidLink
        if request.method != "POST":
            context = {"title": "Sign in", "account": ACCOUNT, "next": wanted}
            return render(request, TEMPLATE, context)
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
                links.file_of(token).unlink()
            except FileNotFoundError:
                raise InvalidLink from None
        login(request, user, backend=BACKEND)
    except InvalidLink as error:
        context = {"title": "This link cannot be used", "error": str(error), "back": target}
        return render(request, TEMPLATE, context, status=410)
    response = HttpResponseRedirect(target)
    response.delete_cookie(NEXT_COOKIE, path=settings.SESSION_COOKIE_PATH, samesite="Lax")
    return response


def can_use_links(request: HttpRequest) -> bool:
    """Tell whether the daemon and the caller are on one machine, and nobody else can call."""
    return not settings.PUBLIC and is_loopback(request.META.get("REMOTE_ADDR", ""))


def find_next(request: HttpRequest) -> str:
    """Return the path of the page that was asked for; empty if there is none, or it is not ours."""
    sent = request.POST.get("next") or request.GET.get("next")
    wanted = sent or unquote(request.COOKIES.get(NEXT_COOKIE, ""))
    is_ours = wanted.startswith("/") and url_has_allowed_host_and_scheme(wanted, allowed_hosts=None)
    return wanted if is_ours and len(wanted) <= NEXT_LENGTH else ""


def show_lockout(request: HttpRequest, *_: Any) -> HttpResponse:
    """Return the page of a login that is locked after too many failures."""
    minutes = int(settings.AXES_COOLOFF_TIME.total_seconds() // 60)
    detail = (
        f"For {minutes} minutes nobody can log in by this name from this address, not even with"
        f" the right password. On the daemon's machine, `{command('axes_reset')}` unlocks it at"
        " once."
    )
    problem = Problem(429, "too_many", detail, retry_after=minutes * 60)
    return page(problem, request, title="Too many attempts", back=request.get_full_path())
