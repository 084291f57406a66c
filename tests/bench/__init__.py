"""Measuring the daemon: `manage.py bench`."""
