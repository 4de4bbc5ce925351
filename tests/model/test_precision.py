"""The compute type that is chosen for a device."""

import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")

from tiararodney.sekft.errors import UsageError  # noqa: E402  # torch first, or the whole module is skipped
from tiararodney.sekft.model.precision import choose_dtype  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("instruction", "capability", "limit", "expected"),
    [
        ("avx512_bf16", "AVX512", None, torch.bfloat16),
        ("amx_tile", "AVX512", None, torch.bfloat16),
        ("avx512_bf16", "AVX512", "avx512_core_bf16", torch.bfloat16),
        ("amx_tile", "AVX512", "DEFAULT", torch.bfloat16),
        (None, "AVX512", None, torch.float32),
        (None, "AVX2", None, torch.float32),
        ("avx512_bf16", "AVX2", None, torch.float32),  # ATEN_CPU_CAPABILITY=avx2
        ("avx512_bf16", "AVX512", "AVX2", torch.float32),
        ("avx512_bf16", "AVX512", "AVX512_CORE_VNNI", torch.float32),
    ],
)
def test_auto_on_a_cpu_is_bf16_only_with_usable_arithmetic(
    monkeypatch: pytest.MonkeyPatch, instruction: str | None, capability: str, limit: str | None, expected: torch.dtype
):
    for name in ("amx_tile", "avx512_bf16"):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda name=name: name == instruction)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if limit:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    chosen = choose_dtype("auto", "cpu")
    assert chosen.dtype == expected
    assert capability in chosen.reason


@pytest.mark.parametrize("variable", ["ATEN_CPU_CAPABILITY=avx2", "ONEDNN_MAX_CPU_ISA=AVX2"])
def test_auto_respects_limits_on_instructions(variable: str):
    name, _, value = variable.partition("=")
    code = "from tiararodney.sekft.model.precision import choose_dtype; print(choose_dtype('auto', 'cpu').name)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {name: value}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "float32"


@pytest.mark.parametrize(
    ("capability", "expected"), [((9, 0), "bfloat16"), ((8, 0), "bfloat16"), ((7, 5), "float32"), ((6, 1), "float32")]
)
def test_auto_on_cuda_is_bf16_from_capability_8(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    chosen = choose_dtype("auto", "cuda:0")
    assert chosen.name == expected
    assert ".".join(map(str, capability)) in chosen.reason


@pytest.mark.parametrize(
    ("name", "expected"), [("bf16", "bfloat16"), ("fp16", "float16"), ("fp32", "float32"), ("float32", "float32")]
)
def test_short_names_of_types_are_taken(name: str, expected: str):
    assert choose_dtype(name, "cpu").name == expected


def test_unknown_type_is_refused():
    with pytest.raises(UsageError, match="--dtype int8: expected one of auto, bfloat16"):
        choose_dtype("int8", "cpu")
