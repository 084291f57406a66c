"""This machine: versions, the data folder, room on the disk, the model's file."""

import json
import os
import shutil
import stat
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings
from packaging.requirements import Requirement

from amplifierd import __version__, env
from amplifierd.common.program import command
from amplifierd.doctor.findings import Finding, error, ok, warning
from profiles_app.models import Profile
from sessions_app.engine.model_files import SMOLLM2, find_damage
from sessions_app.engine.registry import REGISTRIES, find_variables

OLDEST = (3, 11, 2)
REQUIREMENTS = settings.BASE_DIR / "requirements.txt"
# Packages that are named; of more only the number.
SHOWN = 4
PROFILES_SHOWN = 3
# Bytes that are free at least: below it writes may fail any moment, or soon.
NONE_LEFT, LITTLE = 200 * 10**6, 2 * 10**9
OTHERS_READ_OR_WRITE = 0o066


def python() -> Iterator[Finding]:
    """Look at the interpreter."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:3] < OLDEST:
        yield error("python", found, f"Use Python {'.'.join(map(str, OLDEST))} or newer.")
    else:
        yield ok("python", f"{found}, amplifierd {__version__}")


def packages() -> Iterator[Finding]:
    """Look whether the packages are those that this version is made with."""
    if REQUIREMENTS.exists():
        lines = (line.partition("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines())
        # A line that begins with a dash is an option of pip.
        texts = [line for line in lines if line and not line.startswith("-")]
    else:
        texts = requires("amplifierd") or []
    pins = [
        pin for text in texts if (pin := Requirement(text)).marker is None or pin.marker.evaluate()
    ]
    others = [text for pin in pins if (text := _describe_difference(pin))]
    if not others:
        yield ok("packages", f"all {len(pins)} as pinned")
        return
    more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    todo = f"Install it again: `make setup`, or `{sys.executable} -m pip install amplifierd`."
    yield warning("packages", f"{', '.join(others[:SHOWN])}{more}", todo)


def extensions() -> Iterator[Finding]:
    """Look at the providers, tools and engines of installed packages; without any, say nothing."""
    for registry in REGISTRIES:
        for name, package in registry.packages.items():
            yield ok("extensions", f"{registry.noun} {name} of {package}")
        for name, reason in registry.errors.items():
            says = f"{registry.noun} {name} cannot be used: {reason}"
            yield warning("extensions", says, "Correct or remove its package, and restart.")


def home() -> Iterator[Finding]:
    """Look who may read the data folder, and the secrets in it."""
    folder = settings.HOME
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        todo = f"Give it to the user who runs this, or set AMPLIFIERD_HOME to another than {folder}"
        yield error("home", f"{folder} cannot be written", f"{todo}.")
        return
    wide = [
        path
        for path in (folder, folder / "secret_key", env.ENV_FILE)
        if path.exists() and _mode(path) & OTHERS_READ_OR_WRITE
    ]
    for path in wide:
        says = f"others may read or change {path} (mode {_mode(path):o})"
        yield warning("home", says, f"chmod go-rw {path}")
    if not wide:
        yield ok("home", f"{folder}, mode {_mode(folder):o}")


def disk() -> Iterator[Finding]:
    """Look how much room is left for the data."""
    free = shutil.disk_usage(_existing(settings.HOME)).free
    says = f"{_size(free)} free at {settings.HOME}"
    if free < NONE_LEFT:
        yield error("disk", says, "Make room: without it writes are refused.")
    elif free < LITTLE:
        yield warning("disk", says, f"Make room: `{command('sessions cleanup')}`.")
    else:
        yield ok("disk", says)


def model() -> Iterator[Finding]:
    """Look whether the local model's file is there, byte by byte."""
    path = settings.MODELS_DIR / SMOLLM2.name
    wrong = find_damage(path, SMOLLM2)
    if wrong is None:
        yield ok("model", f"{SMOLLM2.name}, {_size(SMOLLM2.size)}, checksum right")
    elif path.exists():
        yield error(
            "model", f"{path} {wrong}", f"Fetch it anew: `{command('fetch_model --force')}`."
        )
    else:
        todo = f"Fetch it: `{command('fetch_model')}`. Other providers work without it."
        yield warning("model", f"{path} {wrong}; foundation/base needs it", todo)


def _describe_difference(pin: Requirement) -> str | None:
    """Return how a package differs from its pin, None if it does not."""
    try:
        found = version(pin.name)
    except PackageNotFoundError:
        return f"{pin.name} is not installed"
    return (
        None
        if pin.specifier.contains(found, prereleases=True)
        else (f"{pin.name} {found} instead of {str(pin.specifier).removeprefix('==')}")
    )


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _existing(path: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return path if path.exists() else _existing(path.parent)


def _size(size: int) -> str:
    return f"{size / 10**9:.1f} GB" if size >= 10**9 else f"{size / 10**6:.0f} MB"


# Profiles that are named; of more only the number.


def variables() -> Iterator[Finding]:
    """Look which of the variables that providers need are not set here."""
    users: dict[str, list[Profile]] = defaultdict(list)
    for profile in Profile.objects.order_by("-is_active", "collection", "name"):
        for name in sorted(find_variables(profile.definition["providers"])):
            users[name].append(profile)
    missing = [name for name in sorted(users) if not os.environ.get(name)]
    for name in missing:
        level = error if is_silent(users[name][0]) else warning
        says = f"{name} is not set; needed by {_names(users[name])}"
        todo = f"Put {name}=… into the environment of the workers or into .env, and restart."
        yield level("keys", says, todo)
    if not missing:
        yield ok("keys", f"{', '.join(sorted(users))} set" if users else "no profile needs any")


def is_silent(profile: Profile) -> bool:
    """Tell whether the active profile is meant, and none of its providers has what it needs."""
    needs = (find_variables([provider]) for provider in profile.definition["providers"])
    return profile.is_active and not any(all(map(os.environ.get, names)) for names in needs)


def _names(profiles: list[Profile]) -> str:
    more = f" and {len(profiles) - PROFILES_SHOWN} more" if len(profiles) > PROFILES_SHOWN else ""
    return ", ".join(map(str, profiles[:PROFILES_SHOWN])) + more


def find_daemon() -> dict[str, Any] | None:
    """Return the `pid` and `url` of the daemon that runs on this data folder, None without one.

    The note of one that was killed stays behind: what counts is whether its process is there.
    """
    try:
        note = json.loads((settings.HOME / "serve.lock").read_text())
        is_alive = "serve" in psutil.Process(int(note["pid"])).cmdline()
        return {"pid": int(note["pid"]), "url": str(note["url"])} if is_alive else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
