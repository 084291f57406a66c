"""What the catalogue's answers are made of."""

from amplifierd.common.openapi.schema import (
    Schema,
    anything,
    by_name,
    choice,
    flag,
    free,
    listed,
    nullable,
    record,
    ref,
    text,
    time,
    whole,
)
from profiles_app.models.profile import Source

NOW = "2026-01-31T12:00:00.000000Z"
MODULE = {"module": "provider-mock", "source": None, "config": {"temperature": 0.5}}
PROFILE = {
    "name": "base",
    "collectionId": "foundation",
    "source": "shipped",
    "sourceType": "shipped",
    "isActive": False,
    "schemaVersion": 2,
    "description": "A plain assistant",
}
SECTIONS = {
    "providers": [MODULE],
    "tools": [],
    "hooks": [],
    "behaviors": [],
    "session": {"orchestrator": MODULE, "context": MODULE, "contextManager": MODULE},
}
DETAIL = {
    **PROFILE,
    **SECTIONS,
    "version": "1.0.0",
    "versionNumber": 1,
    "inheritanceChain": [],
    "instruction": "You are a helpful assistant.",
    "agents": ["zen-architect"],
    "context": ["house-rules"],
}
VERSION = {
    "number": 1,
    "isCurrent": True,
    "name": "base",
    "collectionId": "foundation",
    "version": "1.0.0",
    "description": "A plain assistant",
    "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "createdAt": NOW,
}
MOUNT = {
    "moduleId": "foundation/base.provider.mock",
    "mountType": "referenced",
    "moduleType": "provider",
    "sourcePath": "builtin:provider-mock",
    "metadata": {"module": "provider-mock", "config": {}},
}

_profile = {
    "name": text("Its name in its collection."),
    "collectionId": text("The collection; `local` for profiles made here."),
    "source": text("Where it comes from; begins with `local/` where it may be edited."),
    "sourceType": choice(*Source.values, description="What kind of place it comes from."),
    "isActive": flag("Whether it is the active profile."),
    "schemaVersion": whole(),
    "description": text(),
}
_modules = {
    "providers": listed(ref("Module")),
    "tools": listed(ref("Module")),
    "hooks": listed(ref("Module")),
    "behaviors": listed(
        {"oneOf": [text("A name."), free()]}, "As they were written; they have no effect here."
    ),
    "session": free("The session's own modules: `orchestrator`, `context` (and `contextManager`)."),
}
_version = {
    "number": whole("1, 2, …; never given twice."),
    "isCurrent": flag("Whether this is what the profile is now."),
    "name": text(),
    "collectionId": text(),
    "version": text("What the profile calls its version."),
    "description": text(),
    "digest": text("SHA-256 of what it says."),
    "createdAt": time(),
}
_check = {
    "status": text("`fresh`, `stale`, `missing` or `error`."),
    "timestamps": record(
        "When.", {"sourceModified": nullable(time()), "cacheBuilt": nullable(time())}
    ),
    "sourcePath": text("Where it is read from."),
    "cachePath": nullable(text()),
}
_update = {
    "collectionId": text(),
    "status": text(),
    "action": text("What was done: `built`, `skipped`, `removed`, …"),
    "message": text(),
    "error": nullable(text()),
}
_collection = {
    "id": text(),
    "identifier": text("The same as `id`."),
    "source": text("A folder, a git URL, or what shipped it."),
    "type": text(),
    "ref": nullable(text()),
    "subdirectory": nullable(text()),
    "version": nullable(text()),
    "commit": nullable(text()),
    "digest": nullable(text()),
    "description": nullable(text()),
    "isRemovable": flag(),
    "profiles": listed(text(), "Names of its profiles."),
    "profilesCount": whole(),
    "profiles_count": whole(),
    "installedAt": nullable(time()),
    "installed_at": nullable(time()),
    "syncedAt": nullable(time()),
    "last_synced": nullable(time()),
    "lastError": nullable(text()),
}
_found = {
    "id": text("May have slashes."),
    "type": choice("provider", "tool", "hook", "orchestrator", "context-manager", "unknown"),
    "name": text(),
    "location": text(
        "Where its code is; `builtin:…` for the daemon's own, `package:…` for one of an "
        "installed package."
    ),
    "collection": nullable(text("null: the daemon's own.")),
    "description": nullable(text()),
}
_holds = {
    "agents": listed(anything()),
    "context": listed(anything()),
    "modules": listed(ref("ModuleInfo")),
    "cachePath": nullable(text()),
}


def _both(properties: dict[str, Schema]) -> dict[str, Schema]:
    """Return the properties in camelCase and in snake_case: answers on directories have both."""
    camel = {}
    for name, schema in properties.items():
        first, *rest = name.split("_")
        camel[first + "".join(map(str.capitalize, rest))] = schema
    return camel | properties


_directory = {
    "relative_path": text("Below the root directory; `.` is the root itself."),
    "path": text("The absolute path."),
    "metadata": free("Merged by PATCH; has the `default_profile` that counts here."),
    "created_at": time(),
    "updated_at": time(),
    "default_profile": text("The profile of sessions here: its own, or the nearest parent's."),
    "is_amplified": flag(),
}

COMPONENTS: dict[str, Schema] = {
    "Module": record(
        "A module, and how it is configured. `${NAME}` is read from the environment at run time.",
        {"module": text(), "source": nullable(text()), "config": free()},
        example=MODULE,
    ),
    "Profile": record("A profile in a list.", _profile, example=PROFILE),
    "ProfileDetail": record(
        "A profile with all that it defines; of agents and context, the names. Secrets are masked.",
        {
            **_profile,
            "version": text("What the profile calls its version."),
            "versionNumber": whole("The number of the version that it is now."),
            "inheritanceChain": listed(text(), "Empty: profiles of schema 2 inherit nothing."),
            "instruction": text("The system instruction."),
            **_modules,
            "agents": listed(text()),
            "context": listed(text()),
        },
        example=DETAIL,
    ),
    "ProfileVersion": record("A version in a list.", _version, example=VERSION),
    "ProfileVersionDetail": record(
        "A version with all that it defines, the texts of agents and context too.",
        {
            **_version,
            "instruction": text(),
            **_modules,
            "agents": by_name(text()),
            "context": by_name(text()),
        },
        example={
            **VERSION,
            **SECTIONS,
            "instruction": "You are a helpful assistant.",
            "agents": {},
            "context": {},
        },
    ),
    "Difference": record(
        "A place that differs; `before` and `after` are there where there is such a thing.",
        {"path": text("`providers.provider-openai.config.top_p`"), "before": {}, "after": {}},
        optional="before after",
    ),
    "ProfileDiff": record(
        "What differs between two versions of a profile.",
        {
            "name": text(),
            "collectionId": text(),
            "from": whole("The older version."),
            "to": whole("The newer version."),
            "added": listed(ref("Difference")),
            "removed": listed(ref("Difference")),
            "changed": listed(ref("Difference")),
            "unified": text("The same as a unified diff."),
        },
        example={
            "name": "mine",
            "collectionId": "local",
            "from": 1,
            "to": 2,
            "added": [],
            "removed": [],
            "changed": [{"path": "description", "before": "old", "after": "new"}],
            "unified": "-description: old\n+description: new\n",
        },
    ),
    "Activated": record("The profile is active.", {"status": choice("activated"), "name": text()}),
    "Compiled": record(
        "A session would find all that the profile names.",
        {
            "status": choice("compiled"),
            "collectionId": text(),
            "profileName": text(),
            "name": text("`collection/name`"),
            "compiledPath": text("URL of the version that was looked at."),
        },
    ),
    "Success": record("It is done.", {"success": flag()}, example={"success": True}),
    "AmplifiedDirectory": record("An amplified directory, in both casings.", _both(_directory)),
    "AmplifiedDirectoryDetail": record(
        "An amplified directory with its instructions for agents, in both casings.",
        _both(_directory | {"agents_content": nullable(text("What its AGENTS.md says."))}),
    ),
    "AmplifiedDirectories": record(
        "All of them, in order of their paths.",
        {"directories": listed(ref("AmplifiedDirectory")), "total": whole()},
    ),
    "AgentsWritten": record("AGENTS.md is written.", {"success": flag(), "message": text()}),
    "DirectoryList": record(
        "The directories in a directory, in both casings.",
        _both(
            {
                "current_path": text("`.` is the root."),
                "parent_path": nullable(text("null at the root.")),
                "directories": listed(text(), "Their names, in order."),
                "truncated": flag("Whether there are more than are listed."),
                "left_out": whole("Directories whose names cannot be written as JSON."),
            }
        ),
    ),
    "FileList": record(
        "The files and directories in a directory, in both casings.",
        _both(
            {
                "current_path": text("Empty at the root."),
                "parent_path": nullable(text("null at the root.")),
                "files": listed(
                    record(
                        "A file or directory.",
                        _both(
                            {
                                "name": text(),
                                "path": text("Below the root."),
                                "type": choice("file", "directory"),
                                "size": nullable(whole("Bytes; null for a directory.")),
                                "modified_at": time(),
                            }
                        ),
                    ),
                    "In order of their names.",
                ),
                "truncated": flag("Whether there are more than are listed."),
                "left_out": whole("Entries whose names cannot be written as JSON."),
            }
        ),
    ),
    "FileContent": record(
        "A file and its text, in both casings.",
        _both(
            {
                "path": text("Below the root."),
                "name": text(),
                "size": whole("Bytes."),
                "modified_at": time(),
                "media_type": text("As its name tells."),
                "content": nullable(text("null where it is not UTF-8.")),
                "is_binary": flag("Whether it is not UTF-8: download it."),
                "truncated": flag("Whether this is only its first MiB."),
            }
        ),
    ),
    "DirectoryCreated": record(
        "The directory that is there now, in both casings.",
        _both({"created_path": text("Below the root."), "absolute_path": text()}),
    ),
    "Mount": record(
        "One thing that a session runs with: code by its place, or a text by itself.",
        {
            "moduleId": text("`collection/profile.type.name`"),
            "mountType": choice("referenced", "embedded"),
            "moduleType": text(),
            "sourcePath": text("Where the code is (`referenced`)."),
            "content": text("The text itself (`embedded`)."),
            "metadata": free(),
        },
        optional="sourcePath content",
        example=MOUNT,
    ),
    "MountPlan": record(
        "What a session runs with, worked out from profile and overrides. Secrets are masked.",
        {
            "formatVersion": text(),
            "profileName": text(),
            "session": free(
                "`sessionId`, `profileId`, `profileVersion`, `parentSessionId`, `amplifiedDir`,"
                " `settings` (as the caller gave them), `createdAt`."
            ),
            "settings": free("What counts for the session, but for its modules."),
            "instruction": nullable(text("The system instruction.")),
            "mountPoints": listed(ref("Mount"), "All mounts, in the profile's order."),
            **{
                section: by_name(ref("Mount"), "The same mounts by `moduleId`.")
                for section in ("providers", "tools", "hooks", "agents", "context")
            },
        },
        example={
            "formatVersion": "1.0",
            "profileName": "foundation/base",
            "session": {"sessionId": "session_0123", "profileId": "foundation/base"},
            "settings": {"session": {}},
            "instruction": "You are a helpful assistant.",
            "mountPoints": [MOUNT],
            "providers": {MOUNT["moduleId"]: MOUNT},
            **{section: {} for section in ("tools", "hooks", "agents", "context")},
        },
    ),
    "Collection": record("A folder or git repository of profiles.", _collection),
    "CollectionDetail": record("A collection and all that it holds.", _collection | _holds),
    "CollectionAdded": record(
        "A collection that was added, with all that it holds.",
        _collection
        | _holds
        | {
            "status": choice("mounted"),
            "profileCount": whole(),
            "profile_count": whole(),
            "profiles_discovered": whole(),
            "message": text(),
        },
    ),
    "Synced": record(
        "What came of reading one source anew.",
        {
            "collectionId": text(),
            "status": text(),
            "added": listed(text()),
            "updated": listed(text()),
            "removed": listed(text()),
            "refused": listed(free(), "Files that are no valid profiles, and why."),
            "error": nullable(text()),
        },
    ),
    "SyncResult": record(
        "Each collection's status, then the details.",
        {
            "collections": by_name(text()),
            "modules": by_name(text()),
            "results": listed(ref("Synced")),
        },
    ),
    "ModuleInfo": record("A module that is known.", _found, optional="description"),
    "ModuleDetail": record(
        "A module that is known.",
        _found | {"configSchema": anything("null: not known.")},
        optional="description",
    ),
    "ProfileCheck": record(
        "The state of one profile against its source.", {"profileId": text(), **_check}
    ),
    "CollectionCheck": record(
        "The state of one collection against its source.",
        {
            "collectionId": text(),
            **_check,
            "profiles": listed(ref("ProfileCheck")),
            "error": nullable(text()),
        },
    ),
    "CacheStatus": record(
        "The state of all collections.",
        {"overallStatus": text(), "collections": listed(ref("CollectionCheck"))},
    ),
    "ProfileUpdate": record(
        "What an update meant for one profile.", {"profileId": text(), **_update}
    ),
    "CollectionUpdate": record(
        "What came of the update of one collection.",
        {**_update, "profiles": listed(ref("ProfileUpdate"))},
    ),
    "CacheUpdate": record(
        "What came of an update.",
        {
            "overallStatus": text(),
            "collections": listed(ref("CollectionUpdate")),
            "summary": record(
                "How many profiles.",
                {
                    "totalBuilt": whole(),
                    "totalSkipped": whole(),
                    "totalRemoved": whole(),
                    "totalErrors": whole("Collections that could not be read."),
                },
            ),
        },
    ),
}
