"""The active profile, of which there is at most one.

It is a mark for clients, which offer it first. What a new session without a profile runs with is
decided by its directory: the directory's default profile, else the nearest parent's.
"""

from django.db import transaction

from profiles_app.exceptions import ProfileNotFound
from profiles_app.models import Profile
from profiles_app.services.locks import lock_catalogue
from profiles_app.services.profiles import resolve_profile


def activate(name: str) -> Profile:
    """Make a profile the active one, in the place of any other; raise ProfileNotFound."""
    with transaction.atomic():
        lock_catalogue()
        profile = resolve_profile(name)
        Profile.objects.filter(is_active=True).exclude(pk=profile.pk).update(is_active=False)
        if not Profile.objects.filter(pk=profile.pk).update(is_active=True):
            raise ProfileNotFound
    profile.is_active = True
    return profile


def deactivate() -> None:
    """Let no profile be active."""
    Profile.objects.filter(is_active=True).update(is_active=False)
