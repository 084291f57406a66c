"""Checks of this machine: versions, the data folder, space on the disk, the model's file."""

import asyncio
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
from amplifierd.doctor import CheckResult, error, ok, warning
from profiles_app.models import Profile
from sessions_app.engine.base import EngineError
from sessions_app.engine.engines import REGISTRIES
from sessions_app.engine.model_files import SMOLLM2, find_damage
from sessions_app.engine.registry import find_variables
from sessions_app.engine.tools.bash import probe
from sessions_app.engine.tools.protection import Layer

OLDEST = (3, 11, 2)
REQUIREMENTS = settings.BASE_DIR / "requirements.txt"
# How many packages and profiles are named; of further ones only the number.
SHOWN = 4
PROFILES_SHOWN = 3
# Free bytes below which writes may fail at any moment, and below which they may fail soon.
NONE_LEFT, LITTLE = 200 * 10**6, 2 * 10**9
OTHERS_READ_OR_WRITE = 0o066


def python() -> Iterator[CheckResult]:
    """Check the version of Python."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:3] < OLDEST:
        yield error("python", found, f"Use Python {'.'.join(map(str, OLDEST))} or newer.")
    else:
        yield ok("python", f"{found}, amplifierd {__version__}")


def packages() -> Iterator[CheckResult]:
    """Check that the packages are those that this version was made with."""
    if REQUIREMENTS.exists():
        lines = (line.partition("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines())
        # A line that begins with a dash is an option of pip.
        texts = [line for line in lines if line and not line.startswith("-")]
    else:
        texts = requires("amplifierd") or []
    pins = [
        pin for text in texts if (pin := Requirement(text)).marker is None or pin.marker.evaluate()
    ]
    others = []
    for pin in pins:
        try:
            found = version(pin.name)
        except PackageNotFoundError:
            others.append(f"{pin.name} is not installed")
            continue
        if not pin.specifier.contains(found, prereleases=True):
            wanted = str(pin.specifier).removeprefix("==")
            others.append(f"{pin.name} {found} instead of {wanted}")
    if not others:
        yield ok("packages", f"all {len(pins)} as pinned")
        return
    more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    todo = f"Install it again: `make setup`, or `{sys.executable} -m pip install amplifierd`."
    yield warning("packages", f"{', '.join(others[:SHOWN])}{more}", todo)


def extensions() -> Iterator[CheckResult]:
    """Check the providers, tools and engines of installed packages; no result if there are none."""
    for registry in REGISTRIES:
        for name, package in registry.packages.items():
            yield ok("extensions", f"{registry.noun} {name} of {package}")
        for name, reason in registry.errors.items():
            says = f"{registry.noun} {name} cannot be used: {reason}"
            yield warning("extensions", says, "Correct or remove its package, and restart.")


def home() -> Iterator[CheckResult]:
    """Check who may read the data folder and the secrets in it."""
    folder = settings.HOME
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        todo = "Give it to the user that runs this, or set AMPLIFIERD_HOME to another folder"
        yield error("home", f"{folder} cannot be written", f"{todo} than {folder}.")
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


def disk() -> Iterator[CheckResult]:
    """Check how much space is left for the data."""
    free = shutil.disk_usage(_existing(settings.HOME)).free
    says = f"{_size(free)} free at {settings.HOME}"
    if free < NONE_LEFT:
        yield error("disk", says, "Free some space: without it writes are refused.")
    elif free < LITTLE:
        yield warning("disk", says, f"Free some space: `{command('sessions cleanup')}`.")
    else:
        yield ok("disk", says)


def model() -> Iterator[CheckResult]:
    """Check that the local model's file is there and has its checksum."""
    path = settings.MODELS_DIR / SMOLLM2.name
    wrong = find_damage(path, SMOLLM2)
    if wrong is None:
        yield ok("model", f"{SMOLLM2.name}, {_size(SMOLLM2.size)}, checksum right")
    elif path.exists():
        yield error(
            "model", f"{path} {wrong}", f"Fetch it again: `{command('fetch_model --force')}`."
        )
    else:
        todo = f"Fetch it: `{command('fetch_model')}`. Other providers work without it."
        yield warning("model", f"{path} {wrong}; foundation/base needs it", todo)


def commands() -> Iterator[CheckResult]:
    """Check what protects this machine from commands of tool-bash, by commands that try."""
    try:
        layer, escapes = asyncio.run(probe.find_escapes())
    except EngineError as refusal:
        yield error("commands", "are refused: there is no sandbox", str(refusal))
        return
    if escapes and layer != Layer.BASIC:
        says = f"in {layer} they {', '.join(escapes)}"
        yield error("commands", says, "Update it and the kernel; until then use no tool-bash.")
    elif escapes:
        says = f"there is no sandbox: they {', '.join(escapes)}"
        yield warning("commands", says, NO_CHOICE if settings.SANDBOX == "off" else STRONGER)
    elif layer == Layer.LANDLOCK:
        says = "Landlock and seccomp keep them to the session's directory, without a network"
        if settings.REQUIRE_KEYS:
            says += "; but they can change modes and times of other owners' files"
            yield warning("commands", says, BUBBLEWRAP)
        else:
            yield ok("commands", f"{says}; bubblewrap would hide everything else, too")
    else:
        yield ok("commands", "bubblewrap keeps them to the session's directory, without a network")


NO_CHOICE = "Unset AMPLIFIERD_SANDBOX, which turns the sandbox off."
BUBBLEWRAP = (
    "Install bubblewrap and allow user namespaces (sysctl user.max_user_namespaces,"
    " kernel.apparmor_restrict_unprivileged_userns)."
)
STRONGER = f"{BUBBLEWRAP} Or use Linux 6.12 or newer with Landlock."


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _existing(path: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return path if path.exists() else _existing(path.parent)


def _size(size: int) -> str:
    return f"{size / 10**9:.1f} GB" if size >= 10**9 else f"{size / 10**6:.0f} MB"


def variables() -> Iterator[CheckResult]:
    """Check that the environment variables that providers need are set."""
    users: dict[str, list[Profile]] = defaultdict(list)
    for profile in Profile.objects.order_by("-is_active", "collection", "name"):
        for name in sorted(find_variables(profile.definition["providers"])):
            users[name].append(profile)
    missing = [name for name in sorted(users) if not os.environ.get(name)]
    for name in missing:
        level = error if is_unusable(users[name][0]) else warning
        names = ", ".join(map(str, users[name][:PROFILES_SHOWN]))
        rest = len(users[name]) - PROFILES_SHOWN
        says = f"{name} is not set; needed by {names}{f' and {rest} more' if rest > 0 else ''}"
        todo = f"Put {name}=… into the environment of the workers or into .env, and restart."
        yield level("keys", says, todo)
    if not missing:
        yield ok("keys", f"{', '.join(sorted(users))} set" if users else "no profile needs any")


def is_unusable(profile: Profile) -> bool:
    """Tell whether it is the active profile, and each of its providers lacks a variable."""
    needs = (find_variables([provider]) for provider in profile.definition["providers"])
    return profile.is_active and not any(all(map(os.environ.get, names)) for names in needs)


def find_daemon() -> dict[str, Any] | None:
    """Return the `pid` and `url` of the daemon that runs on this data folder; None if none does.

    The note of a killed daemon stays behind, so its process is looked up.
    """
    try:
        note = json.loads((settings.HOME / "serve.lock").read_text())
        is_alive = "serve" in psutil.Process(int(note["pid"])).cmdline()
        return {"pid": int(note["pid"]), "url": str(note["url"])} if is_alive else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
