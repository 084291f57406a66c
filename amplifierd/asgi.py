"""The daemon's ASGI application: the guard, behind it the streams, and Django for the rest."""

from amplifierd import wsgi

# Django is set up now, which the others need.
# isort: split

from channels.routing import URLRouter
from django.conf import settings
from django.urls import URLPattern, re_path

from amplifierd.auth.streams import Door
from amplifierd.server.health import Liveness
from amplifierd.server.security import Guard
from amplifierd.server.send_and_wait import Waiting
from amplifierd.server.wsgi_adapter import Bridge
from sessions_app.api import queries
from sessions_app.streaming import routing

SESSION = "^api/v1/sessions/(?P<session_id>[^/]+)"
bridge = Bridge(wsgi.application, settings.WEB_THREADS, settings.ANSWER_SECONDS)
application = Guard(
    URLRouter(
        [
            *(
                URLPattern(route.pattern, Door(route.callback, bridge))
                for route in routing.urlpatterns
            ),
            re_path(r"^livez/?$", Liveness(bridge)),
            re_path(rf"{SESSION}/send-message/?$", Waiting(bridge)),
            re_path(rf"{SESSION}/execute/?$", Waiting(bridge, queries.LONGEST_WAIT)),
            re_path(r"", bridge),
        ]
    ),
    hosts=settings.ALLOWED_HOSTS,
    origins=settings.ALLOWED_ORIGINS,
    body_limit=settings.BODY_LIMIT,
    behind_proxy=settings.BEHIND_PROXY,
    hsts=settings.SECURE_HSTS_SECONDS,
    prefix=settings.PREFIX,
)
