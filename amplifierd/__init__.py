"""The daemon: settings, ASGI application, embedded PostgreSQL and supervisor."""

__version__ = "0.1.0"
