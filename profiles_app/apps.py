"""Profiles and amplified directories: what a session is made of, and where."""

from django.apps import AppConfig


class ProfilesConfig(AppConfig):
    """The catalogue, which sessions are created from."""

    name = "profiles_app"
    verbose_name = "Profiles"
