"""The compute type that is chosen for a device."""

import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")

from tiararodney.sekft.errors import UsageError  # noqa: E402  # torch first, or the whole module is skipped
from tiararodney.sekft.model import precision  # noqa: E402
from tiararodney.sekft.model.precision import choose_dtype  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch):
    """Make this CPU look like another one: `cpu(instruction or None, capability, bf16 speedup)`."""
    precision._of_cpu.cache_clear()

    def pretend(instruction: str | None, capability: str, speedup: float) -> None:
        monkeypatch.setattr(precision.platform, "machine", lambda: "x86_64")
        for name in ("amx_tile", "avx512_bf16"):
            monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda name=name: name == instruction)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        monkeypatch.setattr(precision, "_bf16_speedup", lambda: speedup)

    yield pretend
    precision._of_cpu.cache_clear()


@pytest.mark.parametrize(
    ("instruction", "capability", "speedup", "expected"),
    [
        ("avx512_bf16", "AVX512", 2.0, torch.bfloat16),
        ("amx_tile", "AVX512", 9.0, torch.bfloat16),
        ("avx512_bf16", "AVX512", 0.9, torch.bfloat16),  # measured beside other work
        (None, "AVX512", 2.0, torch.float32),
        (None, "AVX2", 0.1, torch.float32),
        ("avx512_bf16", "AVX2", 2.0, torch.float32),  # ATEN_CPU_CAPABILITY=avx2
        ("avx512_bf16", "AVX512", 0.03, torch.float32),  # ONEDNN_MAX_CPU_ISA=AVX2
    ],
)
def test_auto_on_a_cpu_is_bf16_only_with_usable_arithmetic(cpu, instruction, capability, speedup, expected):
    cpu(instruction, capability, speedup)
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
