"""Memory that is free, on the device or on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMINFO = Path("/proc/meminfo")
# What holds this process to less than the machine has, in control groups of version 2 and 1: the limit and its use.
GROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def free_memory(device: torch.device | str) -> int:
    """Tell how much memory can be had.

    Args:
        device: Where.

    Returns:
        Bytes: of the accelerator, with what torch holds there for reuse; else what Linux can give without swapping,
        within the limit of a container.
    """
    where = torch.device(device)
    if where.type == "cuda":
        free, _ = torch.cuda.mem_get_info(where)
        return int(free + torch.cuda.memory_reserved(where) - torch.cuda.memory_allocated(where))
    return min(_of_the_machine(), *_of_groups())


def _of_the_machine() -> int:
    for line in MEMINFO.read_text(encoding="ascii").splitlines():
        name, value = line.split(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    raise ValueError(f"{MEMINFO}: no MemAvailable. Expected a Linux of 3.14 or newer.")


def _of_groups() -> Iterator[int]:
    for limit, use in GROUPS:
        try:
            most, used = limit.read_text(encoding="ascii"), use.read_text(encoding="ascii")
        except OSError:
            continue
        if most.strip().isdigit():
            yield max(int(most) - int(used), 0)
    yield 1 << 62  # no group, or one without a limit
