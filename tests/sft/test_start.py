"""Runs that start from an adapter, and those that draw at random: what goes on, what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")

from safetensors.torch import load_file  # noqa: E402 - torch first, or the whole module is skipped

from tiararodney.sekft.errors import UsageError  # noqa: E402
from tiararodney.sekft.sft.config import TrainConfig  # noqa: E402
from tiararodney.sekft.sft.train import train  # noqa: E402

pytestmark = pytest.mark.torch

Configure = Callable[..., TrainConfig]


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "curve.jsonl").read_text().splitlines()]


def same_bits(one: Path, other: Path) -> bool:
    left, right = (load_file(folder / "adapter_model.safetensors") for folder in (one, other))
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("use_dora", [False, True])
def test_a_run_starts_where_the_adapter_left_off_and_leaves_it_alone(
    configure: Configure, tmp_path: Path, use_dora: bool
):
    config = configure(epochs=4.0, tokens_per_batch=10_000, lr_schedule="constant", use_dora=use_dora)
    first = train(replace(config, out=tmp_path / "first"))
    before = (first / "adapter_model.safetensors").read_bytes()
    # neither rank nor kind is said again: they are the adapter's
    more = replace(config, init_adapter=first, lora_r=16, lora_alpha=32.0, use_dora=False, learning_rate=1e-9)
    second = train(replace(more, max_steps=1))
    assert (first / "adapter_model.safetensors").read_bytes() == before
    assert losses(second)[0] < min(losses(first)), "it goes on from the last weights, not from the first"
    record = json.loads((second / "training.json").read_text())
    assert (record["lora"]["lora_r"], record["lora"]["lora_alpha"]) == (4, 8.0)
    assert record["lora"]["use_dora"] is use_dora
    assert record["config"]["init_adapter"] == str(first)
    for key, tensor in load_file(second / "adapter_model.safetensors").items():
        torch.testing.assert_close(tensor, load_file(first / "adapter_model.safetensors")[key], rtol=0, atol=1e-6)


def test_a_start_that_does_not_fit_is_refused(configure: Configure, make_base: Callable[..., Path], tmp_path: Path):
    first = train(configure(out=tmp_path / "first", max_steps=1))
    config = configure(init_adapter=first, max_steps=1, lora_r=16, lora_alpha=32.0)
    with pytest.raises(UsageError, match=r"--lora-r: found 8, but --init-adapter .* has 4"):
        train(replace(config, lora_r=8))
    with pytest.raises(UsageError, match="--target-modules: found q_proj"):
        train(replace(config, target_modules="q_proj"))
    with pytest.raises(UsageError, match=r"--init-adapter .*: no such folder"):
        train(replace(config, init_adapter=tmp_path / "none"))
    with pytest.raises(UsageError, match=r"--init-adapter .*: the adapter of another base"):
        train(replace(config, base=make_base(seed=5)))
    settings = json.loads((first / "adapter_config.json").read_text())
    (first / "adapter_config.json").write_text(json.dumps(settings | {"modules_to_save": ["lm_head"]}))
    with pytest.raises(UsageError, match="trains more than LoRA layers"):
        train(config)


def test_another_start_is_another_run_and_cannot_be_resumed_as_this_one(configure: Configure, tmp_path: Path):
    one = train(configure(out=tmp_path / "one", max_steps=1))
    two = train(configure(out=tmp_path / "two", max_steps=2))
    config = configure(init_adapter=one, lora_r=16, lora_alpha=32.0)
    asked = iter([False] * 4 + [True] * 100)
    with pytest.raises(KeyboardInterrupt):
        train(config, should_stop=lambda: next(asked))
    with pytest.raises(UsageError, match="init_adapter was"):
        train(replace(config, resume=True, init_adapter=two))


def test_dropout_draws_the_same_in_a_resumed_run(configure: Configure, tmp_path: Path):
    config = configure(lora_dropout=0.2, epochs=3.0)
    unbroken = train(replace(config, out=tmp_path / "unbroken"))
    asked = iter([False] * 5 + [True] * 100)
    with pytest.raises(KeyboardInterrupt):
        train(config, should_stop=lambda: next(asked))
    assert same_bits(unbroken, train(replace(config, resume=True)))
    assert not same_bits(unbroken, train(replace(config, out=tmp_path / "without", lora_dropout=0.0)))


def test_checkpointing_works_where_transformers_own_forward_is_used(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from tiararodney.sekft.sft.step import forward

    config = configure(max_steps=2, use_dora=True)
    plain = train(config)
    calls: list[int] = []
    real = forward.checkpoint
    monkeypatch.setattr(forward, "checkpoint", lambda *a, **how: (calls.append(1), real(*a, **how))[1])
    again = train(replace(config, out=tmp_path / "again", gradient_checkpointing="always"))
    assert calls, "layers went through it"
    assert losses(plain) == pytest.approx(losses(again), rel=1e-6)


def test_a_merged_model_is_written_beside_the_adapter(configure: Configure, tmp_path: Path):
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config = configure(epochs=3.0, save_merged=tmp_path / "merged")
    out = train(config)
    ids = torch.tensor([list(range(5, 60))])
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")(input_ids=ids).logits
        tuned = AutoPeftModelForCausalLM.from_pretrained(out, dtype=torch.float32)(input_ids=ids).logits
    torch.testing.assert_close(merged, tuned, rtol=1e-3, atol=1e-3)
    template = AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template
    assert template == (out / "chat_template.jinja").read_text(), "it normalises by itself, as the adapter's does"
    with pytest.raises(UsageError, match=r"--save-merged .*: exists"):
        train(replace(config, out=tmp_path / "another"))


def test_the_merged_folder_has_all_that_llama_cpps_converter_reads(configure: Configure, tmp_path: Path):
    """Its script is no package, but the library that it reads tokenizer, template and tensor names with is."""
    gguf = pytest.importorskip("gguf", reason="needs gguf (extra test)")
    merged = tmp_path / "merged"
    out = train(configure(max_steps=1, save_merged=merged))
    config = json.loads((merged / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    tensors = load_file(merged / "model.safetensors")
    places = {key: names.get_name(key, try_suffixes=(".weight", ".bias")) for key in tensors}
    assert None not in places.values(), "every tensor has a place in a GGUF file"
    assert len(set(places.values())) == len(tensors)
    vocabulary = gguf.SpecialVocab(merged, load_merges=True)
    assert vocabulary.chat_template == (out / "chat_template.jinja").read_text(), "the file brings the normalisation"
    assert vocabulary.special_token_ids["eos"] == config["eos_token_id"]
    assert vocabulary.merges
