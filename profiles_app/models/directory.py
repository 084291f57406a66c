"""The directories that sessions work in."""

from pathlib import PurePosixPath
from typing import Self

import pgtrigger
from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Now

from amplifierd.common.callers import Everyone, Owner, Visibility
from profiles_app.access import EVERYONE, Access

ROOT = "."


def lineage(path: str) -> list[str]:
    """Return a path and its parents up to the root, nearest first."""
    return [path, *map(str, PurePosixPath(path).parents)]


class AmplifiedDirectoryQuerySet(models.QuerySet["AmplifiedDirectory"]):
    """Amplified directories, by path."""

    def at(self, path: str) -> "AmplifiedDirectory | None":
        return self.filter(relative_path=path).first()

    def default_profiles(self) -> dict[str, str]:
        """Return the default profile of each path; an empty one is inherited."""
        return dict(self.values_list("relative_path", "default_profile"))

    def lineage(self, path: str) -> Self:
        """Return the amplified ones among a path and its parents."""
        return self.filter(relative_path__in=lineage(path))


class AmplifiedDirectory(models.Model):
    """A directory below the root directory that sessions may work in.

    The root itself is `.`; it exists from the first start and cannot be removed.
    """

    # Canonical, as `services.directories.clean_path` returns it.
    relative_path = models.CharField(max_length=1024, unique=True)
    # `collection/name`; the profile need not exist. Empty: that of the nearest parent.
    default_profile = models.CharField(max_length=200, blank=True, default="")
    metadata = models.JSONField(default=dict, blank=True)
    # Whose it is, where keys are required; null: the operator's, so for admins only.
    owner = models.CharField(  # noqa: DJ001 - null: nobody's name
        max_length=64,
        null=True,
        blank=True,
        help_text="The owner of API keys that may use it; empty: only admins.",
    )
    # Who else may use it: an owner's name, or `*` for everyone, → `read` or `write`.
    shares = models.JSONField(
        default=dict,
        db_default=Value({}, models.JSONField()),
        blank=True,
        help_text='Who else: {"bob": "read", "carol": "write"}; the name * is every owner.',
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = AmplifiedDirectoryQuerySet.as_manager()

    class Meta:
        ordering = ("relative_path",)
        verbose_name_plural = "amplified directories"
        constraints = [
            models.CheckConstraint(
                condition=Q(relative_path=ROOT)
                | Q(relative_path__regex=r"^[^/\\]+(/[^/\\]+)*$")
                & ~Q(relative_path__regex=r"(^|/)\.{1,2}(/|$)"),
                name="directory_path_canonical",
            ),
            models.CheckConstraint(
                condition=~Q(relative_path=ROOT) | ~Q(default_profile=""),
                name="directory_root_has_profile",
            ),
            models.CheckConstraint(condition=~Q(owner=""), name="directory_owner_named"),
            models.CheckConstraint(
                condition=Func(
                    F("shares"),
                    template="(jsonb_typeof(%(expressions)s) = 'object' AND NOT jsonb_path_exists("
                    """%(expressions)s, 'strict $.* ? (@.type() != "string" """
                    """|| @ != "read" && @ != "write")'))""",
                    output_field=models.BooleanField(),
                ),
                name="directory_shares_known",
            ),
        ]
        triggers = [
            pgtrigger.Trigger(
                name=f"directory_root_{name}",
                when=pgtrigger.Before,
                operation=operation,
                condition=condition,
                func="RAISE EXCEPTION 'the root directory cannot be removed or renamed' "
                "USING ERRCODE = 'check_violation';",
            )
            for name, operation, condition in (
                ("stays", pgtrigger.Delete, pgtrigger.Q(old__relative_path=ROOT)),
                (
                    "keeps_name",
                    pgtrigger.Update,
                    pgtrigger.Q(old__relative_path=ROOT) & ~pgtrigger.Q(new__relative_path=ROOT),
                ),
            )
        ]

    def __str__(self) -> str:
        return self.relative_path

    def access(self, sees: Visibility) -> Access:
        """Return what a caller may do in this directory, and below up to the next one."""
        if isinstance(sees, Everyone):
            return Access.WRITE
        if not isinstance(sees, Owner):
            return Access.NONE
        if sees.name and sees.name == self.owner:
            return Access.WRITE
        shared = (self.shares.get(name) for name in {sees.name, EVERYONE} if name)
        return max((Access.parse(each) for each in shared if each), default=Access.NONE)
