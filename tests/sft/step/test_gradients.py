"""A step's gradient, whoever computes its rows."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")

from peft import LoraConfig, get_peft_model  # noqa: E402 - torch first, or the whole module is skipped
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

from tiararodney.sekft.render import IGNORED, Example  # noqa: E402
from tiararodney.sekft.sft.step.buffers import Block  # noqa: E402
from tiararodney.sekft.sft.step.forward import row_loss  # noqa: E402
from tiararodney.sekft.sft.step.gradients import Workers, gradients, workers  # noqa: E402
from tiararodney.sekft.sft.step.pack import pack_row, split_step  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture
def cores() -> Iterator[Any]:
    """Set how many cores torch may use, for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def model() -> Any:
    return tuned(layers=2)


def tuned(layers: int) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=200,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.15,
    )
    made = get_peft_model(LlamaForCausalLM(config), LoraConfig(r=4, target_modules="all-linear"))
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return made.get_base_model()


def examples(n: int) -> list[Example]:
    rng = random.Random(0)
    out = []
    for _ in range(n):
        ids = [7] * 9 + [rng.randrange(200) for _ in range(rng.randrange(20, 60))]
        out.append(Example(ids, [IGNORED] * 15 + ids[15:]))
    return out


def step(model: Any, by: Workers) -> tuple[dict[str, Any], float, int]:
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    cases = examples(7)
    lengths = [len(e.input_ids) for e in cases]
    rows = [
        pack_row([cases[i] for i in members], share_prefix=True) for members in split_step(range(7), lengths, 150, 2)
    ]
    assert len(rows) > 2
    sums = gradients(model, "default", weights, rows, lambda: False, by)
    return {name: p.grad for name, p in weights.items()}, sums.loss, sums.hits


def test_rows_side_by_side_give_the_bits_of_rows_one_after_the_other(model: Any, cores: Any) -> None:
    cores(1)
    alone, total, hits = step(model, Workers())
    cores(2)
    with workers(model) as by:
        assert by.at_once == 2
        for _ in range(3):
            beside, other_total, other_hits = step(model, by)
            assert (other_total, other_hits) == (total, hits)
            assert all(torch.equal(alone[name], beside[name]) for name in alone)


def test_the_gradient_is_that_of_backward_and_lies_as_the_weights_do(model: Any, cores: Any) -> None:
    cores(1)
    found, _, _ = step(model, Workers())
    cases = examples(7)
    trained = sum(label != IGNORED for case in cases for label in case.labels)
    model.zero_grad()
    for case in cases:
        (row_loss(model, pack_row([case], share_prefix=False), "default").total / trained).backward()
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            assert torch.allclose(found[name], weight.grad, rtol=1e-4, atol=1e-6), name
            # The fused optimizer reads a gradient as it lies in memory.
            assert found[name].stride() == weight.stride(), name


def test_the_cores_are_given_back(model: Any, cores: Any) -> None:
    cores(2)
    with workers(model) as by:
        step(model, by)
    assert torch.get_num_threads() == 2


def test_one_core_has_no_threads_to_wait_for(model: Any, cores: Any) -> None:
    cores(1)
    with workers(model) as by:
        assert (by.at_once, by.threads) == (1, None)


def test_what_layers_keep_fits_a_block_and_every_row_uses_it_again(model: Any, cores: Any, monkeypatch: Any) -> None:
    cores(1)
    made: list[Block] = []
    with workers(model) as by:
        assert by.pool is not None
        take = by.pool.take
        monkeypatch.setattr(by.pool, "take", lambda: (made.append(block := take()), block)[1])
        step(model, by)
        step(model, by)
    # of the two layers one: the first one's input has no gradient that would tell when its block is free
    assert len(made) > 4
    assert len({block.new(0).untyped_storage().data_ptr() for block in made}) == 1
    # the last layer's second half takes trained positions only
    assert all(0.3 * len(block._memory) < block._used <= len(block._memory) for block in made)


def test_a_model_of_more_layers_keeps_all_of_a_layer_in_its_block(cores: Any, monkeypatch: Any) -> None:
    cores(1)
    made: list[Block] = []
    deeper = tuned(layers=3)
    with workers(deeper) as by:
        assert by.pool is not None
        take = by.pool.take
        monkeypatch.setattr(by.pool, "take", lambda: (made.append(block := take()), block)[1])
        step(deeper, by)
    assert max(block._used for block in made) == len(made[0]._memory)


def test_a_stop_between_rows_ends_the_step(model: Any, cores: Any) -> None:
    cores(2)
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    rows = [pack_row([case], share_prefix=False) for case in examples(4)]
    with workers(model) as by, pytest.raises(KeyboardInterrupt):
        gradients(model, "default", weights, rows, lambda: True, by)
