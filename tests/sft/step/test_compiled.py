"""Layers of transformers' own forward, compiled."""

import logging
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")

from peft import LoraConfig, get_peft_model  # noqa: E402 - torch first, or the whole module is skipped
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM  # noqa: E402

from tiararodney.sekft.errors import UsageError  # noqa: E402
from tiararodney.sekft.render import Example  # noqa: E402
from tiararodney.sekft.sft.step.compiled import compiled  # noqa: E402
from tiararodney.sekft.sft.step.forward import row_loss  # noqa: E402
from tiararodney.sekft.sft.step.pack import pack_row  # noqa: E402
from tiararodney.sekft.sft.step.recompute import keep_all, recompute  # noqa: E402

pytestmark = pytest.mark.torch
SHAPE = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.15,
}


def tuned(kind: Any, config: Any) -> Any:
    torch.manual_seed(0)
    made = get_peft_model(kind(config), LoraConfig(r=4, target_modules="all-linear"))
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return made.get_base_model()


@pytest.fixture
def gemma() -> Any:
    return tuned(Gemma2ForCausalLM, Gemma2Config(**SHAPE, head_dim=8, pad_token_id=0, sliding_window=64))


def rows() -> list[Any]:
    """Rows of many lengths: one of each would be compiled anew, were lengths compiled in."""
    shapes = [(30,), (17, 25), (40, 9, 11), (33,), (50, 21), (12, 13, 14)]
    return [
        pack_row(
            [Example(list(range(5, 5 + n)), [-100] * 6 + list(range(11, 5 + n))) for n in lengths], share_prefix=False
        )
        for lengths in shapes
    ]


def results(model: Any) -> list[Any]:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    told = []
    for row in rows():
        loss = row_loss(model, row, "default").total
        told.append([loss.detach(), *torch.autograd.grad(loss, weights)])
    return told


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_layers_compute_the_same_for_rows_of_any_length_and_leave_the_model_as_it_was(
    gemma: Any, checkpointing: bool
):
    if shutil.which("g++") is None or not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        pytest.skip("needs a C++ compiler (g++) and Python's headers (python3-dev)")
    names = list(gemma.state_dict())
    expected = results(gemma)
    if checkpointing:
        recompute(gemma)
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    with compiled(gemma):
        found = results(gemma)
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        assert results(gemma)[0][0] == found[0][0]
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs
    if checkpointing:
        keep_all(gemma)
    assert 0 < graphs < 24, "compiled once for all layers of a kind and all lengths, not for each"
    for one, other in zip(found, expected, strict=True):
        for tensor, wanted in zip(one, other, strict=True):
            torch.testing.assert_close(tensor, wanted, rtol=1e-3, atol=1e-4)
    assert list(gemma.state_dict()) == names
    again = results(gemma)
    assert all(torch.equal(tensor, wanted) for tensor, wanted in zip(again[0], expected[0], strict=True))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs, "nothing is compiled any more"


def test_layers_that_are_written_out_are_left_alone(caplog: pytest.LogCaptureFixture):
    model = tuned(LlamaForCausalLM, LlamaConfig(**SHAPE))
    caplog.set_level(logging.INFO, "tiararodney.sekft.sft.step.compiled")
    logging.getLogger("tiararodney").propagate = True
    with compiled(model):
        assert all(layer._compiled_call_impl is None for layer in model.model.layers)
    assert "nothing to compile" in caplog.text


def test_a_machine_that_cannot_compile_is_told_what_to_install(gemma: Any, monkeypatch: pytest.MonkeyPatch):
    def no_compiler(_: Any) -> Any:
        raise RuntimeError("No working C++ compiler found\nand much more")

    monkeypatch.setattr(torch, "compile", no_compiler)
    with (
        pytest.raises(UsageError, match=r"No working C\+\+ compiler found\)\. Install a C\+\+ compiler and"),
        compiled(gemma),
    ):
        pass
