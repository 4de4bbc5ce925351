"""Memory that is free."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch (extra gpu)")

from tiararodney.sekft.model import memory
from tiararodney.sekft.model.memory import free_memory

pytestmark = pytest.mark.torch


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "meminfo").write_text("MemTotal:       8000 kB\nMemFree:         100 kB\nMemAvailable:   5000 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUPS", ((tmp_path / "memory.max", tmp_path / "memory.current"),))
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
    assert free_memory("cpu") == free


def test_a_system_that_does_not_tell_is_named(machine: Path):
    (machine / "meminfo").write_text("MemTotal:       8000 kB\n")
    with pytest.raises(ValueError, match="no MemAvailable"):
        free_memory("cpu")


def test_this_machine_has_some():
    assert 0 < free_memory("cpu") < 1 << 50
