"""Choose the compute type: what the device multiplies fast."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from tiararodney.sekft.errors import UsageError

TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
TYPES |= {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
UNLIMITED = ("BF16", "FP16", "AMX", "ALL", "DEFAULT")  # what oneDNN's instruction sets with bf16 have in their names


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


def _of_cpu() -> Precision:
    capability, most = torch.backends.cpu.get_cpu_capability(), os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    has = any(getattr(torch.cpu, f"_is_{name}_supported")() for name in ("amx_tile", "avx512_bf16"))
    if not has or capability in {"DEFAULT", "AVX2"}:
        return Precision(torch.float32, f"no bf16 arithmetic on this CPU ({capability})")
    if most and not any(name in most.upper() for name in UNLIMITED):
        return Precision(torch.float32, f"ONEDNN_MAX_CPU_ISA={most} forbids bf16 arithmetic on this CPU ({capability})")
    return Precision(torch.bfloat16, f"bf16 arithmetic on this CPU ({capability})")
