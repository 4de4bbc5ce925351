"""Which layers LoRA goes on, and adapters that are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")

from families import make_base, make_wrapper_base, save_adapter  # noqa: E402

from tiararodney.sekft.errors import UsageError  # noqa: E402
from tiararodney.sekft.model import attach_adapter, changes_logits, load_base  # noqa: E402
from tiararodney.sekft.model.merge import merge_adapter  # noqa: E402
from tiararodney.sekft.model.targets import read_targets  # noqa: E402
from tiararodney.sekft.sft.config import TrainConfig  # noqa: E402
from tiararodney.sekft.sft.lora import fresh_adapter  # noqa: E402

pytestmark = pytest.mark.torch


def trained(base: Any, **settings: Any) -> set[str]:
    """The paths of the layers that are trained."""
    config = TrainConfig(out=Path("out"), base=base.path, data=Path("data"), **settings)
    with fresh_adapter(base, config) as parameters:
        return {path.partition(".lora_")[0] for path in parameters}


def test_targets_are_names_or_a_pattern():
    assert read_targets("all-linear") == "all-linear"
    assert read_targets("q_proj, layers.0.mlp.up_proj") == ["q_proj", "layers.0.mlp.up_proj"]
    assert read_targets(r".*\.(q|v)_proj") == r".*\.(q|v)_proj"


@pytest.mark.parametrize("targets", ["all-linear", "q_proj,v_proj", r".*language_model.*(q|v)_proj"])
def test_the_vision_tower_is_left_alone(targets: str):
    found = trained(make_wrapper_base("gemma3"), target_modules=targets)
    assert found
    assert all(path.startswith("model.language_model.") for path in found)
    assert {path.rpartition(".")[2] for path in found} >= {"q_proj", "v_proj"}


def test_a_pattern_that_reaches_the_tower_is_refused():
    with pytest.raises(UsageError, match=r"reaches model\.vision_tower.*text never trains"):
        trained(make_wrapper_base("gemma3"), target_modules=r".*\.q_proj")


def test_excluded_modules_are_left_out():
    found = trained(make_base("llama"), exclude_modules="down_proj,k_proj")
    assert {path.rpartition(".")[2] for path in found} == {"q_proj", "v_proj", "o_proj", "gate_proj", "up_proj"}


@pytest.mark.parametrize("lost", ["qproj", "embed_tokens"])
def test_names_without_a_trained_weight_are_refused(lost: str):
    base = make_base("llama")
    with pytest.raises(UsageError, match=rf"--target-modules: found {lost}.*q_proj"):
        trained(base, target_modules=f"v_proj,{lost}")
    assert base.adapters.handle is None


def plain_adapter(base: Path, folder: Path, **config: Any) -> Path:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    config = {"r": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"} | config
    get_peft_model(model, LoraConfig(**config)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"modules_to_save": ["lm_head"]}, "modules_to_save: "),
        ({"trainable_token_indices": {"embed_tokens": [1, 2]}}, "trainable_token_indices: "),
        ({"bias": "lora_only"}, "bias: lora_only"),
    ],
)
def test_adapters_of_more_than_lora_are_refused(tiny_base: Path, tmp_path: Path, config: dict[str, Any], says: str):
    base = load_base(tiny_base, dtype="float32", device="cpu")
    with pytest.raises(UsageError, match=rf"trains more than LoRA layers \(.*{says}"):
        attach_adapter(base, plain_adapter(tiny_base, tmp_path / "a", **config), "a")


def test_a_damaged_adapter_is_refused(tiny_base: Path, tmp_path: Path):
    base = load_base(tiny_base, dtype="float32", device="cpu")
    folder = plain_adapter(tiny_base, tmp_path / "a")
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UsageError, match=r"adapter_model\.safetensors: found a file that cannot be read"):
        attach_adapter(base, folder, "a")
    assert base.adapters.handle is None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attached_weights_have_the_compute_type(tiny_base: Path, tmp_path: Path, dtype: str):
    base = load_base(tiny_base, dtype=dtype, device="cpu")
    for name in ("a", "b"):
        attach_adapter(base, save_adapter(tmp_path / name, tiny_base), name)
    found = {p.dtype for key, p in base.model.named_parameters() if "lora_" in key}
    assert found == {getattr(torch, dtype)}


def test_whether_an_adapter_does_anything_is_told(tiny_base: Path, tmp_path: Path):
    base = load_base(tiny_base, dtype="float32", device="cpu")
    attach_adapter(base, plain_adapter(tiny_base, tmp_path / "fresh"), "fresh")
    attach_adapter(base, save_adapter(tmp_path / "tuned", tiny_base), "tuned")
    assert not changes_logits(base, "fresh")
    assert changes_logits(base, "tuned")
    assert base.adapters.active is None


def test_merging_into_a_tied_head_is_refused(make_base: Callable[..., Path], tmp_path: Path):
    tied = make_base(tie_word_embeddings=True)
    adapter = plain_adapter(tied, tmp_path / "a", target_modules=["q_proj", "lm_head"])
    with pytest.raises(UsageError, match="output head, whose weights"):
        merge_adapter(tied, adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
