"""Memory that rows hand on to each other."""

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")

from hypothesis import given  # noqa: E402 - torch first, or the whole module is skipped
from hypothesis import strategies as st  # noqa: E402

from tiararodney.sekft.sft.step.buffers import Block, Pool, released_after  # noqa: E402

pytestmark = pytest.mark.torch


def pool(elements: int = 12) -> Pool:
    made = Pool(torch.float32)
    made.fit(elements)
    return made


def place(block: Block) -> int:
    return block.new(0).storage_offset()


def test_a_blocks_tensors_lie_behind_each_other():
    block = pool().take(12)
    first, second = block.new(2, 3), block.new(3, 2)
    assert first.shape == (2, 3)
    assert first.is_contiguous()
    assert second.data_ptr() == first.data_ptr() + 6 * 4
    assert block.left == 0
    first.fill_(1)
    second.fill_(2)
    assert first.sum() == 6


def test_what_has_no_room_lies_beside_the_block():
    made = pool()
    block, behind = made.take(8), made.take(4)
    first, second, other = block.new(2, 3), block.new(3, 2), behind.new(4)
    other.fill_(3)
    first.fill_(1)
    second.fill_(2)
    assert second.shape == (3, 2)
    assert first.sum() == 6
    assert other.sum() == 12


def test_a_block_beyond_the_pool_has_memory_of_its_own():
    made = pool(8)
    first, second = made.take(5), made.take(5)
    first.new(5).fill_(1)
    second.new(5).fill_(2)
    assert first.new(0).untyped_storage().data_ptr() != second.new(0).untyped_storage().data_ptr()
    second.release()
    first.release()
    assert place(made.take(8)) == 0


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans(), st.integers(0, 9)), max_size=60))
def test_no_two_blocks_in_use_share_memory_and_all_of_it_comes_back(moves: list[tuple[int, bool, int]]):
    made = pool(100)
    held: list[tuple[int, int, Block]] = []
    for size, gives, which in moves:
        if gives and held:
            held.pop(which % len(held))[2].release()
            continue
        block = made.take(size)
        if block._pool is None:
            # it is refused only where no gap of that size is left
            used = sorted((begin, end) for begin, end, _ in held)
            edges = [0, *(edge for span in used for edge in span), 100]
            assert all(end - begin < size for begin, end in zip(edges[::2], edges[1::2], strict=True))
            continue
        begin = place(block)
        assert 0 <= begin <= begin + size <= 100
        assert all(begin + size <= other or end <= begin for other, end, _ in held)
        held.append((begin, begin + size, block))
    for _, _, block in held:
        block.release()
    assert made._gaps == [(0, 100)]


def test_a_larger_pool_takes_the_place_of_a_smaller_one():
    made = pool(4)
    made.fit(8)
    assert made.take(8)._pool is made
    made.fit(2)
    assert made.take(8)._pool is made


def test_a_write_to_one_tensor_leaves_anothers_backward_pass_alone():
    block = pool().take(6)
    kept, later = block.new(3), block.new(3)
    kept.fill_(2)
    x = torch.ones(3, requires_grad=True)
    product = x * kept
    later.fill_(5)
    product.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2, 2, 2]


def test_a_block_that_nobody_holds_is_free():
    made = pool()
    block = made.take(12)
    block.release()
    other = made.take(12)
    del block  # released already: the memory is another's now
    assert made.take(12)._pool is None
    del other
    assert made.take(12)._pool is made


def test_a_block_is_free_when_the_gradient_has_passed():
    made = pool()
    block = made.take(12)
    x = torch.ones(3, requires_grad=True)
    inside = released_after(x, block) * 3
    assert made.take(12)._pool is None
    (inside * 2).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [6, 6, 6]
    assert made.take(12)._pool is made
