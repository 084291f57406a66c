"""The daemon's ASGI application.

The security middleware; behind it liveness, the streams, requests that wait for a run, and Django.
"""

from amplifierd import wsgi

# Django is set up now, which the others need.
# isort: split

from channels.routing import URLRouter
from django.conf import settings
from django.urls import URLPattern
from django.urls.resolvers import RegexPattern

from amplifierd.auth.streams import StreamAuthentication
from amplifierd.common.asgi import Application
from amplifierd.server.health import Liveness
from amplifierd.server.security import SecurityMiddleware
from amplifierd.server.send_and_wait import SendAndWait
from amplifierd.server.wsgi_adapter import WSGIAdapter
from sessions_app.api import queries
from sessions_app.streaming import consumer

SESSION = "^api/v1/sessions/(?P<session_id>[^/]+)"


def route(path: str, application: Application) -> URLPattern:
    """Return a route to an ASGI application, for which Django's functions have no type."""
    return URLPattern(RegexPattern(path, is_endpoint=True), application)


adapter = WSGIAdapter(
    wsgi.application,
    settings.WEB_THREADS,
    settings.ANSWER_SECONDS,
    is_fair=settings.REQUIRE_KEYS,
)
application = SecurityMiddleware(
    URLRouter(
        [
            *(
                URLPattern(route.pattern, StreamAuthentication(route.callback, adapter))
                for route in consumer.urlpatterns
            ),
            route(r"^livez/?$", Liveness(adapter)),
            route(rf"{SESSION}/send-message/?$", SendAndWait(adapter)),
            route(rf"{SESSION}/execute/?$", SendAndWait(adapter, queries.LONGEST_WAIT)),
            route("", adapter),
        ]
    ),
    hosts=settings.ALLOWED_HOSTS,
    origins=settings.ALLOWED_ORIGINS,
    body_limit=settings.BODY_LIMIT,
    behind_proxy=settings.BEHIND_PROXY,
    hsts=settings.SECURE_HSTS_SECONDS,
    prefix=settings.PREFIX,
)
