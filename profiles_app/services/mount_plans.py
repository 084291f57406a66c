"""Mount plans: what a session runs with, made once from profile and overrides."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from amplifierd.common.callers import Nobody, Visibility
from amplifierd.common.redaction import find_secret
from amplifierd.common.statements import read_clock
from profiles_app.definition import MODULE_LISTS, SESSION_MODULES, TEXTS, short_name
from profiles_app.exceptions import InvalidDefinition
from profiles_app.models import Profile
from profiles_app.modules import locate
from profiles_app.services import overrides
from profiles_app.services.directories import require_directory, strip_root
from profiles_app.services.known_modules import require_known
from profiles_app.services.overrides_rules import has_address
from profiles_app.services.profiles import resolve_profile

FORMAT_VERSION = "1.0"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"

Mount = dict[str, Any]


def build_mount_plan(
    profile: Profile,
    *,
    session_id: str,
    parent_session_id: str | None,
    amplified_dir: str,
    settings_overrides: dict[str, Any],
    created_at: datetime,
) -> dict[str, Any]:
    """Return the plan of a session, as JSON data.

    `mountPoints` keeps the profile's order; `providers`, `tools`, `hooks`, `agents` and `context`
    are the same mounts by their `moduleId`. `settings` are those of the session: the profile's
    `session` and the overrides that are not modules; `session.settings` are the caller's overrides.
    References `${NAME}` stay. Raises InvalidDefinition for wrong overrides, and for a module that
    the daemon does not have.
    """
    modules = {key: item for key, item in profile.definition.items() if key not in TEXTS}
    if place := find_secret(modules, str(profile)):
        raise InvalidDefinition(
            f"{place}: the profile has a secret, which is never stored; write ${{NAME}} there."
        )
    sections = overrides.apply(profile.definition, settings_overrides)
    require_known(sections, where=f"{profile}: ")
    mounts = list(_list_mounts(str(profile), sections))
    kinds = MODULE_LISTS | TEXTS
    return {
        "formatVersion": FORMAT_VERSION,
        "profileName": str(profile),
        "session": {
            "sessionId": session_id,
            "profileId": str(profile),
            # The number of the version with which the session begins.
            "profileVersion": profile.version_number,
            "parentSessionId": parent_session_id,
            "amplifiedDir": amplified_dir,
            "settings": settings_overrides,
            "createdAt": created_at.astimezone(UTC).strftime(TIME_FORMAT),
        },
        "settings": overrides.select_settings(settings_overrides)
        | {"session": sections["session"]},
        "instruction": overrides.choose_instruction(profile.instruction, settings_overrides),
        "mountPoints": mounts,
        **{
            section: {mount["moduleId"]: mount for mount in mounts if mount["moduleType"] == kind}
            for section, kind in kinds.items()
        },
    }


def list_modules(mount_plan: dict[str, Any]) -> dict[str, Any]:
    """Return a plan as engines read it: the instruction, the mounted modules, each kind in the
    order of the profile, the context and the session's settings.

    The lists are taken from `mountPoints`: PostgreSQL keeps the order of a list, not of keys. A
    provider whose address comes from the overrides has `is_foreign`.
    """
    mounts = mount_plan.get("mountPoints", [])
    lists = {
        name: [mount["metadata"] for mount in mounts if mount["moduleType"] == kind]
        for name, kind in MODULE_LISTS.items()
    }
    given = mount_plan.get("session", {}).get("settings", {}).get("providers")
    foreign = {each["module"] for each in given or () if has_address(each)}
    lists["providers"] = [
        {**each, "is_foreign": True} if each["module"] in foreign else each
        for each in lists["providers"]
    ]
    context = {
        mount["metadata"]["name"]: mount["content"]
        for mount in mounts
        if mount["moduleType"] == "context"
    }
    return {
        "instruction": mount_plan.get("instruction", ""),
        "context": context,
        "session": mount_plan.get("settings", {}).get("session", {}),
        **lists,
    }


def readdress(
    plan: dict[str, Any], *, session_id: str, parent_session_id: str | None, created_at: datetime
) -> dict[str, Any]:
    """Return the plan with the ids and the time of another session."""
    session = {
        "sessionId": session_id,
        "parentSessionId": parent_session_id,
        "createdAt": created_at.astimezone(UTC).strftime(TIME_FORMAT),
    }
    return {**plan, "session": {**plan.get("session", {}), **session}}


def preview_mount_plan(
    profile_id: str,
    *,
    amplified_dir: str | None = None,
    session_id: str | None = None,
    settings_overrides: dict[str, Any] | None = None,
    sees: Visibility = Nobody(),
) -> dict[str, Any]:
    """Return the plan that a session of the caller would get now; nothing is stored.

    Raises what `resolve_profile` and `require_directory` raise, and InvalidDefinition for wrong
    overrides.
    """
    path = None if amplified_dir is None else strip_root(amplified_dir)
    return build_mount_plan(
        resolve_profile(profile_id),
        session_id=session_id or f"session_{uuid4().hex}",
        parent_session_id=None,
        amplified_dir=require_directory(path, sees).relative_path,
        settings_overrides=settings_overrides or {},
        created_at=read_clock(),
    )


def _list_mounts(profile: str, sections: dict[str, Any]) -> Iterator[Mount]:
    """Yield the session's own modules, then the lists, then the texts.

    Code is referenced, and is the daemon's own if it has no source; a text is embedded.
    """
    entries = [
        *((kind, sections["session"].get(key)) for key, kind in SESSION_MODULES.items()),
        *((kind, entry) for section, kind in MODULE_LISTS.items() for entry in sections[section]),
    ]
    for kind, entry in entries:
        if entry:
            yield {
                "moduleId": f"{profile}.{kind}.{short_name(entry['module'])}",
                "mountType": "referenced",
                "moduleType": kind,
                "sourcePath": entry["source"] or locate(kind, entry["module"]),
                "metadata": {"module": entry["module"], "config": entry["config"]},
            }
    for section, kind in TEXTS.items():
        for name, content in sections[section].items():
            yield {
                "moduleId": f"{profile}.{kind}.{name}",
                "mountType": "embedded",
                "moduleType": kind,
                "content": content,
                "metadata": {"name": name},
            }
