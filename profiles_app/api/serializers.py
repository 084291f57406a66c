"""The answers of the catalogue's API. No answer has a literal secret.

Clients of different versions read a collection by `id` or `identifier`, and directories in
camelCase or snake_case.
"""

from collections import Counter
from dataclasses import asdict
from datetime import datetime
from typing import Any

from amplifierd.common.formats import stamp
from amplifierd.common.openapi.schema import (
    anything,
    by_name,
    choice,
    deprecate,
    flag,
    free,
    list_of,
    nullable,
    record,
    ref,
    text,
    time,
    whole,
)
from amplifierd.common.redaction import redact
from amplifierd.common.serializers import Member, OutputSerializer
from profiles_app.access import SHARED
from profiles_app.definition import BEHAVIORS, TEXTS
from profiles_app.models import AmplifiedDirectory, Profile, ProfileVersion
from profiles_app.models.profile import Source
from profiles_app.profile_format import redact_texts
from profiles_app.services import collections_sync, directories
from profiles_app.services.collections_sync import CollectionCheck, SyncResult, UpdateResult
from profiles_app.services.profile_validation import find_warnings

NAME = text("Its name in its collection.", example="base")
COLLECTION = text(example="foundation")
MODULE = {"module": "provider-mock", "source": None, "config": {"temperature": 0.5}}
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


class ModuleSerializer(OutputSerializer):
    """A module, and how it is configured.
    `${NAME}` is read from the environment at run time."""

    module = text(example="provider-mock")
    source = nullable(text())
    config = free(example={"temperature": 0.5})


class Modules:
    """The sections of a definition that name modules."""

    providers = list_of(ref(ModuleSerializer))
    tools = list_of(ref(ModuleSerializer), example=[])
    hooks = list_of(ref(ModuleSerializer), example=[])
    behaviors = list_of(
        {"oneOf": [text("A name."), free()]},
        "As they were written; they have no effect here.",
        example=[],
    )
    session = free(
        "The session's own modules: `orchestrator`, `context` (and `contextManager`).",
        example=dict.fromkeys(("orchestrator", "context", "contextManager"), MODULE),
    )


class WarningSerializer(OutputSerializer):
    """What a session with the profile would do without."""

    field = text("The section of the profile.", example="tools")
    code = text("For programs.", example="tools_left_out")
    detail = text(
        "Why, and what to do.",
        example="The model of provider-local cannot call tools, so those of this profile are left"
        " out: tool-bash. provider-openai needs the environment variable OPENAI_API_KEY,"
        " which is not set. Put it into the environment or the .env file, and restart.",
    )


WARNINGS = list_of(
    ref(WarningSerializer), "What a session would do without, such as tools.", example=[]
)


class ProfileSerializer(OutputSerializer):
    """A profile in a list."""

    name = NAME
    collectionId = Member(
        text("The collection; `local` for profiles made here.", example="foundation"), "collection"
    )
    source = Member(
        text("Where it comes from; begins with `local/` if it can be changed.", example="shipped"),
        lambda profile: f"local/{profile.name}" if profile.is_local else profile.source,
    )
    sourceType = Member(choice(*Source.values, description="The kind of its source."), "source")
    isActive = flag("Whether it is the active profile.", example=False)
    schemaVersion = whole(example=2)
    description = text(example="A plain assistant")


class ProfileDetailSerializer(ProfileSerializer, Modules):
    """A profile in full, but only the names of its agents and context. Secrets are masked."""

    version = text("What the profile calls its version.", example="1.0.0")
    versionNumber = whole("The number of the version that it is now.")
    inheritanceChain = list_of(text(), "Empty: profiles of schema 2 inherit nothing.", example=[])
    instruction = text("The system instruction.", example="You are a helpful assistant.")
    agents = list_of(text(), example=["zen-architect"])
    context = list_of(text(), example=["house-rules"])
    warnings = Member(WARNINGS, lambda profile: find_warnings(profile.definition))


class ProfileVersionSerializer(OutputSerializer):
    """A version in a list."""

    number = whole("1, 2, …; never used twice.")
    isCurrent = flag("Whether this is what the profile is now.")
    name = NAME
    collectionId = COLLECTION
    version = text("What the profile calls its version.", example="1.0.0")
    description = text(example="A plain assistant")
    digest = text("SHA-256 of what it says.", example=DIGEST)
    createdAt = time()


class ProfileVersionDetailSerializer(ProfileVersionSerializer, Modules):
    """A version with all that it defines, the texts of agents and context too."""

    instruction = text(example="You are a helpful assistant.")
    agents = by_name(text(), example={})
    context = by_name(text(), example={})


class DifferenceSerializer(OutputSerializer, optional="before after"):
    """A difference; without `before` the value was added, without `after` removed."""

    path = text("`providers.provider-openai.config.top_p`", example="description")
    before = anything()
    after = anything()


class ProfileDiffSerializer(OutputSerializer):
    """What differs between two versions of a profile."""

    name = NAME
    collectionId = COLLECTION
    from_ = whole("The older version.", example=1)
    to = whole("The newer version.", example=2)
    added = list_of(ref(DifferenceSerializer), example=[])
    removed = list_of(ref(DifferenceSerializer), example=[])
    changed = list_of(
        ref(DifferenceSerializer),
        example=[{"path": "description", "before": "old", "after": "new"}],
    )
    unified = text("The same as a unified diff.", example="-description: old\n+description: new\n")


class ActivatedSerializer(OutputSerializer):
    """The profile is active."""

    status = choice("activated")
    name = NAME


class CompiledSerializer(OutputSerializer):
    """A session would find all that the profile names."""

    status = choice("compiled")
    collectionId = Member(COLLECTION, "collection")
    profileName = Member(NAME, "name")
    name = Member(text("`collection/name`", example="foundation/base"), str)
    compiledPath = Member(
        text("URL of the version that was checked."),
        lambda profile: f"/api/v1/profiles/{profile}/versions/{profile.version_number}",
    )
    warnings = Member(WARNINGS, lambda profile: find_warnings(profile.definition))


class SuccessSerializer(OutputSerializer):
    """It is done."""

    success = flag()


class MountSerializer(
    OutputSerializer,
    optional="sourcePath content",
    example={
        "moduleId": "foundation/base.provider.mock",
        "mountType": "referenced",
        "moduleType": "provider",
        "sourcePath": "builtin:provider-mock",
        "metadata": {"module": "provider-mock", "config": {}},
    },
):
    """A module or text of a session: code by its place, a text with its content."""

    moduleId = text("`collection/profile.type.name`")
    mountType = choice("referenced", "embedded")
    moduleType = text()
    sourcePath = text("Where the code is (`referenced`).")
    content = text("The text itself (`embedded`).")
    metadata = free()


class MountPlanSerializer(OutputSerializer):
    """What a session runs with, made from profile and overrides. Secrets are masked."""

    formatVersion = text(example="1.0")
    profileName = text(example="foundation/base")
    session = free(
        "`sessionId`, `profileId`, `profileVersion`, `parentSessionId`, `amplifiedDir`, `settings`"
        " (as the caller gave them), `createdAt`.",
        example={"sessionId": "session_0123", "profileId": "foundation/base"},
    )
    settings = free("The settings of the session, without its modules.", example={"session": {}})
    instruction = nullable(text("The system instruction.", example="You are a helpful assistant."))
    mountPoints = list_of(ref(MountSerializer), "All mounts, in the profile's order.")
    providers = tools = hooks = agents = context = by_name(
        ref(MountSerializer), "The same mounts by `moduleId`."
    )


class AmplifiedDirectorySerializer(OutputSerializer, both_casings=True):
    """An amplified directory, in both casings."""

    relative_path = text("Below the root directory; `.` is the root itself.", example=".")
    path = Member(
        text("The absolute path."),
        lambda directory: str(directories.absolute_path(directory.relative_path)),
    )
    metadata = free("Merged by PATCH; has the effective `default_profile`.")
    created_at = time()
    updated_at = time()
    default_profile = text("The profile of sessions here: its own, or the nearest parent's.")
    is_amplified = Member(flag(), lambda directory: True)
    owner = nullable(text("Whose keys may use it, if keys are required; null: only admins."))
    shares = by_name(choice(*SHARED), "Who else: the name of an owner, or `*` for every one.")


class AmplifiedDirectoryDetailSerializer(AmplifiedDirectorySerializer, both_casings=True):
    """An amplified directory with its instructions for agents, in both casings."""

    agents_content = nullable(text("What its AGENTS.md says."))


class AmplifiedDirectoriesSerializer(OutputSerializer):
    """All of them, in order of their paths."""

    directories = list_of(ref(AmplifiedDirectorySerializer))
    total = whole()


class AgentsWrittenSerializer(OutputSerializer):
    """AGENTS.md is written."""

    success = flag()
    message = text()


class DirectoryListSerializer(OutputSerializer, both_casings=True):
    """The directories in a directory, in both casings."""

    current_path = Member(text("`.` is the root.", example="."), "path")
    parent_path = Member(nullable(text("null at the root.")), "parent")
    directories = Member(list_of(text(), "Their names, in order."), "entries")
    truncated = Member(flag("Whether there are more than are listed."), "is_truncated")
    left_out = Member(whole("Directories whose names cannot be written as JSON."), "unnamable")


class DirectoryEntrySerializer(OutputSerializer, both_casings=True):
    """A file or directory."""

    name = text()
    path = text("Below the root.")
    type = Member(
        choice("file", "directory"), lambda entry: "directory" if entry.is_directory else "file"
    )
    size = nullable(whole("Bytes; null for a directory."))
    modified_at = time()


class FileListSerializer(OutputSerializer, both_casings=True):
    """The files and directories in a directory, in both casings."""

    current_path = Member(text("Empty at the root."), "path")
    parent_path = Member(nullable(text("null at the root.")), "parent")
    files = Member(
        list_of(ref(DirectoryEntrySerializer), "In order of their names."),
        lambda found: [DirectoryEntrySerializer.serialize(entry) for entry in found.entries],
    )
    truncated = Member(flag("Whether there are more than are listed."), "is_truncated")
    left_out = Member(whole("Entries whose names cannot be written as JSON."), "unnamable")


class FileContentSerializer(OutputSerializer, both_casings=True):
    """A file and its text, in both casings."""

    path = text("Below the root.")
    name = Member(text(), lambda content: content.path.rpartition("/")[2])
    size = whole("Bytes.")
    modified_at = time()
    media_type = text("By its name.")
    content = Member(nullable(text("null if it is not UTF-8.")), "text")
    is_binary = Member(
        flag("Whether it is not UTF-8: download it."), lambda content: content.text is None
    )
    truncated = Member(flag("Whether this is only its first MiB."), "is_truncated")


class DirectoryCreatedSerializer(OutputSerializer, both_casings=True):
    """The directory that now exists, in both casings."""

    created_path = text("Below the root.")
    absolute_path = text()


class ModuleInfoSerializer(OutputSerializer, optional="description"):
    """A known module."""

    id = text("May have slashes.", example="provider-mock")
    type = choice("provider", "tool", "hook", "orchestrator", "context-manager", "unknown")
    name = text(example="provider-mock")
    location = text(
        "Where its code is; `builtin:…` for the daemon's own, `package:…` for one of an"
        " installed package."
    )
    collection = nullable(text("null: the daemon's own."))
    description = nullable(text())


class ModuleDetailSerializer(ModuleInfoSerializer):
    """A known module in full."""

    configSchema = anything("null: not known.")


class CollectionSerializer(OutputSerializer):
    """A folder or git repository of profiles."""

    id = Member(text(), "name")
    identifier = Member(text("The same as `id`."), "name")
    source = Member(text("A folder, a git URL, or what shipped it."), "address")
    type = Member(text(), "kind")
    ref = Member(nullable(text()), lambda collection: collection.ref or None)
    subdirectory = Member(nullable(text()), lambda collection: collection.subdirectory or None)
    version = Member(
        nullable(text()), lambda collection: collection.commit or collection.digest or None
    )
    commit = Member(nullable(text()), lambda collection: collection.commit or None)
    digest = Member(nullable(text()), lambda collection: collection.digest or None)
    description = Member(nullable(text()), lambda collection: None)
    isRemovable = Member(flag(), "is_added")
    profiles = Member(list_of(text(), "Names of its profiles."), "profile_names")
    profilesCount = Member(whole(), lambda collection: len(collection.profile_names))
    profiles_count = profilesCount._replace(schema=deprecate(whole(), "`profilesCount`"))
    installedAt = Member(nullable(time()), "created_at")
    installed_at = Member(deprecate(nullable(time()), "`installedAt`"), "created_at")
    syncedAt = Member(nullable(time()), "synced_at")
    last_synced = Member(deprecate(nullable(time()), "`syncedAt`"), "synced_at")
    lastError = Member(nullable(text()), lambda collection: collection.last_error or None)


class CollectionDetailSerializer(CollectionSerializer):
    """A collection with all its contents."""

    agents = Member(list_of(anything()), lambda collection: collection.contents["agents"])
    context = Member(list_of(anything()), lambda collection: collection.contents["context"])
    modules = Member(
        list_of(ref(ModuleInfoSerializer)),
        lambda collection: [
            module | {"collection": collection.name} for module in collection.contents["modules"]
        ],
    )
    cachePath = Member(nullable(text()), lambda collection: None)


class CollectionAddedSerializer(CollectionDetailSerializer):
    """A collection that was added, with all its contents."""

    status = choice("mounted")
    profileCount = whole()
    profile_count = profiles_discovered = deprecate(whole(), "`profileCount`")
    message = text()


class SyncedSerializer(OutputSerializer):
    """The outcome of syncing one collection."""

    collectionId = Member(text(), "collection")
    status = text()
    added = Member(list_of(text()), "loaded.created")
    updated = Member(list_of(text()), "loaded.updated")
    removed = Member(list_of(text()), "loaded.removed")
    refused = Member(
        list_of(free(), "Invalid files, and why."),
        lambda result: [asdict(item) for item in result.errors],
    )
    error = nullable(text())


class SyncResultSerializer(OutputSerializer):
    """Each collection's status, then the details."""

    collections = by_name(text())
    modules = by_name(text())
    results = list_of(ref(SyncedSerializer))


class Checked:
    """The state of a collection or profile compared with its source."""

    status = text("`fresh`, `stale`, `missing` or `error`.", example="fresh")
    timestamps = Member(
        record("When.", {"sourceModified": nullable(time()), "cacheBuilt": nullable(time())}),
        lambda check: {"sourceModified": None, "cacheBuilt": stamp_of(check.collection.synced_at)},
    )
    sourcePath = Member(text("Where it is read from."), "collection.address")
    cachePath = Member(nullable(text()), lambda check: None)


class ProfileCheckSerializer(OutputSerializer, Checked):
    """The state of one profile compared with its source."""

    profileId = text()


class CollectionCheckSerializer(OutputSerializer, Checked):
    """The state of one collection compared with its source."""

    collectionId = Member(text(), "collection.name")
    profiles = Member(
        list_of(ref(ProfileCheckSerializer)),
        lambda check: [serialize_profile_check(check, name) for name in sorted(check.profiles)],
    )
    error = nullable(text())


class CacheStatusSerializer(OutputSerializer):
    """The state of all collections."""

    overallStatus = text()
    collections = list_of(ref(CollectionCheckSerializer))


class UpdatedMembers:
    """The outcome of an update for a collection or profile."""

    collectionId = Member(text(), "collection")
    status = text()
    action = text("What was done: `built`, `skipped`, `removed`, …")
    message = text()
    error = nullable(text())


class ProfileUpdateSerializer(OutputSerializer, UpdatedMembers):
    """The outcome of an update for one profile."""

    profileId = text()


class CollectionUpdateSerializer(OutputSerializer, UpdatedMembers):
    """The outcome of updating one collection."""

    profiles = Member(
        list_of(ref(ProfileUpdateSerializer)),
        lambda result: [
            serialize_profile_update(result, name, *each)
            for name, each in sorted(result.profiles.items())
        ],
    )


class CacheUpdateSerializer(OutputSerializer):
    """The outcome of an update."""

    overallStatus = text()
    collections = list_of(ref(CollectionUpdateSerializer))
    summary = record(
        "How many profiles.",
        {
            "totalBuilt": whole(),
            "totalSkipped": whole(),
            "totalRemoved": whole(),
            "totalErrors": whole("Collections that could not be read."),
        },
    )


def serialize_profile(profile: Profile) -> dict[str, Any]:
    """Return a profile with all that it defines; only the names of agents and context."""
    names = {section: list(profile.definition[section]) for section in TEXTS}
    return ProfileDetailSerializer.serialize(
        profile, inheritanceChain=[], **serialize_modules(profile.definition), **names
    )


def serialize_version(
    version: ProfileVersion, profile: Profile, *, in_full: bool = False
) -> dict[str, Any]:
    """Return a version of a profile: as in a list, or in full."""
    place = {
        "name": profile.name,
        "collectionId": profile.collection,
        "isCurrent": version.number == profile.version_number,
    }
    if not in_full:
        return ProfileVersionSerializer.serialize(version, **place)
    sections = serialize_modules(version.definition) | redact_texts(version.definition)
    return ProfileVersionDetailSerializer.serialize(version, **place, **sections)


def serialize_modules(definition: dict[str, Any]) -> dict[str, Any]:
    """Return the sections that name modules, with their secrets masked.

    Some clients read the session's context module as `contextManager`.
    """
    sections = redact({key: item for key, item in definition.items() if key not in TEXTS})
    session = sections["session"]
    if "context" in session:
        session = session | {"contextManager": session["context"]}
    return {BEHAVIORS: []} | sections | {"session": session}


def serialize_directory(
    directory: AmplifiedDirectory,
    kind: type[OutputSerializer],
    profile: str | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """Return a directory; `profile` is its effective profile, if the caller knows it."""
    profile = profile or directories.find_default_profile(directory)
    metadata = redact(directory.metadata) | {"default_profile": profile}
    return kind.serialize(directory, metadata=metadata, default_profile=profile, **extra)


def serialize_sync(results: list[SyncResult]) -> dict[str, Any]:
    """Return the outcome of syncing: each collection's status, then the details."""
    return SyncResultSerializer.serialize(
        collections={result.collection: result.status for result in results},
        modules={},
        results=[SyncedSerializer.serialize(result) for result in results],
    )


def serialize_profile_check(check: CollectionCheck, profile: str) -> dict[str, Any]:
    status = check.profiles[profile]
    return ProfileCheckSerializer.serialize(check, profileId=profile, status=status)


def serialize_checks(checks: list[CollectionCheck]) -> dict[str, Any]:
    return CacheStatusSerializer.serialize(
        overallStatus=collections_sync.find_worst_status(check.status for check in checks),
        collections=[CollectionCheckSerializer.serialize(check) for check in checks],
    )


def serialize_profile_update(
    result: UpdateResult, profile: str, status: str, action: str
) -> dict[str, Any]:
    return ProfileUpdateSerializer.serialize(
        result, profileId=profile, status=status, action=action
    )


def serialize_updates(results: list[UpdateResult]) -> dict[str, Any]:
    actions = Counter(action for result in results for _, action in result.profiles.values())
    return CacheUpdateSerializer.serialize(
        overallStatus=collections_sync.find_worst_status(result.status for result in results),
        collections=[CollectionUpdateSerializer.serialize(result) for result in results],
        summary={
            "totalBuilt": actions[collections_sync.BUILT],
            "totalSkipped": actions[collections_sync.SKIPPED],
            "totalRemoved": actions[collections_sync.REMOVED],
            "totalErrors": sum(result.error is not None for result in results),
        },
    )


def stamp_of(moment: datetime | None) -> str | None:
    return stamp(moment) if moment else None
