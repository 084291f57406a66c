"""The errors of the catalogue. A docstring is the default message for clients."""

from typing import Any

from amplifierd.common.errors import ServiceError


class ProfilesError(ServiceError):
    """The request cannot be carried out."""


class ProfileNotFound(ProfilesError):
    """There is no such profile. List the profiles that exist with GET /api/v1/profiles/."""

    status = 404
    code = "not_found"


class ProfileExists(ProfilesError):
    """There is a local profile of this name already. Change it with PATCH, or choose another."""

    status = 409
    code = "conflict"


class ProfileReadOnly(ProfilesError):
    """Only profiles of the collection `local` change. Copy this one, and change the copy."""

    status = 403
    code = "permission_denied"


class ProfileActive(ProfilesError):
    """The active profile stays. Deactivate it with DELETE /api/v1/profiles/active first."""

    status = 409
    code = "conflict"


class StaleVersion(ProfilesError):
    """The profile was changed meanwhile. Read it again, and apply your change to that."""

    status = 409
    code = "conflict"

    def __init__(self, expected: int, current: int) -> None:
        super().__init__(
            f"The profile is at version {current} and no longer at {expected}. Read it again, and "
            "apply your change to that.",
            expected=expected,
            current=current,
        )


class VersionNotFound(ProfilesError):
    """The profile has no such version. List them with GET …/versions."""

    status = 404
    code = "not_found"


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


class DirectoryNotFound(ProfilesError):
    """Not found: the directory is not amplified. GET /api/v1/amplified-directories/ lists all."""

    status = 404
    code = "not_found"


class DirectoryExists(ProfilesError):
    """The directory is already amplified. Change it with PATCH."""


class RootStays(ProfilesError):
    """The root directory is always amplified. Change it with PATCH."""

    status = 409
    code = "conflict"


class FolderNotFound(ProfilesError):
    """Not found: there is no such directory on the disk, below the root directory."""

    status = 404
    code = "not_found"


class FileNotFound(ProfilesError):
    """Not found: there is no such file on the disk, below the root directory."""

    status = 404
    code = "not_found"


class DiskDenied(ProfilesError):
    """The daemon's user may not do this on the disk; give it the right, or choose another place."""

    status = 403
    code = "permission_denied"


class DiskFull(ProfilesError):
    """The disk is full; free some space, then try again."""

    status = 503
    code = "unavailable"


class DiskFailed(ProfilesError):
    """The disk failed; try again, or look at the machine's log."""

    status = 503
    code = "unavailable"


class InvalidSource(ProfilesError):
    """This is not a source of a collection; give the absolute path of a folder, or a git URL."""


class SourceUnreadable(ProfilesError):
    """The source of the collection cannot be read; check it and try again."""


class InvalidFiles(ProfilesError):
    """Files of the collection are refused; nothing of it was changed."""


class CollectionNotFound(ProfilesError):
    """There is no such collection. List them with GET /api/v1/collections/."""

    status = 404
    code = "not_found"


class CollectionExists(ProfilesError):
    """There is a collection of this name already. Remove it first, or choose another name."""

    status = 409
    code = "conflict"


class CollectionStays(ProfilesError):
    """The collection comes with the daemon and cannot be removed."""

    status = 403
    code = "permission_denied"


class CollectionInUse(ProfilesError):
    """The active profile is one of this collection. Activate another one first."""

    status = 409
    code = "conflict"


class CollectionBusy(ProfilesError):
    """The collection was changed by another request meanwhile. Try again."""

    status = 409
    code = "conflict"


class ModuleNotFound(ProfilesError):
    """There is no such module. List them with GET /api/v1/modules/."""

    status = 404
    code = "not_found"
