"""A merged model: plain transformers loads it and computes what base and adapter compute."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")

from tiararodney.sekft.errors import RunFailed, UsageError  # noqa: E402 - torch first, or the whole module is skipped
from tiararodney.sekft.model import base_fingerprint, merge  # noqa: E402
from tiararodney.sekft.model.merge import merge_adapter  # noqa: E402

pytestmark = pytest.mark.torch

IDS = [[1, 50, 60, 70, 80, 90, 100]]


@pytest.fixture
def make_adapter(tmp_path: Path) -> Callable[..., Path]:
    """Write adapters that matter, as plain peft does: `make_adapter(base, use_dora=True)` -> folder."""

    def make(base: Path, dtype: Any = torch.float32, **how: Any) -> Path:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
        config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", **how)
        tuned = get_peft_model(model, config)
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.2)
        folder = tmp_path / "adapter"
        tuned.save_pretrained(folder)
        (folder / "chat_template.jinja").write_text("the adapter's own")
        (folder / "training.json").write_text(json.dumps({"base": {"fingerprint": base_fingerprint(base)}}))
        return folder

    return make


def logits(folder: Path, adapter: Path | None = None) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    with torch.no_grad():
        return model(input_ids=torch.tensor(IDS)).logits.float()


@pytest.mark.parametrize("how", [{}, {"use_rslora": True}, {"use_dora": True}], ids=["lora", "rslora", "dora"])
def test_the_merged_model_computes_what_base_and_adapter_compute(
    tiny_base: Path, make_adapter: Callable[..., Path], tmp_path: Path, how: dict[str, Any]
):
    adapter = make_adapter(tiny_base, **how)
    out = merge_adapter(tiny_base, adapter, tmp_path / "merged")
    torch.testing.assert_close(logits(out), logits(tiny_base, adapter), rtol=1e-4, atol=1e-4)
    assert (logits(out) - logits(tiny_base)).abs().max() > 0.1, "it is not the base"
    files = {file.name for file in out.iterdir()}
    assert {"config.json", "model.safetensors", "generation_config.json"} <= files
    assert not {"adapter_config.json", "adapter_model.safetensors", "training.json"} & files
    assert (out / "chat_template.jinja").read_text() == "the adapter's own"


def test_a_bf16_base_gives_a_bf16_model(
    make_base: Callable[..., Path], make_adapter: Callable[..., Path], tmp_path: Path
):
    base = make_base(dtype="bfloat16")
    adapter = make_adapter(base, dtype=torch.bfloat16)
    out = merge_adapter(base, adapter, tmp_path / "merged")
    from safetensors.torch import load_file

    assert {tensor.dtype for tensor in load_file(out / "model.safetensors").values()} == {torch.bfloat16}
    chances = [found.softmax(-1) for found in (logits(out), logits(base, adapter), logits(base))]
    assert (chances[0] - chances[1]).abs().sum(-1).mean() < 0.2 * (chances[2] - chances[1]).abs().sum(-1).mean()


def test_the_adapter_of_another_base_and_a_folder_that_exists_are_refused(
    tiny_base: Path, make_base: Callable[..., Path], make_adapter: Callable[..., Path], tmp_path: Path
):
    adapter = make_adapter(tiny_base)
    with pytest.raises(UsageError, match="the adapter of another base"):
        merge_adapter(make_base(seed=9), adapter, tmp_path / "merged")
    with pytest.raises(UsageError, match="exists"):
        merge_adapter(tiny_base, adapter, adapter)
    assert not (tmp_path / "merged").exists()


def test_a_full_disk_leaves_no_half_a_model(
    tiny_base: Path, make_adapter: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(merge.shutil, "copyfile", full)
    with pytest.raises(RunFailed, match="No space left on device"):
        merge_adapter(tiny_base, make_adapter(tiny_base), tmp_path / "merged")
    assert {path.name for path in tmp_path.iterdir()} == {"adapter"}


@pytest.mark.parametrize("prefixed", [False, True])
def test_a_sentencepiece_vocabulary_comes_along_with_what_its_readers_ask_for(
    make_base: Callable[..., Path], make_adapter: Callable[..., Path], tmp_path: Path, prefixed: bool
):
    from tokenizers import Tokenizer, models, normalizers

    base = make_base()
    adapter = make_adapter(base)
    spelt = Tokenizer(models.BPE({"<s>": 0, "a": 1, "▁": 2, "▁a": 3}, [("▁", "a")]))
    if prefixed:
        spelt.normalizer = normalizers.Prepend("▁")
    spelt.add_special_tokens(["<s>"])
    spelt.save(str(adapter / "tokenizer.json"))
    (adapter / "tokenizer_config.json").write_text('{"bos_token": "<s>", "add_prefix_space": null, "kept": 1}')
    without = merge_adapter(base, adapter, tmp_path / "without")
    assert json.loads((without / "tokenizer_config.json").read_text())["add_prefix_space"] is None
    (base / "tokenizer.model").write_bytes(b"scores")
    merged = merge_adapter(base, adapter, tmp_path / "merged")
    assert (merged / "tokenizer.model").read_bytes() == b"scores"
    told = json.loads((merged / "tokenizer_config.json").read_text())
    assert (told["add_prefix_space"], told["kept"]) == (prefixed, 1)
