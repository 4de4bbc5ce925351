"""Labels the process that owns a world or an unfinished file, so that others can check whether it is alive."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

_SLUG = re.compile(r"\.posix-sdc-([0-9a-f]{8})-([0-9a-f]{8})-(\d+)-(\d*)-")


def label() -> str:
    """Return a name for this process that no other process, on any machine or boot, ever has."""
    return f"{_machine()} {_boot()} {os.getpid()} {_started(os.getpid())}"


def gone(name: str) -> bool:
    """Return whether the process named by a label of this machine has ended; False for labels of other machines.

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


def prefix() -> str:
    """Return the name prefix of this process's unfinished files and folders."""
    return f".posix-sdc-{_short(_machine())}-{_short(_boot())}-{os.getpid()}-{_started(os.getpid())}-"


def left(folder: Path) -> list[Path]:
    """Return files of a folder, named with `prefix`, whose owners on this machine have ended."""
    found = []
    for path in folder.glob(".posix-sdc-*"):
        name = _SLUG.match(path.name)
        if name is None or name[1] != _short(_machine()):
            continue
        if name[2] != _short(_boot()) or _started(int(name[3])) != name[4]:
            found.append(path)
    return found


def clear(folder: Path) -> None:
    """Remove unfinished files in a folder whose owners on this machine have ended."""
    for path in left(folder):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


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
