"""The torch boundary: loading, 4-bit, adapters, generation."""

import builtins
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")

from families import save_adapter  # noqa: E402  # torch first, or the whole module is skipped

from tiararodney.sekft import model as sekft_model  # noqa: E402  # torch first, or the whole module is skipped
from tiararodney.sekft.errors import UsageError  # noqa: E402
from tiararodney.sekft.model import fourbit  # noqa: E402
from tiararodney.sekft.model.base import FairLock  # noqa: E402

pytestmark = pytest.mark.torch

PROMPTS = [[1, 50, 60, 70, 80, 90, 100], [1, 50, 60], [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]]


def logits_of(base: Any, ids: list[int] = PROMPTS[2]) -> Any:
    with torch.no_grad():
        return base.model(input_ids=torch.tensor([ids], device=base.device)).logits


# ---- loading


def test_a_base_is_loaded_frozen_and_in_eval_mode(tiny_base: Path):
    base = sekft_model.load_base(tiny_base, dtype="float32", device="cpu")
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert not base.model.training
    assert base.dtype == torch.float32
    assert base.tokenizer.encode("ls -la")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "nowhere", "no such folder"),
        (lambda folder: folder, "no config.json"),
        (lambda folder: _write(folder, "adapter_config.json", "{}"), "it holds an adapter"),
        (lambda folder: _write(folder, "config.json", "[1]"), "cannot read field model_type .*TypeError"),
        (lambda folder: _write(folder, "config.json", "{"), "cannot read field model_type .*JSONDecodeError"),
        (lambda folder: _write(folder, "config.json", "{}"), "cannot read field model_type .*KeyError"),
        (lambda folder: _write(folder, "config.json", '{"model_type": "llama"}'), "no weights"),
    ],
)
def test_a_base_that_is_no_model_folder_is_refused_with_what_was_expected(
    tmp_path: Path, make: Callable[[Path], Path], says: str
):
    with pytest.raises(UsageError, match=says) as caught:
        sekft_model.load_base(make(tmp_path))
    assert "xpected" in str(caught.value)


def _write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder


def test_load_4bit_without_bitsandbytes_names_the_extra(tiny_base: Path, monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def blocked(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".", maxsplit=1)[0] == "bitsandbytes":
            raise ImportError("No module named 'bitsandbytes'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(UsageError, match=r"tiararodney\.sekft\[gpu\]"):
        sekft_model.load_base(tiny_base, four_bit=True)


def test_the_fingerprint_follows_the_weights_and_not_the_folder(make_base: Callable[..., Path]):
    one, again, other = make_base(seed=1), make_base(seed=1), make_base(seed=2)
    assert sekft_model.base_fingerprint(one) == sekft_model.base_fingerprint(again)
    assert sekft_model.base_fingerprint(one) != sekft_model.base_fingerprint(other)


# ---- 4-bit


def test_dequantised_nf4_is_the_function_that_transformers_loads(tiny_base: Path):
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra gpu)")
    from transformers import AutoModelForCausalLM

    packed = AutoModelForCausalLM.from_pretrained(
        tiny_base, dtype=torch.bfloat16, quantization_config=fourbit.quantisation_config(), device_map={"": "cpu"}
    )
    fourbit.guard_against_repacking(packed)
    plain = sekft_model.load_base(tiny_base, four_bit=True, device="cpu", dtype="bfloat16", dequantise=True)
    full = sekft_model.load_base(tiny_base, device="cpu")
    ids = torch.tensor([PROMPTS[2]])
    with torch.no_grad():
        assert torch.equal(packed(input_ids=ids).logits, plain.model(input_ids=ids).logits)
    assert not torch.equal(logits_of(plain), logits_of(full)), "NF4 must round something, or nothing was quantised"


def _logits_around_a_state_dict(tiny_base: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    if not guarded:
        monkeypatch.setattr(fourbit, "guard_against_repacking", lambda _model: 0)
    base = sekft_model.load_base(tiny_base, four_bit=True, device="cpu", dequantise=False)
    before = logits_of(base)
    base.model.state_dict()
    return before, logits_of(base)


def _repacks() -> bool:
    try:
        from bitsandbytes.functional import has_avx512bf16
    except ImportError:
        return False
    return bool(has_avx512bf16())


def test_packed_nf4_survives_a_state_dict(tiny_base: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra gpu)")
    before, after = _logits_around_a_state_dict(tiny_base, True, monkeypatch)
    assert torch.equal(before, after)


@pytest.mark.skipif(not _repacks(), reason="this CPU has no AVX512-BF16, so bitsandbytes does not repack")
def test_without_the_guard_a_state_dict_corrupts_the_base(make_base: Callable[..., Path], monkeypatch):
    """The check above can fail: this is the defect it guards against. If this one fails, the guard can go."""
    folder = make_base(hidden_size=256, intermediate_size=512, num_attention_heads=4)
    before, after = _logits_around_a_state_dict(folder, False, monkeypatch)
    assert not torch.equal(before, after)


# ---- adapters


@pytest.mark.parametrize("four_bit", [False, True])
def test_the_base_is_bit_for_bit_as_before_after_adapters_came_and_went(
    tiny_base: Path, tmp_path: Path, four_bit: bool
):
    if four_bit:
        pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra gpu)")
    base = sekft_model.load_base(tiny_base, four_bit=four_bit, device="cpu", dequantise=False if four_bit else None)
    before = logits_of(base)
    modules = [type(module) for module in base.model.modules()]
    sekft_model.attach_adapter(base, save_adapter(tmp_path / "a", tiny_base, 1), "a")
    assert torch.equal(logits_of(base), before), "attached is not in use"
    sekft_model.attach_adapter(base, save_adapter(tmp_path / "b", tiny_base, 2), "b")
    with sekft_model.use_adapter(base, "a"):
        a = logits_of(base)
        with sekft_model.use_adapter(base, "b"):
            b = logits_of(base)
        with sekft_model.use_adapter(base, None):
            assert torch.equal(logits_of(base), before)
        assert torch.equal(logits_of(base), a)
    assert not torch.equal(a, before)
    assert not torch.equal(a, b)
    assert torch.equal(logits_of(base), before)
    sekft_model.detach_adapter(base, "a")
    with sekft_model.use_adapter(base, "b"):
        assert torch.equal(logits_of(base), b)
    sekft_model.detach_adapter(base, "b")
    assert torch.equal(logits_of(base), before)
    assert [type(module) for module in base.model.modules()] == modules
    assert not any(parameter.requires_grad for parameter in base.model.parameters())


def test_an_adapter_of_another_base_is_refused_by_its_record(make_base: Callable[..., Path], tmp_path: Path):
    one, other = make_base(seed=1), make_base(seed=2)
    adapter = save_adapter(tmp_path / "a", one)
    record = {"base": {"fingerprint": sekft_model.base_fingerprint(one)}}
    (adapter / "training.json").write_text(json.dumps(record))
    sekft_model.attach_adapter(sekft_model.load_base(one, device="cpu"), adapter, "a")
    base = sekft_model.load_base(other, device="cpu")
    with pytest.raises(UsageError, match="the adapter of another base"):
        sekft_model.attach_adapter(base, adapter, "a")


@pytest.mark.parametrize("shape", [{"hidden_size": 32}, {"num_hidden_layers": 1}])
def test_an_adapter_that_does_not_fit_is_refused_and_leaves_nothing_behind(
    tiny_base: Path, make_base: Callable[..., Path], tmp_path: Path, shape: dict[str, int]
):
    adapter = save_adapter(tmp_path / "a", make_base(**shape))
    base = sekft_model.load_base(tiny_base, device="cpu")
    before = logits_of(base)
    with pytest.raises(UsageError, match="the adapter of another base"):
        sekft_model.attach_adapter(base, adapter, "a")
    assert base.adapters.handle is None
    assert torch.equal(logits_of(base), before)


def test_a_folder_without_an_adapter_is_refused(tiny_base: Path, tmp_path: Path):
    base = sekft_model.load_base(tiny_base, device="cpu")
    with pytest.raises(UsageError, match="no such folder"):
        sekft_model.attach_adapter(base, tmp_path / "none", "a")
    with pytest.raises(UsageError, match=r"adapter_config\.json is missing"):
        sekft_model.attach_adapter(base, tmp_path, "a")
    with pytest.raises(UsageError, match="no adapter 'x' is attached"), sekft_model.use_adapter(base, "x"):
        pass


# ---- the lock


def test_the_lock_is_handed_on_in_the_order_of_asking():
    """A thread that takes it again at once does not keep it from one that waits, as it would a lock of Python's."""
    lock, over, turns = FairLock(), threading.Event(), 0

    def take() -> None:
        nonlocal turns
        while not over.is_set():
            with lock, lock:
                turns += 1
                time.sleep(0.002)

    thread = threading.Thread(target=take)
    thread.start()
    try:
        for _ in range(20):
            before = turns
            with lock:
                assert turns <= before + 2
                time.sleep(0.01)  # it asks meanwhile
    finally:
        over.set()
        thread.join()
    assert turns >= 15
