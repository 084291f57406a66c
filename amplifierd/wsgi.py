"""Django as a WSGI application: all of the daemon but its streams and its security middleware."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "amplifierd.settings")

application = get_wsgi_application()
