"""Profiles, collections and amplified directories: what sessions are created from, and where."""

from django.apps import AppConfig


class ProfilesConfig(AppConfig):
    """The catalogue from which sessions are created."""

    name = "profiles_app"
    verbose_name = "Profiles"
