"""Django as a WSGI application: all of the daemon but its streams and its security middleware."""

import os

from django.core.signals import request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, reset_queries

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "amplifierd.settings")

application = get_wsgi_application()
# No thread has a connection when a request comes: it is given back to the pool after each one.
for receiver in (close_old_connections, reset_queries):
    request_started.disconnect(receiver)
