"""The errors of the catalogue. A docstring is the default message for clients."""

from typing import Any

from amplifierd.common.errors import ServiceError


class ProfilesError(ServiceError):
    """The request cannot be carried out."""


class ProfileNotFound(ProfilesError, status=404):
    """There is no such profile. List the profiles that exist with GET /api/v1/profiles/."""


class ProfileExists(ProfilesError, status=409):
    """There is a local profile of this name already. Change it with PATCH, or choose another."""


class ProfileReadOnly(ProfilesError, status=403):
    """Only profiles of the collection `local` change. Copy this one, and change the copy."""


class ProfileActive(ProfilesError, status=409):
    """The active profile stays. Deactivate it with DELETE /api/v1/profiles/active first."""


class StaleVersion(ProfilesError, status=409):
    """The profile was changed meanwhile. Read it again, and apply your change to that."""

    def __init__(self, expected: int, current: int) -> None:
        super().__init__(
            f"The profile is at version {current} and no longer at {expected}. Read it again, and "
            "apply your change to that.",
            expected=expected,
            current=current,
        )


class VersionNotFound(ProfilesError, status=404):
    """The profile has no such version. List them with GET …/versions."""


class NotCompilable(ProfilesError):
    """A session could not run with this profile."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        first, others = errors[0], len(errors) - 1
        more = f" ({others} more in errors)" if others else ""
        super().__init__(f"{first['field']}: {first['detail']}{more}", errors=errors)


class InvalidDefinition(ProfilesError):
    """This is not a valid profile definition; compare it with a shipped profile."""


class LiteralSecret(InvalidDefinition):
    """A secret is never stored: write a reference such as `${NAME}` in its place."""


class InvalidPath(ProfilesError):
    """Give a directory as a path below the root directory: `projects/app`, or `.` for the root."""


class DirectoryNotAmplified(ProfilesError):
    """The directory is not amplified. Amplify it first, or use the root directory `.`."""


class DirectoryNotFound(ProfilesError, status=404):
    """Not found: the directory is not amplified. GET /api/v1/amplified-directories/ lists all."""


class RootReserved(ProfilesError, status=403):
    """The root directory is the operator's. Name one of your directories as `amplified_dir`:
    GET /api/v1/amplified-directories/ lists those that you may use; an admin can make you one."""


class SharedReadOnly(ProfilesError, status=403):
    """The directory is shared with you read-only. Ask its owner for write access."""


class NotYours(ProfilesError, status=403):
    """Only the owner of the directory, or an admin, may do this."""


class TooManyDirectories(ProfilesError, status=429):
    """The owner has as many amplified directories as it may (AMPLIFIERD_OWNER_DIRECTORIES). Use one
    of them for several sessions, or deregister some."""


class DirectoryExists(ProfilesError):
    """The directory is already amplified. Change it with PATCH."""


class RootStays(ProfilesError, status=409):
    """The root directory is always amplified. Change it with PATCH."""


class FolderNotFound(ProfilesError, status=404):
    """Not found: there is no such directory on the disk, below the root directory."""


class FileNotFound(ProfilesError, status=404):
    """Not found: there is no such file on the disk, below the root directory."""


class DiskDenied(ProfilesError, status=403):
    """The daemon's user may not do this on the disk; give it the right, or choose another place."""


class DiskFull(ProfilesError, status=503):
    """The disk is full; free some space, then try again."""


class DiskFailed(ProfilesError, status=503):
    """The disk failed; try again, or look at the machine's log."""


class InvalidSource(ProfilesError):
    """This is not a source of a collection; give the absolute path of a folder, or a git URL."""


class SourceUnreadable(ProfilesError):
    """The source of the collection cannot be read; check it and try again."""


class InvalidFiles(ProfilesError):
    """Files of the collection are refused; nothing of it was changed."""


class CollectionNotFound(ProfilesError, status=404):
    """There is no such collection. List them with GET /api/v1/collections/."""


class CollectionExists(ProfilesError, status=409):
    """There is a collection of this name already. Remove it first, or choose another name."""


class CollectionStays(ProfilesError, status=403):
    """The collection comes with the daemon and cannot be removed."""


class CollectionInUse(ProfilesError, status=409):
    """The active profile is one of this collection. Activate another one first."""


class CollectionBusy(ProfilesError, status=409):
    """The collection was changed by another request meanwhile. Try again."""


class ModuleNotFound(ProfilesError, status=404):
    """There is no such module. List them with GET /api/v1/modules/."""
