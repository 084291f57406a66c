"""The daemon's URLs. Those of the API answer with and without a trailing slash.

Streams are routed before Django sees them: `asgi.py`, `sessions_app/streaming/consumer.py`.
"""

from django.contrib import admin
from django.http import HttpRequest, HttpResponseRedirect
from django.templatetags.static import static
from django.urls import include, path, re_path
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import RedirectView

from amplifierd import views
from amplifierd.auth.signin import ask_for_link, log_in, sign_in
from amplifierd.common import problems


def add_slash(request: HttpRequest) -> HttpResponseRedirect:
    """Redirect to the same URL with a slash at the end of its path, as the admin writes it."""
    return HttpResponseRedirect(request.get_full_path(force_append_slash=True))


urlpatterns = [
    # First, because each request looks for its URL from here on.
    path("api/v1/", include("sessions_app.api.urls")),
    path("", views.index),
    re_path(r"^livez/?$", views.livez),
    re_path(r"^readyz/?$", views.readyz),
    re_path(r"^api/v1/status/?$", views.status),
    re_path(r"^api/v1/health/?$", views.health),
    re_path(r"^api/v1/openapi\.json/?$", views.openapi_json, name="openapi"),
    re_path(r"^docs/?$", views.docs, name="docs"),
    path("api/v1/", include("profiles_app.api.urls")),
    # Before Django's own answer, which is a page if DEBUG is on.
    re_path(r"^api/", csrf_exempt(problems.not_found)),
    path("favicon.ico", RedirectView.as_view(url=static("sessions_app/favicon.svg"))),
    re_path(r"^admin(?:/.*)?(?<!/)$", add_slash),
    # Before the admin's own, which knows nothing of links.
    path("admin/login/", log_in),
    path("admin/sign-in/", ask_for_link, name="ask-for-link"),
    path("admin/sign-in/<str:token>/", sign_in, name="sign-in"),
    path("admin/", admin.site.urls),
]

handler400 = problems.bad_request
handler403 = problems.permission_denied
handler404 = problems.not_found
handler500 = problems.server_error
