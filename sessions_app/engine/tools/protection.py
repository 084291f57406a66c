"""The protections of a machine from its commands: bubblewrap, Landlock with seccomp, or little.

The launcher imports this, so it uses only the standard library. A protection that cannot be applied
raises OSError, and the command is not executed.
"""

# The launcher would take longer to start with pathlib.
# ruff: noqa: PTH110, PTH112, PTH114, PTH115, PTH118, PTH208

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple


class Layer(StrEnum):
    """What protects the machine, the strongest first."""

    # Namespaces of its own: what is not mounted there does not exist for a command.
    BUBBLEWRAP = "bubblewrap"
    # The kernel refuses files and sockets, but a command sees the same machine.
    LANDLOCK = "landlock"
    # No capabilities, limits, and writes restricted by Landlock of any version, if there is one.
    BASIC = "basic"


# Programs, libraries and what they need to know. All else is out of reach: it is not listed.
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# `/etc` also has passwords, keys and tokens.
SYSTEM_FILES = tuple(
    f"/etc/{name}"
    for name in """
        alternatives bash.bashrc ca-certificates ca-certificates.conf debian_version default/locale
        fonts gai.conf gitconfig group host.conf hostname hosts inputrc java ld.so.cache ld.so.conf
        ld.so.conf.d locale.alias locale.conf localtime lsb-release magic mime.types nsswitch.conf
        os-release passwd perl pki/ca-trust pki/tls/certs profile profile.d protocols python3
        python3.11 python3.12 python3.13 python3.14 resolv.conf services shells ssl/certs
        ssl/openssl.cnf terminfo timezone
    """.split()
)
# What programs ask about the machine; the rest of /proc tells about the processes of others.
_MACHINE_FACTS = ("cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "uptime", "version")
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts")
# In bubblewrap, these two processes are around a command.
BUBBLEWRAP_PROCESSES = 2
# Bytes of /dev/shm in bubblewrap; it is memory.
SHARED_MEMORY = 64 * 1024 * 1024
HOME_INSIDE, TEMPORARY_INSIDE = "/session", "/tmp"  # noqa: S108
# Compares the folder that bubblewrap mounted with the one that was opened, by device and inode:
# bubblewrap takes a path, and a link could have replaced a part of it in the meantime.
_CHECK = (
    '[ "$(PATH=/usr/bin:/bin stat -c %d:%i .)" = "$0" ] && exec "$@"; '
    "echo 'The session'\\''s directory was moved, so the command was not started.'; exit 126"
)


# Not a dataclass: the launcher would need another 10 ms to import `dataclasses`.
class Confinement(NamedTuple):
    """What a command may reach. The launcher gets it as JSON with these names."""

    layer: str
    # The real path of the directory; writable, unless it is read-only.
    directory: str
    is_read_only: bool
    # The private folders for HOME and for temporary files.
    home: str
    temporary: str
    # Further paths that it may read, and write.
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    # Paths that it may not reach, also if they are below one of the others but the directory.
    hidden: tuple[str, ...] = ()
    network: bool = False
    # The path of bubblewrap.
    program: str = ""

    @property
    def shows_all(self) -> bool:
        """Whether it may read everything that is not hidden."""
        return "/" in self.readable or "/" in self.writable

    @property
    def keeps_read_only(self) -> bool:
        """Whether a read-only directory stays as it is: Landlock has no rule for modes."""
        return self.layer == Layer.BUBBLEWRAP or not self.is_read_only

    @property
    def folders(self) -> tuple[str, str]:
        """HOME and TMPDIR as a command sees them."""
        if self.layer == Layer.BUBBLEWRAP and not self.shows_all:
            return HOME_INSIDE, TEMPORARY_INSIDE
        return self.home, self.temporary


def wrap_command(confinement: Confinement, directory: int, command: list[str]) -> list[str]:
    """Return bubblewrap's arguments for a command; its filter is an inherited descriptor."""
    found = os.fstat(directory)
    place = f"{found.st_dev}:{found.st_ino}"
    filtering = os.memfd_create("seccomp", 0)
    os.write(filtering, make_filter(is_isolated=True, network=True))
    os.lseek(filtering, 0, os.SEEK_SET)
    namespaces = ["--unshare-all", *(["--share-net"] if confinement.network else [])]
    return [
        *(confinement.program, "--unshare-user", *namespaces, "--die-with-parent"),
        *("--cap-drop", "ALL", "--seccomp", str(filtering)),
        *_list_mounts(confinement, os.readlink(f"/proc/self/fd/{directory}")),
        *("--chdir", confinement.directory, "--", "/bin/sh", "-c", _CHECK, place, *command),
    ]


def _list_mounts(confinement: Confinement, source: str) -> Iterator[str]:
    directory, writable = confinement.directory, confinement.writable
    home, temporary = confinement.folders
    if confinement.shows_all:
        yield from ("--bind" if "/" in writable else "--ro-bind", "/", "/")
    else:
        for path in SYSTEM:
            if os.path.islink(path):
                yield from ("--symlink", os.readlink(path), path)
            elif os.path.exists(path):
                yield from ("--ro-bind", path, path)
        for path in SYSTEM_FILES:
            yield from ("--ro-bind-try", path, path)
    yield from ("--proc", "/proc", "--dev", "/dev")
    in_memory = ("--size", str(SHARED_MEMORY), "--perms", "1777", "--tmpfs")
    yield from (*in_memory, "/dev/shm")  # noqa: S108
    for folder, path in ((confinement.temporary, temporary), (confinement.home, home)):
        yield from ("--bind", folder, path) if os.path.isdir(folder) else (*in_memory, path)
    for kind, paths in (("--ro-bind-try", confinement.readable), ("--bind-try", writable)):
        for path in paths:
            if path != "/":
                yield from (kind, path, path)
    hidden = [path for path in confinement.hidden if os.path.exists(path)]
    shown = [*SYSTEM, *confinement.readable, *writable]
    for path in hidden:
        if not _is_below(path, directory) and any(_is_below(path, each) for each in shown):
            yield from ("--tmpfs", path)
    yield from ("--ro-bind" if confinement.is_read_only else "--bind", source, directory)
    for path in hidden:
        if _is_below(path, directory) and path != directory:
            yield from ("--tmpfs", path)
    yield from ("--remount-ro", "/dev")
    if not confinement.shows_all:
        yield from ("--remount-ro", "/")


def _is_below(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder


# Landlock.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 1 << 1, 1 << 2, 1 << 3
# The rights to remove entries, and to make entries of every kind.
_ENTRIES = sum(1 << bit for bit in range(4, 13))
_REFER, _TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
_BIND_TCP_AND_CONNECT_TCP = 3
_ABSTRACT_SOCKETS_AND_SIGNALS = 3
_REFER_SINCE, _TRUNCATE_SINCE, _NETWORK_SINCE, _IOCTL_SINCE, _SCOPES_SINCE = 2, 3, 4, 5, 6
_WRITES = _WRITE_FILE | _ENTRIES
_READS = _EXECUTE | _READ_FILE | _READ_DIR


def landlock_version() -> int:
    """Return the version of Landlock in the kernel; 0 if there is none."""
    try:
        return _syscall(_CREATE_RULESET, None, 0, _VERSION)
    except OSError:
        return 0


def can_use_landlock() -> bool:
    """Tell whether Landlock keeps a command from the files, sockets and processes of others."""
    return landlock_version() >= _SCOPES_SINCE and os.uname().machine in MACHINES


def restrict_reads_and_writes(confinement: Confinement, directory: int) -> None:
    """Let this process reach only what the confinement names; raises OSError."""
    ruleset = _Ruleset(_WRITES | _READS, is_scoped=True, network=confinement.network)
    for name in DEVICES:
        ruleset.allow(f"/dev/{name}", _READS | _WRITE_FILE | _TRUNCATE | _IOCTL)
    visible = (*SYSTEM, *SYSTEM_FILES, *confinement.readable)
    for folder in (*visible, *(f"/proc/{name}" for name in _MACHINE_FACTS)):
        for path in _leave_out(folder, confinement.hidden):
            ruleset.allow(path, _READS)
    for folder in confinement.writable:
        for path in _leave_out(folder, confinement.hidden):
            ruleset.allow(path, ruleset.rights)
    for folder in (confinement.home, confinement.temporary):
        ruleset.allow(folder, ruleset.rights)
    ruleset.allow(directory, _READS if confinement.is_read_only else ruleset.rights)
    ruleset.enforce()


def _leave_out(folder: str, hidden: Iterable[str]) -> Iterator[str]:
    """Yield the folder; if something below it is hidden, only its entries beside that."""
    folder = os.path.realpath(folder)
    if any(_is_below(folder, each) for each in hidden):
        return
    if not any(_is_below(each, folder) for each in hidden):
        yield folder
        return
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if not os.path.islink(path):
            yield from _leave_out(path, hidden)


def restrict_writes(folders: Iterable[int | str]) -> bool:
    """Let this process write only below these folders and to harmless devices.

    It cannot inspect processes outside, nor signal them from version 6 of Landlock on. Returns
    False, and changes nothing, if the kernel has none.
    """
    if not landlock_version():
        return False
    ruleset = _Ruleset(_WRITES, is_scoped=True, network=True)
    for folder in folders:
        ruleset.allow(folder, ruleset.rights)
    for name in DEVICES:
        ruleset.allow(f"/dev/{name}", _WRITE_FILE | _TRUNCATE)
    ruleset.enforce()
    return True


def restrict_processes() -> None:
    """Forbid signals and abstract sockets out of here, if the kernel can, and nothing else.

    Unlike rules for files, this leaves bubblewrap the right to mount.
    """
    if landlock_version() >= _SCOPES_SINCE:
        _Ruleset(0, is_scoped=True, network=True).enforce()


class _Ruleset:
    """Rules of Landlock: what they are made for is forbidden everywhere, until they allow it."""

    def __init__(self, rights: int, *, is_scoped: bool, network: bool) -> None:
        version = landlock_version()
        if rights & _WRITES:
            rights |= _REFER if version >= _REFER_SINCE else 0
            rights |= _TRUNCATE if version >= _TRUNCATE_SINCE else 0
        if rights & _READS:
            rights |= _IOCTL if version >= _IOCTL_SINCE else 0
        self.rights = rights
        words = [rights]
        if version >= _NETWORK_SINCE:
            words.append(0 if network else _BIND_TCP_AND_CONNECT_TCP)
        if version >= _SCOPES_SINCE:
            words.append(_ABSTRACT_SOCKETS_AND_SIGNALS if is_scoped else 0)
        attributes = struct.pack(f"={len(words)}Q", *words)
        self._descriptor = _syscall(_CREATE_RULESET, attributes, len(attributes), 0)

    def allow(self, path: int | str, rights: int) -> None:
        """Allow the rights below a folder, or on a file; a missing one is skipped."""
        try:
            opened = os.dup(path) if isinstance(path, int) else os.open(path, os.O_PATH)
        except (FileNotFoundError, PermissionError):
            return
        try:
            if not stat.S_ISDIR(os.fstat(opened).st_mode):
                rights &= _ON_FILES
            rule = struct.pack("=Qi", rights & self.rights, opened)
            _syscall(_ADD_RULE, self._descriptor, _PATH_BENEATH, rule, 0)
        finally:
            os.close(opened)

    def enforce(self) -> None:
        _syscall(_RESTRICT_SELF, self._descriptor, 0)
        os.close(self._descriptor)


def _syscall(number: int, *arguments: object) -> int:
    result = ctypes.CDLL(None, use_errno=True).syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


# Filters of system calls (seccomp). By machine: the kernel's constant for its audit, and the column
# of the table below.
MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_CALLS = {
    name: (int(x86_64), int(aarch64))
    for name, x86_64, aarch64 in map(
        str.split,
        """
        add_key             248  217
        bpf                 321  280
        chroot              161   51
        clone                56  220
        clone3              435  435
        fsconfig            431  431
        fsmount             432  432
        fsopen              430  430
        fspick              433  433
        io_uring_enter      426  426
        io_uring_register   427  427
        io_uring_setup      425  425
        ioprio_set          251   30
        keyctl              250  219
        migrate_pages       256  238
        mount               165   40
        mount_setattr       442  442
        move_mount          429  429
        move_pages          279  239
        name_to_handle_at   303  264
        open_by_handle_at   304  265
        open_tree           428  428
        perf_event_open     298  241
        pivot_root          155   41
        prlimit64           302  261
        request_key         249  218
        sched_setaffinity   203  122
        sched_setattr       314  274
        sched_setparam      142  118
        sched_setscheduler  144  119
        setns               308  268
        setpriority         141  140
        socket               41  198
        socketpair           53  199
        syslog              103  116
        umount2             166   39
        unshare             272   97
        userfaultfd         323  282
        """.strip().splitlines(),
    )
}
# Programs have other ways without these, and take "not implemented" for an answer.
_NOT_THERE = ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register")
# Their argument of this number is a process or a thread; 0 is the caller itself.
_OF_A_PROCESS = {
    **dict.fromkeys(("prlimit64", "migrate_pages", "move_pages", "sched_setaffinity"), 0),
    **dict.fromkeys(("sched_setattr", "sched_setparam", "sched_setscheduler"), 0),
    **dict.fromkeys(("ioprio_set", "setpriority"), 1),
}
_CONDITIONAL = ("clone", "socket", "socketpair", *_OF_A_PROCESS)
# Every flag of `clone` that makes a namespace.
_NEW_NAMESPACES = 0x7E020080
_X32 = 0x40000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NUMBER, _MACHINE, _ARGUMENTS = 0, 4, 16


def make_filter(*, is_isolated: bool, network: bool) -> bytes:
    """Return a filter of system calls as the kernel takes it; empty for an unknown machine.

    It forbids namespaces, mounts, keyrings and what gets around the other rules; without `network`,
    sockets of the internet protocol. A command that is not isolated by namespaces gets no Unix
    sockets either, and cannot change the limits and priorities of other processes.
    """
    if os.uname().machine not in MACHINES:
        return b""
    audit, column = MACHINES[os.uname().machine]
    numbers = {name: values[column] for name, values in _CALLS.items()}
    forbidden = _ERROR | errno.EPERM
    lines = [(_LOAD, 0, 0, _MACHINE), (_EQUAL, 1, 0, audit), (_RETURN, 0, 0, _ERROR | errno.ENOSYS)]
    lines += [(_LOAD, 0, 0, _NUMBER)]
    lines += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _ERROR | errno.ENOSYS)]
    for name, number in numbers.items():
        if name not in _CONDITIONAL:
            answer = _ERROR | errno.ENOSYS if name in _NOT_THERE else forbidden
            lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, answer)]
    lines += [(_EQUAL, 0, 4, numbers["clone"]), (_LOAD, 0, 0, _ARGUMENTS)]
    lines += [
        (_ANY_BIT, 0, 1, _NEW_NAMESPACES),
        (_RETURN, 0, 0, forbidden),
        (_RETURN, 0, 0, _ALLOW),
    ]
    unix, internet, internet_6, netlink, datagram = 1, 2, 10, 16, 2
    families = [*([unix] if is_isolated else []), *([internet, internet_6, netlink] * network)]
    lines += [(_EQUAL, 0, 2 * len(families) + 2, numbers["socket"]), (_LOAD, 0, 0, _ARGUMENTS)]
    for family in families:
        lines += [(_EQUAL, 0, 1, family), (_RETURN, 0, 0, _ALLOW)]
    lines += [(_RETURN, 0, 0, _ERROR | errno.EACCES)]
    if not is_isolated:
        for name, argument in _OF_A_PROCESS.items():
            lines += [(_EQUAL, 0, 4, numbers[name]), (_LOAD, 0, 0, _ARGUMENTS + 8 * argument)]
            lines += [(_EQUAL, 1, 0, 0), (_RETURN, 0, 0, forbidden), (_RETURN, 0, 0, _ALLOW)]
        # A pair of datagram sockets can be connected to other sockets later.
        lines += [(_EQUAL, 0, 4, numbers["socketpair"]), (_LOAD, 0, 0, _ARGUMENTS + 8)]
        lines += [(_AND, 0, 0, 0xF), (_EQUAL, 0, 1, datagram)]
        lines += [(_RETURN, 0, 0, _ERROR | errno.EACCES)]
    lines += [(_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def restrict_system_calls(program: bytes) -> None:
    """Apply a filter to this process for ever; raises OSError."""
    set_seccomp, mode_filter = 22, 2
    instructions = ctypes.create_string_buffer(program, len(program))
    # The kernel's `struct sock_fprog`: a count, and a pointer at its own alignment.
    filtering = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(instructions))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(set_seccomp, mode_filter, ctypes.c_char_p(filtering), 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
