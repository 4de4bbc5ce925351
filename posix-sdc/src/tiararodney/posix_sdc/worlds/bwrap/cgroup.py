"""A control group for a sandbox, if this process may create one: it limits the memory of a whole world.

Version 2 is used where an ancestor of this process's own group hands memory and pids on to its children, version 1
where memory is mounted apart. An ordinary user has such a group only where one was delegated; without one
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

from tiararodney.posix_sdc.support import owner

_CONTROLLERS = ("memory", "pids")
_COUNT = itertools.count()
_GONE_SECONDS = 5.0


@dataclass(frozen=True)
class Group:
    """A control group, as its folders."""

    folders: tuple[Path, ...]

    def add(self, pid: int) -> None:
        """Add a process and its future children."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                Path(folder, "cgroup.procs").write_text(str(pid))

    def size(self) -> int:
        """Return how many processes are in it."""
        return len(_words(self.folders[0] / "cgroup.procs"))

    def remove(self) -> None:
        """Remove the group, once its last process is gone."""
        for folder in self.folders:
            _remove(folder)


def make(memory_bytes: int, pids: int) -> Group | None:
    """Make a group.

    Args:
        memory_bytes: of all processes and of what they write into a tmpfs.
        pids: processes and threads at a time, where version 2 can hold them too.

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
    if not ("memory" in mounts and "memory" in own):
        return ()
    folder = Path(f"{mounts['memory']}{own['memory']}")
    if not os.access(folder, os.W_OK):
        return ()
    # That of memory and swap together can only be set after that of memory, and only where swap is accounted. Every
    # hierarchy costs a world milliseconds to enter: processes are left to the limit that each user namespace has.
    return ((folder, {"memory.limit_in_bytes": "memory", "memory.memsw.limit_in_bytes": "memory"}),)


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
    """Remove groups whose owners have ended, with their processes; return how many."""
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
