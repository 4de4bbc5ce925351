"""Names the process that owns a world, so that another one can tell whether it still lives."""

from __future__ import annotations

import os
from pathlib import Path


def label() -> str:
    """Return a name for this process that no other process, on any machine or boot, ever has."""
    return f"{_machine()} {_boot()} {os.getpid()} {_started(os.getpid())}"


def gone(name: str) -> bool:
    """Say whether the process of a label of this machine is gone; False for what other machines own.

    Args:
        name: what `label` returned in that process.
    """
    parts = name.split(" ")
    if len(parts) != len(label().split(" ")):
        return False
    machine, boot, pid, started = parts
    if machine != _machine():
        return False
    return boot != _boot() or not pid.isdigit() or _started(int(pid)) != started


def _machine() -> str:
    for path in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        try:
            if text := path.read_text().strip():
                return text
        except OSError:
            continue
    return os.uname().nodename


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "-"


def _started(pid: int) -> str:
    """Return when a process started, in ticks since boot; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
