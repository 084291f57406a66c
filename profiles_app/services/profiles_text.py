"""A profile as one text, the way its file has it: checked, saved, taken back to what it was."""

from dataclasses import dataclass

from profiles_app import profile_file
from profiles_app.exceptions import InvalidDefinition, ProfileExists
from profiles_app.front_matter import located
from profiles_app.models import Profile
from profiles_app.profile_file import ProfileFile
from profiles_app.services import profiles_change
from profiles_app.services.profiles import resolve_profile
from profiles_app.services.profiles_compile import errors_of
from profiles_app.services.versions import version_of

# Bytes of front matter: more than a file has, for what was copied has the texts of its agents.
FRONT_LIMIT = 64 * 1024


@dataclass(frozen=True)
class Mistake:
    """What is wrong in a line. With a grave one the text cannot be saved, else not be run."""

    line: int
    detail: str
    is_grave: bool = True


def mistakes(text: str, name: str | None) -> list[Mistake]:
    """Return what is wrong with a text for the local profile `name`, or with None for a new one."""
    content = _encoded(text)
    try:
        file = read(text, name)
    except InvalidDefinition as error:
        return [Mistake(*located(content, str(error)))]
    except ProfileExists as error:
        return [Mistake(*located(content, f"profile.name: {error}"))]
    return [
        Mistake(*located(content, f"{error['field']}: {error['detail']}"), is_grave=False)
        for error in errors_of(file.definition)
    ]


def read(text: str, name: str | None) -> ProfileFile:
    """Return what a text says for the local profile `name`, or with None for a new one.

    Raises InvalidDefinition with the line or the key that is wrong, LiteralSecret, ProfileExists.
    """
    file = profile_file.parse(_encoded(text), front_limit=FRONT_LIMIT)
    if name is not None and file.name != name:
        raise InvalidDefinition(
            f"profile.name: must be {name!r}; to have it under another name, copy the profile."
        )
    if name is None:
        _check_new(file.name)
    profiles_change.checked(file.definition)
    return file


def create(text: str) -> Profile:
    """Make the local profile that a text defines; raise what `read` raises."""
    file = read(text, None)
    return profiles_change.create(file.name, sections=file.definition, **_texts(file))


def save(name: str, text: str, expected_version: int) -> Profile:
    """Have the local profile `name` be what a text says; where anything differs, a new version.

    Raises what `read` raises, ProfileNotFound, and StaleVersion where it was changed meanwhile.
    """
    file = read(text, name)
    return profiles_change.update(
        f"{profiles_change.LOCAL}/{name}",
        expected_version=expected_version,
        sections=file.definition,
        **_texts(file),
    )


def restore(name: str, number: int, expected_version: int) -> Profile:
    """Have a profile be again what it was at a version, which makes a new one.

    Raises what `profiles_change.update` raises, and VersionNotFound.
    """
    old = version_of(resolve_profile(name), number)
    return profiles_change.update(
        name, expected_version=expected_version, sections=old.definition, **_texts(old)
    )


def _texts(source: object) -> dict[str, str]:
    return {key: getattr(source, key) for key in ("version", "description", "instruction")}


def _check_new(name: str) -> None:
    if name in profiles_change.RESERVED:
        raise InvalidDefinition(
            f"profile.name: {name!r} has a meaning in URLs; choose another name."
        )
    if Profile.objects.named(f"{profiles_change.LOCAL}/{name}").exists():
        raise ProfileExists(f"There is a profile local/{name} already; choose another name.")


def _encoded(text: str) -> bytes:
    # Half a surrogate pair is refused with its line, as what is no UTF-8.
    return text.encode(errors="surrogatepass")
