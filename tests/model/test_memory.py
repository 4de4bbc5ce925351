"""Memory that is free."""

from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")

from tiararodney.sekft.model import memory  # noqa: E402  # torch first, or the whole module is skipped
from tiararodney.sekft.model.memory import free_memory, is_out_of_memory  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(
        memory.psutil, "virtual_memory", lambda: SimpleNamespace(free=100 * 1024, available=5000 * 1024)
    )
    monkeypatch.setattr(memory, "GROUPS", ((tmp_path, "memory.max", "memory.current", "inactive_file"),))
    return tmp_path


def test_what_the_page_cache_holds_is_free(machine: Path):
    assert free_memory("cpu") == 5000 * 1024


@pytest.mark.parametrize(
    ("limit", "use", "free"),
    [
        ("3000000\n", "1000000\n", 2000000),
        ("1000\n", "2000\n", 0),
        ("max\n", "5\n", 5120000),
        ("99999999", "1", 5120000),
    ],
)
def test_a_container_has_what_its_limit_leaves(machine: Path, limit: str, use: str, free: int):
    (machine / "memory.max").write_text(limit)
    (machine / "memory.current").write_text(use)
    (machine / "memory.stat").write_text("anon 7\nfile 600000\n")
    assert free_memory("cpu") == free


def test_container_page_cache_is_free(machine: Path):
    (machine / "memory.max").write_text("3000000\n")
    (machine / "memory.current").write_text("2900000\n")
    (machine / "memory.stat").write_text("anon 400000\ninactive_file 2400000\nactive_file 90000\n")
    assert free_memory("cpu") == 2500000


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_out_of_memory_is_known_under_every_name(error: BaseException):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED"), ValueError("out of memory"), KeyError("alloc_failed")]
)
def test_other_errors_are_not_out_of_memory(error: BaseException):
    assert not is_out_of_memory(error)


def test_this_machine_has_some():
    assert 0 < free_memory("cpu") < 1 << 50
