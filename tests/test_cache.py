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

from tiararodney.sekft.model import base as base_module  # noqa: E402 - torch first, or the module is skipped
from tiararodney.sekft.model import cache, fourbit, load_base  # noqa: E402

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
    places = {cache._place(tiny_base, device, dtype) for device in ("cpu", "cuda:0") for dtype in ("a", "b")}
    assert len(places) == 4
    assert cache._place(tiny_base, "cuda:1", "a") in places, "which of several devices has no part in it"
    real = cache.metadata.version
    monkeypatch.setattr(cache.metadata, "version", lambda name: "0" if name == "bitsandbytes" else real(name))
    assert cache._place(tiny_base, "cpu", "a") not in places


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
    real = base_module.find_copy

    def found_and_gone(*args: Any) -> Path:
        copy = real(*args)
        shutil.rmtree(copy)
        return copy

    monkeypatch.setattr(base_module, "find_copy", found_and_gone)
    assert torch.equal(logits(load(tiny_base)), expected)
    assert any("cannot be loaded" in message for message in caplog.messages)


def test_of_two_processes_that_make_a_copy_the_first_ones_stays(
    tiny_base: Path, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    load(tiny_base)
    (copy,) = copies(root)
    first = copy.stat().st_ino
    half_made = root / f".{copy.name}.writing-another"
    half_made.mkdir()
    monkeypatch.setattr(base_module, "find_copy", lambda *_: None)  # it was not there when this process looked
    load(tiny_base)
    assert copy.stat().st_ino == first
    assert half_made.exists(), "another process may be at work on it"
    assert not caplog.messages or not any("no NF4 copy" in message for message in caplog.messages)
    os.utime(half_made, (0, 0))
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(root.parents[1]))
    shutil.rmtree(copy)
    load(tiny_base)
    assert not half_made.exists()


def test_a_file_of_many_stretches_is_hashed_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache, "STRETCH", 10)
    file = tmp_path / "file"
    digests = set()
    for at in range(35):
        data = bytearray(35)
        data[at] = 1
        file.write_bytes(data)
        digests.add(cache.file_digest(file))
    assert len(digests) == 35


def test_the_manifest_says_what_the_copy_is_of(tiny_base: Path, root: Path):
    base = load(tiny_base)
    told = json.loads((copies(root)[0] / cache.MANIFEST).read_text())
    assert told["of"]["base"] == base.fingerprint
    assert set(told["of"]["versions"]) == {"bitsandbytes", "transformers", "torch"}
    assert "model.safetensors" in told["files"]


def test_copies_of_other_versions_are_removed(
    tiny_base: Path, make_base: Callable[..., Path], root: Path, monkeypatch: pytest.MonkeyPatch
):
    load(make_base(seed=5))
    load(tiny_base)
    before = copies(root)
    real = cache.metadata.version
    monkeypatch.setattr(cache.metadata, "version", lambda name: f"{real(name)}.1")
    load(tiny_base)
    left = copies(root)
    assert len(left) == 2, "the new copy, and that of another base"
    assert len(set(left) & set(before)) == 1


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
