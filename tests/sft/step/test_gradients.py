"""A step's gradient, whoever computes its rows."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import sleep
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")

from hypothesis import given  # noqa: E402 - torch first, or the whole module is skipped
from hypothesis import strategies as st  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402 - torch first, or the whole module is skipped
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

from tiararodney.sekft.render import IGNORED, Example  # noqa: E402
from tiararodney.sekft.sft.step.buffers import Block  # noqa: E402
from tiararodney.sekft.sft.step.forward import row_loss  # noqa: E402
from tiararodney.sekft.sft.step.gradients import Gate, Workers, begun, gradients, workers  # noqa: E402
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
    # one after the other, in the order that two would take them in
    rows = rows if by.threads else begun(rows, 2, 150)
    sums = gradients(model, "default", weights, rows, lambda: False, by)
    return {name: p.grad for name, p in weights.items()}, sums.loss, sums.hits


def test_rows_side_by_side_give_the_bits_of_rows_one_after_the_other(model: Any, cores: Any) -> None:
    cores(1)
    alone, total, hits = step(model, Workers())
    cores(2)
    with workers(model) as by:
        assert by.at_once == 2
        by.gate.limit = 150
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


def test_what_layers_keep_has_the_room_it_needs_and_no_more(model: Any, cores: Any, monkeypatch: Any) -> None:
    cores(1)
    taken: list[int] = []
    released: list[int] = []
    with workers(model) as by:
        assert by.pool is not None
        pool, take, give = by.pool, by.pool.take, by.pool.give

        def spy(elements: int) -> Block:
            block = take(elements)
            assert block._pool is pool, "memory beside the pool"
            taken.append(elements)
            return block

        monkeypatch.setattr(pool, "take", spy)
        monkeypatch.setattr(pool, "give", lambda begin, end: (released.append(end - begin), give(begin, end)))
        step(model, by)
        assert sorted(released) == sorted(taken)
        assert pool._gaps == [(0, len(pool._memory))], "all is given back"
    assert len(taken) > 2 * len(model.model.layers)


def test_a_layers_block_is_filled_to_its_end(cores: Any, monkeypatch: Any) -> None:
    cores(1)
    left: list[int] = []
    model = tuned(layers=3)
    with workers(model) as by:
        assert by.pool is not None
        release = Block.release
        monkeypatch.setattr(Block, "release", lambda block: (left.append(block.left), release(block)))
        step(model, by)
    # seen are the second layer's and the last one's, whose second half takes trained positions only
    assert sorted(left)[: len(left) // 2] == [0] * (len(left) // 2)
    assert sorted(left)[len(left) // 2] > 0


def test_two_long_rows_do_not_go_forward_together_and_a_short_one_beside_a_long_one_does():
    gate, order = Gate(), []
    gate.limit = 175

    def forward(name: str, tokens: int, until: Event) -> None:
        with gate.passing(tokens):
            order.append(name)
            until.wait(5)
            order.append(f"{name} ends")

    first, second = Event(), Event()
    with ThreadPoolExecutor(3) as pool:
        pool.submit(forward, "long", 100, first)
        while order != ["long"]:
            sleep(0.001)
        other = pool.submit(forward, "as long", 100, second)
        short = pool.submit(forward, "short", 70, second)
        while "short" not in order:
            sleep(0.001)
        assert order == ["long", "short"]
        second.set()
        short.result(5)
        assert not other.done()
        first.set()
        other.result(5)
    assert order == ["long", "short", "short ends", "long ends", "as long", "as long ends"]


def test_one_row_passes_however_long_it_is():
    gate = Gate()
    with gate.passing(1000):
        pass


def test_a_failed_row_leaves_the_gate_open():
    gate = Gate()
    gate.limit = 10
    with pytest.raises(ValueError, match="a row"), gate.passing(10):
        raise ValueError("a row")
    with gate.passing(10):
        pass


def order(lengths: list[int], limit: float, at_once: int = 2) -> list[int]:
    rows = [pack_row([Example([1] * n, [IGNORED] * (n - 1) + [1])], share_prefix=False) for n in lengths]
    return [len(row.input_ids) for row in begun(rows, at_once, limit)]


def test_the_longest_row_is_begun_first_where_none_has_to_wait():
    assert order([90, 70, 80, 60], limit=1000) == [90, 80, 70, 60]
    assert order([50, 90, 70, 80, 60], limit=10, at_once=1) == [90, 80, 70, 60, 50]


def test_a_long_row_is_begun_beside_a_short_one_where_two_long_ones_would_wait():
    found = order([90, 89, 88, 87, 86, 85, 50], limit=145)
    assert sorted(found) == [50, 85, 86, 87, 88, 89, 90]
    assert sorted(found[:2]) == [50, 90]


@given(st.lists(st.integers(2, 60), max_size=9), st.integers(1, 4), st.integers(1, 200))
def test_every_row_is_begun_once(lengths: list[int], at_once: int, limit: int):
    assert sorted(order(lengths, limit, at_once)) == sorted(lengths)


def test_rows_of_less_than_the_budget_do_not_wait(model: Any, cores: Any) -> None:
    cores(2)
    with workers(model) as by:
        by.expect(100)
        assert by.gate.limit == 160


def test_a_stop_between_rows_ends_the_step(model: Any, cores: Any) -> None:
    cores(2)
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    rows = [pack_row([case], share_prefix=False) for case in examples(4)]
    with workers(model) as by, pytest.raises(KeyboardInterrupt):
        gradients(model, "default", weights, rows, lambda: True, by)
