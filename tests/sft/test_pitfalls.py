"""The numbered defects of public trainers that are those of the loss and of packing, held to plain arithmetic."""

import random
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")

from peft import LoraConfig, get_peft_model  # noqa: E402 - torch first, or the whole module is skipped
from transformers import GemmaConfig, GemmaForCausalLM, LlamaConfig, LlamaForCausalLM  # noqa: E402

from tiararodney.sekft.render import IGNORED, Example  # noqa: E402
from tiararodney.sekft.sft.step.forward import has_fused_forward, row_loss  # noqa: E402
from tiararodney.sekft.sft.step.pack import pack_row, total_weight  # noqa: E402

pytestmark = pytest.mark.torch

SHAPE = {
    "vocab_size": 120,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
# The two ways a loss is computed here: layers fused, and transformers' own.
PATHS = {"fused": (LlamaForCausalLM, LlamaConfig), "transformers' own": (GemmaForCausalLM, GemmaConfig)}


@pytest.fixture(params=PATHS)
def model(request: pytest.FixtureRequest) -> Any:
    """A random model with a LoRA adapter that matters, in fp32, for each way to compute a loss."""
    model_class, config_class = PATHS[request.param]
    torch.manual_seed(0)
    tuned = get_peft_model(
        model_class(config_class(**SHAPE)), LoraConfig(r=2, lora_alpha=4, target_modules="all-linear")
    )
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    assert has_fused_forward(tuned.get_base_model()) == (request.param == "fused")
    return tuned


def examples(*trained: int) -> list[Example]:
    """Examples of different lengths, each with so many trained tokens."""
    rng = random.Random(3)
    out = []
    for n in trained:
        ids = [rng.randrange(1, 120) for _ in range(12 + 3 * n)]
        places = set(rng.sample(range(1, len(ids)), n))
        out.append(Example(ids, [t if i in places else IGNORED for i, t in enumerate(ids)]))
    return out


def plain_loss(model: Any, example: Example, labels: list[int] | None = None) -> Any:
    """Sum of the cross entropy of shifted labels, over all logits of one sequence alone."""
    logits = model(input_ids=torch.tensor([example.input_ids])).logits[0, :-1]
    wanted = torch.tensor((labels or example.labels)[1:])
    return torch.nn.functional.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum")


def packed_loss(model: Any, several: list[Example]) -> float:
    return float(row_loss(model.get_base_model(), pack_row(several), "default").total.detach())


def test_pitfall_05_every_way_to_the_loss_heeds_the_mask(model):
    (example,) = examples(4)
    heeded = float(plain_loss(model, example).detach())
    ignored = float(plain_loss(model, example, labels=example.input_ids).detach())
    assert packed_loss(model, [example]) == pytest.approx(heeded, rel=1e-5)
    assert heeded != pytest.approx(ignored, rel=0.1), "a loss over all tokens would be told from this one"


def adapter_weights(model: Any) -> dict[str, Any]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def test_pitfall_10_a_step_in_many_rows_has_the_gradient_of_the_token_mean(model):
    several = examples(1, 9, 2, 5)
    weights = adapter_weights(model)
    trained = sum(label != IGNORED for e in several for label in e.labels)
    token_mean = torch.stack([plain_loss(model, e) for e in several]).sum() / trained
    expected = torch.autograd.grad(token_mean, list(weights.values()))
    mean_of_means = torch.stack(
        [plain_loss(model, e) / sum(label != IGNORED for label in e.labels) for e in several]
    ).mean()
    wrong = torch.autograd.grad(mean_of_means, list(weights.values()))
    model.zero_grad()
    for part in (several[:1], several[1:]):
        (row_loss(model.get_base_model(), pack_row(part), "default").total / total_weight(several)).backward()
    for weight, right, other in zip(weights.values(), expected, wrong, strict=True):
        torch.testing.assert_close(weight.grad, right, rtol=1e-3, atol=1e-4 * float(right.abs().max()))
        assert (weight.grad - right).norm() < 0.01 * (weight.grad - other).norm()


def test_pitfall_11_sessions_in_a_row_do_not_see_each_other(model):
    several = examples(3, 6, 4)
    alone = sum(float(plain_loss(model, e).detach()) for e in several)
    assert packed_loss(model, several) == pytest.approx(alone, rel=1e-5)
    run_together = Example([t for e in several for t in e.input_ids], [t for e in several for t in e.labels])
    assert alone != pytest.approx(float(plain_loss(model, run_together).detach()), rel=1e-3)


def test_pitfall_15_rows_hold_no_padding_that_could_shift_a_label():
    several = examples(3, 6, 4)
    row = pack_row(several)
    assert row.lengths == tuple(len(e.input_ids) for e in several)
    assert list(row.input_ids) == [t for e in several for t in e.input_ids]
    assert [row.input_ids[at + 1] for at in row.keep] == list(row.targets)
    assert list(row.targets) == [label for e in several for label in e.labels if label != IGNORED]
