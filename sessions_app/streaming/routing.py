"""The URLs of streams, which are served outside Django's handler."""

from django.urls import re_path

from sessions_app.streaming.consumer import StreamConsumer, TreeConsumer
from sessions_app.streaming.feed_consumer import FeedConsumer

urlpatterns = [
    re_path(r"^api/v1/sessions/(?P<session_id>[^/]+)/stream/?$", StreamConsumer.as_asgi()),
    re_path(r"^api/v1/events/stream/?$", FeedConsumer.as_asgi()),
    re_path(r"^api/v1/events/?$", TreeConsumer.as_asgi()),
]
