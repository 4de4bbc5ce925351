"""Packing: pure, no torch."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tiararodney.sekft.render import IGNORED, Example
from tiararodney.sekft.sft.step.pack import pack_row, plan_steps, split_step, terminal_start


def example(ids: list[int], trained: set[int]) -> Example:
    return Example(list(ids), [token if at in trained else IGNORED for at, token in enumerate(ids)])


lengths = st.lists(st.integers(1, 50), min_size=1, max_size=40)


@given(lengths, st.integers(1, 120), st.integers(0, 3))
def test_every_example_is_dealt_once_and_no_step_is_over_the_budget_but_for_one_long_example(sizes, budget, epoch):
    steps = plan_steps(sizes, budget, 7, epoch)
    assert sorted(index for step in steps for index in step) == list(range(len(sizes)))
    assert all(sum(sizes[index] for index in step) <= budget or len(step) == 1 for step in steps)


@given(lengths, st.integers(1, 120))
def test_rows_hold_a_step_within_the_budget(sizes, budget):
    rows = split_step(range(len(sizes)), sizes, budget)
    assert sorted(index for row in rows for index in row) == list(range(len(sizes)))
    assert all(sum(sizes[index] for index in row) <= budget or len(row) == 1 for row in rows)


def test_the_order_is_the_seeds_and_another_one_every_epoch():
    sizes = [10] * 30
    assert plan_steps(sizes, 40, 1, 0) == plan_steps(sizes, 40, 1, 0)
    assert plan_steps(sizes, 40, 1, 0) != plan_steps(sizes, 40, 1, 1)
    assert plan_steps(sizes, 40, 1, 0) != plan_steps(sizes, 40, 2, 0)


def test_a_row_without_sharing_is_the_documents_behind_each_other():
    row = pack_row([example([1, 2, 3, 4], {2, 3}), example([1, 2, 9], {2})], share_prefix=False)
    assert row.input_ids == (1, 2, 3, 4, 1, 2, 9)
    assert row.position_ids == (0, 1, 2, 3, 0, 1, 2)
    assert (row.prefix, row.lengths, row.tokens) == (0, (4, 3), 7)
    assert row.keep == (1, 2, 5)
    assert row.targets == (3, 4, 9)


def test_a_shared_prefix_is_stored_once_and_what_predicts_stays_in_the_documents():
    row = pack_row([example([1, 2, 3, 4, 5], {3, 4}), example([1, 2, 3, 8], {3})], share_prefix=True)
    # position 2 predicts the first trained token of both, so only two positions can be shared
    assert row.prefix == 2
    assert row.input_ids == (1, 2, 3, 4, 5, 3, 8)
    assert row.position_ids == (0, 1, 2, 3, 4, 2, 3)
    assert row.lengths == (3, 2)
    assert row.keep == (2, 3, 5)
    assert row.targets == (4, 5, 8)
    assert row.tokens == 9


def test_a_row_tells_terminals_from_commands_and_where_turns_begin():
    command_and_exit = replace(example([1, 2, 3, 4, 5, 6, 7], {2, 3, 5, 6}), final=True)
    cut_before_the_end = example([1, 2, 3, 4], {2, 3})
    row = pack_row([command_and_exit, cut_before_the_end], share_prefix=False, terminal_weight=3)
    assert row.targets == (3, 4, 6, 7, 3, 4)
    assert row.first == (True, False, True, False, True, False)
    assert row.terminal == (False, False, True, True, False, False)
    assert row.weights == (1, 1, 3, 3, 1, 1)
    assert pack_row([command_and_exit], share_prefix=False).weights == ()
    assert terminal_start(command_and_exit) == 5
    assert terminal_start(cut_before_the_end) == 4


@given(st.lists(st.tuples(st.integers(2, 9), st.integers(1, 12)), min_size=2, max_size=5), st.integers(1, 6))
def test_sharing_keeps_every_document_whole(shapes, common):
    documents = []
    for value, size in shapes:
        ids = [1] * common + [value] * size
        documents.append(example(ids, {len(ids) - 1}))
    row = pack_row(documents, share_prefix=True)
    assert 0 <= row.prefix <= common + min(size for _, size in shapes) - 2
    offset = row.prefix
    for document, length in zip(documents, row.lengths, strict=True):
        part = slice(offset, offset + length)
        assert list(row.input_ids[: row.prefix] + row.input_ids[part]) == document.input_ids
        assert list(row.position_ids[: row.prefix] + row.position_ids[part]) == list(range(len(document.input_ids)))
        offset += length
    assert row.targets == tuple(document.input_ids[-1] for document in documents)
    assert all(row.prefix <= position for position in row.keep)
