"""Finds and signals the processes of a sandbox from outside, and never another one that reuses a pid."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Member:
    """A process of a sandbox.

    Args:
        pid: its number here.
        inner: its number in the innermost pid namespace.
        started: when it started, in ticks since boot.
    """

    pid: int
    inner: int
    started: str


def _stat(pid: int) -> list[str]:
    """Return a process's fields of ``/proc/PID/stat`` from its state on, empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _numbers(pid: int) -> list[str]:
    """Return a process's numbers, from our pid namespace to its own."""
    with contextlib.suppress(OSError):
        found = re.search(r"^NSpid:\t(.*)$", Path(f"/proc/{pid}/status").read_text(errors="replace"), re.MULTILINE)
        return found[1].split() if found else []
    return []


def inside(top: int) -> list[Member]:
    """Return the living processes of the pid namespaces that were made under `top`'s, zombies left out.

    Args:
        top: the first process of a pid namespace.
    """
    stats = {int(p.name): _stat(int(p.name)) for p in Path("/proc").iterdir() if p.name.isdigit()}
    depth, members = len(_numbers(top)), []
    for pid, stat in stats.items():
        above = pid
        while above != top and (up := stats.get(above)):
            above = int(up[1])
        if above != top or pid == top or not stat or stat[0] in "ZX":
            continue
        numbers = _numbers(pid)
        if len(numbers) > depth:
            members.append(Member(pid, int(numbers[-1]), stat[19]))
    return members


def marked(variable: str) -> list[tuple[Member, str]]:
    """Return the processes that were started with an environment variable, and its value in each.

    Args:
        variable: its name; processes whose environment may not be read are passed over.
    """
    start = f"{variable}=".encode()
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [
        (Member(pid, 0, stat[19]), item[len(start) :].decode())
        for pid in pids
        for item in _environment(pid)
        if item.startswith(start) and (stat := _stat(pid))
    ]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def send(member: Member, *numbers: int) -> None:
    """Signal a process unless it has ended; another one that reuses its pid is left alone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        fd = os.pidfd_open(member.pid)
        try:
            stat = _stat(member.pid)
            if stat and stat[19] == member.started:
                for number in numbers:
                    signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)
