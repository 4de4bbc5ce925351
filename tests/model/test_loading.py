"""Loading a base: what is loaded, and what is refused in one sentence."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")

from families import make_model, make_wrapper  # noqa: E402  # torch first, or the whole module is skipped
from safetensors.torch import load_file, save_file  # noqa: E402

from tiararodney.sekft.errors import RunFailed, UsageError  # noqa: E402
from tiararodney.sekft.model import Generator, Sampling, base_fingerprint, load_base, loading  # noqa: E402

pytestmark = pytest.mark.torch

WEIGHTS = "model.safetensors"


@pytest.fixture
def save(tiny_base: Path, tmp_path: Path) -> Callable[[Any], Path]:
    """Write a model beside the tests' tokenizer: `save(model)` -> folder."""

    def write(model: Any) -> Path:
        folder = tmp_path / f"base{len(list(tmp_path.iterdir()))}"
        shutil.copytree(tiny_base, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
        model.save_pretrained(folder)
        return folder

    return write


def variant(folder: Path, target: Path, config: dict[str, Any] | None = None) -> Path:
    shutil.copytree(folder, target)
    if config:
        written = json.loads((target / "config.json").read_text())
        (target / "config.json").write_text(json.dumps(written | config))
    return target


def refusal(folder: Path, **how: Any) -> str:
    with pytest.raises(UsageError) as caught:
        load_base(folder, dtype="float32", device="cpu", **how)
    assert len(str(caught.value)) < 700
    assert str(folder) in str(caught.value)
    return str(caught.value)


# ---- refused


def test_missing_weights_are_refused_by_name(tiny_base: Path, tmp_path: Path):
    folder = variant(tiny_base, tmp_path / "b")
    tensors = load_file(folder / WEIGHTS)
    kept = {name: tensor for name, tensor in tensors.items() if "layers.1." not in name}
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})
    assert "lack model.layers.1.input_layernorm.weight" in refusal(folder)


def test_weights_of_other_shapes_are_refused_by_name(tiny_base: Path, tmp_path: Path):
    message = refusal(variant(tiny_base, tmp_path / "b", {"intermediate_size": 96}))
    assert "have other shapes than config.json says for model.layers.0.mlp.down_proj.weight" in message


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[: len(raw) // 2], lambda _: b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_damaged_files_are_refused(tiny_base: Path, tmp_path: Path, damage: Callable[[bytes], bytes]):
    folder = variant(tiny_base, tmp_path / "b")
    (folder / WEIGHTS).write_bytes(damage((folder / WEIGHTS).read_bytes()))
    assert "cannot" in refusal(folder)


def test_ids_beyond_the_embedding_are_refused(make_base: Callable[..., Path]):
    assert "token id 399, but the model has embeddings for 300 ids" in refusal(make_base(vocab_size=300))


@pytest.mark.parametrize("method", ["awq", "gptq", "compressed-tensors", "hqq"])
def test_other_quantisations_are_refused_by_name(tiny_base: Path, tmp_path: Path, method: str):
    folder = variant(tiny_base, tmp_path / "b", {"quantization_config": {"quant_method": method, "bits": 4}})
    assert f"quantised with {method}" in refusal(folder)


def test_models_that_do_not_reply_with_text_are_refused(tiny_base: Path, tmp_path: Path):
    assert "model_type 'vit'" in refusal(variant(tiny_base, tmp_path / "b", {"model_type": "vit"}))


def test_running_out_of_memory_fails_the_run(tiny_base: Path, monkeypatch: pytest.MonkeyPatch):
    class Full:
        def from_pretrained(self, *_args: Any, **_options: Any) -> Any:
            raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(loading, "_class_of", lambda _: Full())
    with pytest.raises(RunFailed, match="out of memory on cpu while loading"):
        load_base(tiny_base, device="cpu")


# ---- loaded


def test_families_without_sdpa_get_eager_attention(save: Callable[[Any], Path]):
    for family, expected in (("llama", "sdpa"), ("gemma2", "eager"), ("gpt_oss", "eager")):
        base = load_base(save(make_model(family, vocab_size=400)), dtype="float32", device="cpu")
        assert base.model.config._attn_implementation == expected


@pytest.mark.parametrize("kind", ["gemma3", "mistral3"])
def test_text_models_inside_wrappers_generate(save: Callable[[Any], Path], kind: str):
    base = load_base(save(make_wrapper(kind)), dtype="float32", device="cpu")
    reply = Generator(base).submit([5, 6, 7], Sampling(max_new_tokens=5)).result()
    expected = base.model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=5, do_sample=False, eos_token_id=None)
    assert reply.ids == expected[0, 3:].tolist()
    assert Generator(base).context == 4096


def test_fp8_weights_are_dequantised(save: Callable[[Any], Path]):
    wide = {"hidden_size": 128, "intermediate_size": 128, "head_dim": 32, "num_key_value_heads": 4}
    model = make_model("llama", vocab_size=400, num_hidden_layers=1, **wide)
    folder = save(model)
    tensors = {}
    for name, tensor in load_file(folder / WEIGHTS).items():
        if "proj" in name:
            scale = tensor.abs().max() / 448
            tensors[name] = (tensor / scale).to(torch.float8_e4m3fn)
            tensors[f"{name}_scale_inv"] = scale.reshape(1, 1)
        else:
            tensors[name] = tensor
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    stated = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
    folder = variant(folder, folder.with_name("fp8"), {"quantization_config": stated})
    base = load_base(folder, dtype="float32", device="cpu")
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        expected, found = model(ids).logits, base.model(ids).logits
    assert 0 < (found - expected).norm() / expected.norm() < 0.2
    assert "cannot quantise again. Leave --load-4bit out, or take" in refusal(folder, four_bit=True)


def test_fused_experts_left_out_of_nf4_are_named(save: Callable[[Any], Path], caplog: pytest.LogCaptureFixture):
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra gpu)")
    folder = save(make_model("gpt_oss", vocab_size=400))
    with caplog.at_level(logging.WARNING):
        load_base(folder, four_bit=True, dtype="float32", device="cpu", dequantise=False, cache=False)
    assert "fused experts (such as model.layers.0.mlp.experts" in caplog.text


@pytest.mark.parametrize("dequantise", [True, False])
def test_nf4_computes_in_the_chosen_type(tiny_base: Path, dequantise: bool):
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra gpu)")
    base = load_base(tiny_base, four_bit=True, device="cpu", dtype="fp32", dequantise=dequantise)
    with torch.no_grad():
        assert base.model(torch.tensor([[1, 2, 3]])).logits.dtype == torch.float32
    assert (
        base.model.model.layers[0](torch.zeros(1, 3, 64), position_embeddings=(torch.ones(1, 3, 16),) * 2) is not None
    )


def test_prequantised_nf4_is_held_as_such(tiny_base: Path, tmp_path: Path):
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra gpu)")
    packed = load_base(tiny_base, four_bit=True, device="cpu", dtype="fp32", dequantise=False, cache=False)
    folder = tmp_path / "b"
    shutil.copytree(tiny_base, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    packed.model.save_pretrained(folder)
    again = load_base(folder, device="cpu", dtype="fp32", dequantise=False)
    assert again.four_bit
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        again.model(ids)
        again.model.state_dict()  # would corrupt weights that bitsandbytes has repacked
        assert torch.equal(again.model(ids).logits, packed.model(ids).logits)


@pytest.mark.parametrize("dequantise", [True, False])
@pytest.mark.parametrize(("saved", "asked"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_a_base_saved_in_nf4_computes_in_the_type_asked_for(
    tiny_base: Path, tmp_path: Path, saved: str, asked: str, dequantise: bool
):
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra gpu)")
    packed = load_base(tiny_base, four_bit=True, device="cpu", dtype=saved, dequantise=False, cache=False)
    folder = tmp_path / "b"
    shutil.copytree(tiny_base, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    packed.model.save_pretrained(folder)
    base = load_base(folder, device="cpu", dtype=asked, dequantise=dequantise)
    with torch.no_grad():
        assert base.model(torch.tensor([[1, 2, 3]])).logits.dtype == base.dtype == getattr(torch, asked)


# ---- identity


def test_the_fingerprint_is_of_tensors_and_tokenizer(tiny_base: Path, make_base: Callable[..., Path], tmp_path: Path):
    from transformers import AutoModelForCausalLM

    shards = variant(tiny_base, tmp_path / "shards", {"eos_token_id": 7})
    (shards / WEIGHTS).unlink()
    AutoModelForCausalLM.from_pretrained(tiny_base).save_pretrained(shards, max_shard_size="100KB")
    assert len(list(shards.glob("*.safetensors"))) > 1
    pickled = variant(tiny_base, tmp_path / "pickled")
    (pickled / WEIGHTS).unlink()
    torch.save(load_file(tiny_base / WEIGHTS), pickled / "pytorch_model.bin")
    assert base_fingerprint(shards) == base_fingerprint(tiny_base)
    assert base_fingerprint(pickled) == base_fingerprint(tiny_base)
    assert base_fingerprint(make_base(seed=2)) != base_fingerprint(tiny_base)
    other = variant(tiny_base, tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["model"]["merges"].pop()
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert base_fingerprint(other) != base_fingerprint(tiny_base)
