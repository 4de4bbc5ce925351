"""Choose the compute type: what the device multiplies fast."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from functools import cache

import torch

from tiararodney.sekft.errors import UsageError

TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
TYPES |= {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# With bf16 instructions a product takes half the time of fp32, without them 8 to 40 times as long. The limit is far
# from both: a busy machine must not change the type between a run and its resumption.
SPEEDUP = 0.5
PRODUCT = (128, 512, 512)  # rows, inner size, columns: under a millisecond in fp32
ROUNDS = 10


@dataclass(frozen=True)
class Precision:
    """A compute type and why it was chosen.

    Attributes:
        dtype: The torch type.
        reason: A clause for logs and reports, such as "--dtype" or "no bf16 arithmetic on this CPU (AVX2)".
    """

    dtype: torch.dtype
    reason: str

    @property
    def name(self) -> str:
        """The type's name without torch's prefix, such as "bfloat16"."""
        return str(self.dtype).removeprefix("torch.")


def choose_dtype(name: str, device: str) -> Precision:
    """Choose the compute type for a device. Training, evaluation and the resident all ask here.

    "auto" is bf16 where the device has arithmetic for it: on CUDA from compute capability 8.0, on a CPU with
    AVX512-BF16 or AMX that torch may use (`ATEN_CPU_CAPABILITY` and `ONEDNN_MAX_CPU_ISA` can forbid it). Everywhere
    else it is fp32: fp16 is fast on older GPUs, but overflows in models made for bf16 and needs loss scaling.

    Raises:
        UsageError: The name is neither "auto" nor among `TYPES`.
    """
    if name != "auto":
        if name not in TYPES:
            raise UsageError(f"--dtype {name}: expected one of auto, {', '.join(TYPES)}.")
        return Precision(TYPES[name], "--dtype")
    kind = torch.device(device).type
    if kind == "cuda":
        return _of_cuda(device)
    if kind == "cpu":
        return _of_cpu()
    return Precision(torch.float32, f"not known whether {kind} computes fast in bf16")


def _of_cuda(device: str) -> Precision:
    major, minor = torch.cuda.get_device_capability(device)
    if torch.version.hip or major >= 8:  # noqa: PLR2004 - Ampere
        return Precision(torch.bfloat16, f"compute capability {major}.{minor}")
    reason = f"compute capability {major}.{minor} has no bf16 (from 8.0 on), and fp16, which is faster, may overflow"
    return Precision(torch.float32, reason)


@cache
def _of_cpu() -> Precision:
    capability = torch.backends.cpu.get_cpu_capability()
    if platform.machine() in {"x86_64", "AMD64"}:
        has = [name for name in ("amx_tile", "avx512_bf16") if getattr(torch.cpu, f"_is_{name}_supported")()]
        if not has or capability in {"DEFAULT", "AVX2"}:
            return Precision(torch.float32, f"no bf16 arithmetic on this CPU ({capability})")
    speedup = _bf16_speedup()
    found = f"a bf16 product is {speedup:.1f} times as fast as fp32 on this CPU ({capability})"
    return Precision(torch.bfloat16 if speedup >= SPEEDUP else torch.float32, found)


def _bf16_speedup() -> float:
    """Time one product in fp32 and bf16, in turn; the best of each, since a busy machine only ever adds time."""
    rows, inner, columns = PRODUCT
    best = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    for _ in range(ROUNDS):
        for dtype in best:
            left, right = torch.ones(rows, inner, dtype=dtype), torch.ones(inner, columns, dtype=dtype)
            begin = time.perf_counter()
            left @ right
            best[dtype] = min(best[dtype], time.perf_counter() - begin)
    return best[torch.float32] / best[torch.bfloat16]
