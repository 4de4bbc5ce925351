"""The 4-bit copy of a base on disk: the same bits as quantising, made anew where anything is not as it was."""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")
pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra gpu)")

from tiararodney.sekft.model import cache, fourbit, load_base  # noqa: E402 - torch first, or the module is skipped

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(logging.getLogger("tiararodney"), "propagate", True)
    return tmp_path / "cache" / "sekft" / "nf4"


@pytest.fixture
def quantised(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts how often transformers was told to quantise."""
    calls: list[int] = []
    real = fourbit.quantisation_config
    monkeypatch.setattr(fourbit, "quantisation_config", lambda *dtype: (calls.append(1), real(*dtype))[1])
    monkeypatch.setattr(cache, "_deciding", _without_counting(cache._deciding, calls))
    return calls


def _without_counting(real: Callable[..., Any], calls: list[int]) -> Callable[..., Any]:
    def deciding(*args: Any) -> Any:
        before = len(calls)
        found = real(*args)
        del calls[before:]
        return found

    return deciding


def copies(root: Path) -> list[Path]:
    return sorted(root.iterdir()) if root.exists() else []


def load(folder: Path, **how: Any) -> Any:
    return load_base(folder, four_bit=True, device="cpu", **({"dequantise": False} | how))


def logits(base: Any) -> Any:
    with torch.no_grad():
        return base.model(input_ids=torch.tensor([list(range(5, 40))])).logits


def test_the_second_load_quantises_nothing_and_has_the_same_bits(tiny_base: Path, root: Path, quantised: list[int]):
    fresh = logits(load(tiny_base, cache=False))
    assert (len(quantised), copies(root)) == (1, []), "turned off, nothing is kept"
    first = load(tiny_base)
    assert (len(quantised), len(copies(root))) == (2, 1)
    second = load(tiny_base)
    assert len(quantised) == 2
    assert torch.equal(logits(first), fresh)
    assert torch.equal(logits(second), fresh)
    assert second.fingerprint == first.fingerprint
    assert second.path == first.path == tiny_base
    assert second.model.config._name_or_path == str(tiny_base)
    assert torch.equal(logits(load(tiny_base, dequantise=True)), logits(load(tiny_base, dequantise=True, cache=False)))


def test_reading_the_weights_after_a_forward_leaves_a_cached_base_as_it_was(make_base: Callable[..., Path]):
    """The corruption that `guard_against_repacking` is for, on a base that came from the cache."""
    folder = make_base(hidden_size=256, intermediate_size=512, num_attention_heads=4)
    load(folder)
    base = load(folder)
    before = logits(base)
    base.model.state_dict()
    assert torch.equal(logits(base), before)


@pytest.mark.parametrize("spoil", ["flip", "cut", "lose", "no manifest", "nonsense manifest"])
def test_a_damaged_copy_is_noticed_and_made_anew(
    tiny_base: Path, root: Path, quantised: list[int], caplog: pytest.LogCaptureFixture, spoil: str
):
    expected = logits(load(tiny_base))
    (copy,) = copies(root)
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    if spoil == "flip":
        data[len(data) // 2] ^= 1
        weights.write_bytes(data)
    elif spoil == "cut":
        weights.write_bytes(data[: len(data) // 2])
    elif spoil == "lose":
        weights.unlink()
    elif spoil == "no manifest":
        (copy / cache.MANIFEST).unlink()
    else:
        (copy / cache.MANIFEST).write_text("[1]")
    assert torch.equal(logits(load(tiny_base)), expected)
    assert len(quantised) == 2
    assert any("is damaged" in message for message in caplog.messages)
    assert torch.equal(logits(load(tiny_base)), expected)
    assert len(quantised) == 2, "the new copy is good"


def test_another_base_in_the_same_place_has_a_copy_of_its_own(make_base: Callable[..., Path], root: Path):
    one, other = make_base(seed=1), make_base(seed=2)
    before = logits(load(one))
    # the same size and, to make it hard, the same time
    stamp = (one / "model.safetensors").stat()
    (one / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    os.utime(one / "model.safetensors", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert torch.equal(logits(load(one)), logits(load(other, cache=False)))
    assert not torch.equal(logits(load(one)), before)
    assert len(copies(root)) == 2


def test_what_decides_the_bits_decides_the_place(tiny_base: Path, monkeypatch: pytest.MonkeyPatch):
    types = (torch.float32, torch.bfloat16)
    found = [cache._deciding(tiny_base, device, dtype) for device in ("cpu", "cuda:0") for dtype in types]
    assert not any(one == other for n, one in enumerate(found) for other in found[:n])
    assert cache._deciding(tiny_base, "cuda:1", types[0]) in found, "which of several devices has no part in it"
    real = cache.metadata.version
    monkeypatch.setattr(cache.metadata, "version", lambda name: "0" if name == "bitsandbytes" else real(name))
    assert cache._deciding(tiny_base, "cpu", types[0]) not in found


def test_a_cache_that_cannot_be_written_costs_the_copy_and_not_the_load(
    tiny_base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert torch.equal(logits(load(tiny_base)), logits(load(tiny_base, cache=False)))
    assert any("no NF4 copy is kept" in message for message in caplog.messages)


def test_a_copy_that_goes_while_it_is_read_is_quantised_again(
    tiny_base: Path, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    expected = logits(load(tiny_base))
    real = cache._check

    def found_and_gone(copy: Path) -> None:
        real(copy)
        shutil.rmtree(copy)

    monkeypatch.setattr(cache, "_check", found_and_gone)
    assert torch.equal(logits(load(tiny_base)), expected)
    assert any("is damaged" in message for message in caplog.messages)
    assert len(copies(root)) == 1


def test_of_two_processes_that_make_a_copy_the_first_ones_stays(
    tiny_base: Path, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    expected = logits(load(tiny_base))
    (copy,) = copies(root)
    aside = copy.rename(root.parent / "aside")
    half_made = root / f".{copy.name}.writing-another"
    half_made.mkdir()
    real = cache.load_model

    def beaten(folder: Path, *args: Any, **how: Any) -> Any:
        model = real(folder, *args, **how)
        aside.rename(copy)  # another process was faster
        return model

    monkeypatch.setattr(cache, "load_model", beaten)
    first = aside.stat().st_ino
    assert torch.equal(logits(load(tiny_base)), expected)
    assert copy.stat().st_ino == first
    assert half_made.exists(), "another process may be at work on it"
    assert not any("no NF4 copy" in message for message in caplog.messages)
    monkeypatch.setattr(cache, "load_model", real)
    os.utime(half_made, (0, 0))
    shutil.rmtree(copy)
    load(tiny_base)
    assert not half_made.exists()


def test_the_manifest_says_what_the_copy_is_of(tiny_base: Path, root: Path):
    base = load(tiny_base)
    told = json.loads((copies(root)[0] / cache.MANIFEST).read_text())
    assert told["of"]["base"] == base.fingerprint
    assert set(told["of"]["versions"]) == {"bitsandbytes", "transformers", "torch"}
    assert "model.safetensors" in told["files"]


def test_copies_long_unused_are_removed(tiny_base: Path, make_base: Callable[..., Path], root: Path):
    load(make_base(seed=5))
    [unused] = copies(root)
    long_ago = time.time() - (cache.UNUSED_DAYS + 1) * 86400
    os.utime(unused / cache.MANIFEST, (long_ago, long_ago))
    load(tiny_base)
    assert unused not in copies(root)
    assert len(copies(root)) == 1


def test_a_changed_configuration_gets_a_copy_of_its_own(tiny_base: Path, tmp_path: Path, root: Path):
    load(tiny_base)
    changed = tmp_path / "changed"
    shutil.copytree(tiny_base, changed)
    config = json.loads((changed / "config.json").read_text()) | {"rms_norm_eps": 1e-2}
    (changed / "config.json").write_text(json.dumps(config))
    assert load(changed).model.config.rms_norm_eps == 1e-2
    assert len(copies(root)) == 2
