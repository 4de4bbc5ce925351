"""A control group for a sandbox, where this process may make one: memory and processes of a whole world are held.

Version 2 is used where an ancestor of this process's own group hands memory and pids on to its children, version 1
where the controllers are mounted apart. An ordinary user has such a group only where one was delegated; without one
each process of a world is limited, not all of them together.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from tiararodney.posix_sdc import owner

_CONTROLLERS = ("memory", "pids")
_COUNT = itertools.count()
_GONE_SECONDS = 5.0


@dataclass(frozen=True)
class Group:
    """A control group: one folder in version 2, one for each controller in version 1."""

    folders: tuple[Path, ...]

    def add(self, pid: int) -> None:
        """Put a process in, and whatever it starts from now on."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                Path(folder, "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Remove the group, once its last process is gone."""
        for folder in self.folders:
            _remove(folder)


def make(memory_bytes: int, pids: int) -> Group | None:
    """Make a group.

    Args:
        memory_bytes: of all processes and of what they write into a tmpfs.
        pids: processes and threads at a time.

    Returns:
        The group; None where none can be made.
    """
    name = f"{owner.prefix()}{next(_COUNT)}"
    made: list[Path] = []
    try:
        for parent, limits in _parents():
            folder = parent / name
            folder.mkdir()
            made.append(folder)
            for file, what in limits.items():
                path = folder / file
                if path.exists():
                    path.write_text(str({"memory": memory_bytes, "swap": 0, "pids": pids}[what]))
    except OSError:
        Group(tuple(made)).remove()
        return None
    return Group(tuple(made)) if made else None


@functools.cache
def _parents() -> tuple[tuple[Path, dict[str, str]], ...]:
    """Return where groups can be made, each with its files of limits; empty where nowhere."""
    own, mounts = _own(), _mounts()
    if "" in mounts and "" in own:
        top = mounts[""]
        folder = Path(f"{top}{own['']}")
        while folder.is_relative_to(top):
            if set(_CONTROLLERS) <= set(_words(folder / "cgroup.subtree_control")) and os.access(folder, os.W_OK):
                return ((folder, {"memory.max": "memory", "memory.swap.max": "swap", "pids.max": "pids"}),)
            folder = folder.parent
    if not all(name in mounts and name in own for name in _CONTROLLERS):
        return ()
    memory, pids = (Path(f"{mounts[name]}{own[name]}") for name in _CONTROLLERS)
    if not (os.access(memory, os.W_OK) and os.access(pids, os.W_OK)):
        return ()
    # The limit of memory and swap together can only be set where it is accounted, and after that of memory.
    limits = {"memory.limit_in_bytes": "memory", "memory.memsw.limit_in_bytes": "memory"}
    return ((memory, limits), (pids, {"pids.max": "pids"}))


def _own() -> dict[str, str]:
    """Return this process's group by controller; that of version 2 by the empty name."""
    found = {}
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            found[name] = path if path != "/" else ""
    return found


def _mounts() -> dict[str, str]:
    """Return where hierarchies are mounted by controller; that of version 2 by the empty name."""
    found = {}
    for line in _lines(Path("/proc/self/mounts")):
        _, place, kind, options, *_ = line.split(" ")
        if kind == "cgroup2":
            found[""] = place
        elif kind == "cgroup":
            found |= dict.fromkeys(options.split(","), place)
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def sweep() -> int:
    """Remove the groups of processes that are gone, with whatever is in them; return how many."""
    removed = 0
    for parent, _ in _parents():
        for folder in owner.left(parent):
            for pid in _words(folder / "cgroup.procs"):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(int(pid), signal.SIGKILL)
            _remove(folder)
            removed += 1
    return removed


def _remove(folder: Path) -> None:
    deadline = time.monotonic() + _GONE_SECONDS
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                return  # the next command sweeps it
            time.sleep(0.005)
        else:
            return
