"""Memory: how much is free, and whether an error means that it ran out."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING

import psutil  # accelerate needs it too
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

# What holds this process to less than the machine has, in control groups of version 2 and 1: the folder, its files for
# limit and use, and the field of memory.stat that says how much of the use is page cache that can be dropped.
GROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
# How torch and the libraries below it word it where they do not raise `torch.OutOfMemoryError`.
OUT_OF_MEMORY = (
    "out of memory",  # AcceleratorError, CUDA's and HIP's own errors, NCCL
    "can't allocate memory",  # torch's allocator on the CPU
    "could not create a memory object",  # oneDNN
    "alloc_failed",  # CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED, CUSOLVER_..., CUSPARSE_...
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out: by torch's error classes, or the words of allocators, cuBLAS, cuDNN and oneDNN."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(name in words for name in OUT_OF_MEMORY)


def release_memory() -> None:
    """Hand memory that is no longer referenced back to the accelerator, before a smaller retry."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_memory(device: torch.device | str) -> int:
    """How many bytes can be had on a device.

    Of an accelerator, with what torch holds there for reuse; else what Linux can give without swapping, within the
    limit of a container.
    """
    if torch.device(device).type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return min(int(psutil.virtual_memory().available), *_of_groups())


def _of_groups() -> Iterator[int]:
    for folder, limit, use, cached in GROUPS:
        try:
            most, used, stat = ((folder / name).read_text(encoding="ascii") for name in (limit, use, "memory.stat"))
        except OSError:
            continue
        if most.strip().isdigit():
            page_cache = int(dict(map(str.split, stat.splitlines())).get(cached, 0))
            yield min(max(int(most) - int(used) + page_cache, 0), int(most))
    yield 1 << 62  # no group, or one without a limit
