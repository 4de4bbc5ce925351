"""Packing: pure, no torch."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tiararodney.sekft.render import IGNORED, Example, weigh_terminal
from tiararodney.sekft.sft.step.pack import idle_row, pack_row, plan_steps, split_step, terminal_start, total_weight


def example(ids: list[int], trained: set[int]) -> Example:
    return Example(list(ids), [token if at in trained else IGNORED for at, token in enumerate(ids)])


lengths = st.lists(st.integers(1, 50), min_size=1, max_size=40)


@given(lengths, st.integers(1, 120))
def test_every_example_is_in_one_step_of_an_epoch(sizes, budget):
    steps, ends = plan_steps(sizes, budget, 2.0, 7)
    for begin, end in zip([0, *ends], ends, strict=False):
        assert sorted(index for step in steps[begin:end] for index in step) == list(range(len(sizes)))
    assert all(sum(sizes[index] for index in step) <= budget or len(step) == 1 for step in steps)


@given(lengths, st.integers(1, 120))
def test_rows_hold_a_step_within_the_budget(sizes, budget):
    rows = split_step(range(len(sizes)), sizes, budget)
    assert sorted(index for row in rows for index in row) == list(range(len(sizes)))
    assert all(sum(sizes[index] for index in row) <= budget or len(row) == 1 for row in rows)


def test_the_seed_orders_and_each_epoch_differs():
    sizes = [10] * 30
    steps, (first, second) = plan_steps(sizes, 40, 2.0, 1)
    assert plan_steps(sizes, 40, 2.0, 1)[0] == steps
    assert steps[:first] != steps[first:second]
    assert steps[:first] != plan_steps(sizes, 40, 1.0, 2)[0]
    assert plan_steps(sizes, 40, 1.5, 1)[0] == steps[: first + (second - first) // 2]


def test_a_row_is_the_documents_behind_each_other():
    row = pack_row([example([1, 2, 3, 4], {2, 3}), example([1, 2, 9], {2})])
    assert row.input_ids == [1, 2, 3, 4, 1, 2, 9]
    assert row.position_ids == [0, 1, 2, 3, 0, 1, 2]
    assert (row.lengths, row.tokens) == ((4, 3), 7)
    assert row.keep == (1, 2, 5)
    assert row.targets == (3, 4, 9)


def test_a_token_without_weight_is_context():
    masked = replace(example([1, 2, 3, 4, 5], {2, 4}), weights=[0.0, 0.0, 0.0, 0.0, 0.5])
    row = pack_row([masked])
    assert (row.targets, row.weights) == ((5,), (0.5,))
    assert total_weight([masked, masked]) == 1.0


def test_an_idle_row_trains_nothing():
    row = pack_row([example([1, 2, 3, 4], {2, 3}), example([1, 2, 9], {2})])
    assert (idle_row(row).input_ids, idle_row(row).targets) == (row.input_ids, ())


@given(lengths, st.integers(1, 120), st.integers(1, 4))
def test_every_process_has_a_row(sizes, budget, processes):
    rows = split_step(range(len(sizes)), sizes, budget, processes)
    assert len(rows) >= min(processes, len(sizes))
    assert sorted(index for row in rows for index in row) == list(range(len(sizes)))


def test_a_row_tells_terminals_from_commands_and_where_turns_begin():
    command_and_exit = replace(example([1, 2, 3, 4, 5, 6, 7], {2, 3, 5, 6}), final=True, spans=((2, 4), (5, 7)))
    command_and_exit = weigh_terminal(command_and_exit, 3)
    cut_before_the_end = example([1, 2, 3, 4], {2, 3})
    row = pack_row([command_and_exit, cut_before_the_end])
    assert row.targets == (3, 4, 6, 7, 3, 4)
    assert row.first == (True, False, True, False, True, False)
    assert row.terminal == (False, False, True, True, False, False)
    assert row.weights == (1, 1, 3, 3, 1, 1)
    assert terminal_start(command_and_exit) == 5
    assert terminal_start(cut_before_the_end) == 4
