"""The system calls that a session in a sandbox may not make, as the classic BPF program that bwrap hands to the kernel.

What is refused is what no directive needs and what kernels have been broken by: tracing, mounting, new namespaces,
kernel modules, keys, eBPF, performance events, userfaultfd, io_uring, other people's memory, the clock, and memory that
no limit of a process or of its files counts (memfd, System V). What is refused fails with EPERM, as in a container;
`clone3`, whose flags no filter can see, does not exist, so that programs
take `clone`. Numbers: the kernel's ``syscall_64.tbl`` and ``asm-generic/unistd.h``; the layout: ``linux/filter.h``.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass

# Refused by name, with the numbers on x86-64 and on the machines that share the generic table (None: it has none).
_REFUSED: dict[str, tuple[int, int | None]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "syslog": (103, 116),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "modify_ldt": (154, None),
    "iopl": (172, None),
    "ioperm": (173, None),
}
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
_NAMESPACES = 0x7E020000
# ioctls that put input into a terminal as if it were typed: TIOCSTI and TIOCLINUX.
_TYPING = (0x5412, 0x541C)
_X32 = 0x40000000  # numbers of another table of the same machine

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24  # where things lie in struct seccomp_data, low words
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


@dataclass(frozen=True)
class Machine:
    """A kind of processor: its audit number, its column in the table, and its own numbers of four calls."""

    audit: int
    column: int
    clone: int
    clone3: int
    ioctl: int
    prlimit: int


MACHINES = {
    "x86_64": Machine(0xC000003E, 0, 56, 435, 16, 302),
    "aarch64": Machine(0xC00000B7, 1, 220, 435, 29, 261),
}


def program(machine: str = "") -> bytes:
    """Return the filter for a machine; empty where its numbers are not known here, so that none can be had.

    Args:
        machine: as `uname -m` says; this one's where empty.
    """
    kind = MACHINES.get(machine or os.uname().machine)
    if kind is None:
        return b""
    numbers = [row[kind.column] for row in _REFUSED.values()]
    refused = [n for n in numbers if n is not None]
    # Each line: code, where to go when true and when false ("" is the next line), operand.
    lines: list[tuple[int, str, str, int]] = [
        (_LOAD, "", "", _ARCHITECTURE),
        (_EQUAL, "", "absent", kind.audit),
        (_LOAD, "", "", _NUMBER),
        (_AT_LEAST, "absent", "", _X32),
        *((_EQUAL, "refuse", "", number) for number in refused),
        (_EQUAL, "absent", "", kind.clone3),
        (_EQUAL, "clone", "", kind.clone),
        (_EQUAL, "prlimit", "", kind.prlimit),
        (_EQUAL, "ioctl", "allow", kind.ioctl),
    ]
    labels = {"clone": len(lines)}
    lines += [(_LOAD, "", "", _FIRST), (_ANY_BIT, "refuse", "allow", _NAMESPACES)]
    labels["prlimit"] = len(lines)  # of no process but one's own
    lines += [(_LOAD, "", "", _FIRST), (_EQUAL, "allow", "refuse", 0)]
    labels["ioctl"] = len(lines)
    lines += [(_LOAD, "", "", _SECOND), *((_EQUAL, "refuse", "", number) for number in _TYPING)]
    for name, value in (("allow", _ALLOW), ("refuse", _ERRNO | errno.EPERM), ("absent", _ERRNO | errno.ENOSYS)):
        labels[name] = len(lines)
        lines.append((_RETURN, "", "", value))
    return b"".join(_instruction(at, line, labels) for at, line in enumerate(lines))


def _instruction(at: int, line: tuple[int, str, str, int], labels: dict[str, int]) -> bytes:
    code, true, false, operand = line
    jumps = [labels[name] - at - 1 if name else 0 for name in (true, false)]
    return struct.pack("<HBBI", code, *jumps, operand)
