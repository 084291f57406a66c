"""What Linux offers a process to give up rights for good, and its children's with it.

Used by the worker and by the launcher, which has the standard library alone. Elsewhere than on
Linux, and where the kernel is too old, the functions say so and change nothing.
"""

import contextlib
import ctypes
import functools
import os
import struct
import sys
from collections.abc import Iterable

_SET_PDEATHSIG, _SET_DUMPABLE, _CAPBSET_DROP, _SET_SUBREAPER, _NO_NEW_PRIVS = 1, 4, 24, 36, 38
_LAST_CAPABILITY = 63

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_WRITE_FILE, _REFER, _TRUNCATE = 1 << 1, 1 << 13, 1 << 14
# Removing, and making of every kind.
_ENTRIES = sum(1 << bit for bit in range(4, 13))
_SIGNALS_AND_ABSTRACT_SOCKETS = 3
_SCOPES_SINCE, _TRUNCATE_SINCE, _REFER_SINCE, _NETWORK_SINCE = 6, 3, 2, 4

DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts")


@functools.cache
def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _prctl(option: int, value: int) -> bool:
    libc = _libc()
    return bool(libc) and libc.prctl(option, value, 0, 0, 0) == 0  # type: ignore[union-attr]


def conceal() -> bool:
    """Keep other processes of the same user from this one's environment, memory and descriptors.

    It also leaves no core dump, and no debugger but root's may attach.
    """
    return _prctl(_SET_DUMPABLE, 0)


def adopt_orphans() -> bool:
    """Become the parent of every descendant whose own parent ends."""
    return _prctl(_SET_SUBREAPER, 1)


def die_with_parent(signal: int) -> bool:
    """Get the signal when the parent ends; a change of the user takes that back."""
    return _prctl(_SET_PDEATHSIG, signal)


def renounce() -> bool:
    """Never gain a right by executing something, be it set-uid or as root."""
    for capability in range(_LAST_CAPABILITY + 1):
        _prctl(_CAPBSET_DROP, capability)
    return _prctl(_NO_NEW_PRIVS, 1)


def landlock_version() -> int:
    """Return which version of Landlock the kernel has; 0 for none."""
    libc = _libc()
    return max(libc.syscall(_CREATE_RULESET, None, 0, _VERSION), 0) if libc else 0


def confine(folders: Iterable[int | str]) -> bool:
    """Let this process write below these folders and to harmless devices only.

    It can neither signal nor look into any process outside, whoever's it is (signals: from version
    6 on). Needs `renounce` before. Raises OSError where the kernel should and does not.
    """
    version = landlock_version()
    if not version:
        return False
    ruleset = _ruleset(version)
    for folder in folders:
        _allow(ruleset, folder, _rights(version))
    for name in DEVICES:
        _allow(ruleset, f"/dev/{name}", _rights(version) & (_WRITE_FILE | _TRUNCATE))
    _syscall(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return True


def _rights(version: int) -> int:
    rights = _WRITE_FILE | _ENTRIES
    rights |= _REFER if version >= _REFER_SINCE else 0
    return rights | (_TRUNCATE if version >= _TRUNCATE_SINCE else 0)


def _ruleset(version: int) -> int:
    """Return a new set of rules, which forbids all that it handles until something is allowed."""
    words = [_rights(version)]
    if version >= _NETWORK_SINCE:
        words.append(0)
    if version >= _SCOPES_SINCE:
        words.append(_SIGNALS_AND_ABSTRACT_SOCKETS)
    attributes = struct.pack(f"={len(words)}Q", *words)
    return _syscall(_CREATE_RULESET, attributes, len(attributes), 0)


def _allow(ruleset: int, folder: int | str, rights: int) -> None:
    """Allow the rights below a folder, or on a file; one that is not there needs none."""
    with contextlib.suppress(FileNotFoundError):
        opened = os.open(folder, os.O_PATH) if isinstance(folder, str) else os.dup(folder)
        try:
            _syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, opened), 0)
        finally:
            os.close(opened)


def _syscall(number: int, *arguments: object) -> int:
    libc = _libc()
    result = libc.syscall(number, *arguments) if libc else -1
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
