"""Memory that rows hand on to each other."""

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")

from tiararodney.sekft.sft.step.buffers import Pool, released_after  # noqa: E402 - torch first

pytestmark = pytest.mark.torch


def pool(elements: int = 12) -> Pool:
    made = Pool(torch.float32)
    made.fit(elements)
    return made


def test_a_blocks_tensors_lie_behind_each_other():
    block = pool().take()
    first, second = block.new(2, 3), block.new(3, 2)
    assert first.shape == (2, 3)
    assert first.is_contiguous()
    assert second.data_ptr() == first.data_ptr() + 6 * 4
    first.fill_(1)
    second.fill_(2)
    assert first.sum() == 6


def test_what_has_no_room_lies_beside_the_block():
    block = pool(8).take()
    first, second = block.new(2, 3), block.new(3, 2)
    first.fill_(1)
    second.fill_(2)
    assert second.shape == (3, 2)
    assert first.sum() == 6


def test_a_released_block_is_handed_out_again():
    made = pool()
    block = made.take()
    other = made.take()
    at = block.new(1).data_ptr()
    assert other.new(1).data_ptr() != at
    block.release()
    assert made.take().new(1).data_ptr() == at


def test_smaller_blocks_are_given_up_for_larger_ones():
    made = pool(4)
    small = made.take()
    made.fit(8)
    small.release()
    block = made.take()
    assert block.new(8).untyped_storage().nbytes() == 8 * 4
    block.release()
    made.fit(2)
    assert made.take().new(8).untyped_storage().nbytes() == 8 * 4


def test_a_write_to_one_tensor_leaves_anothers_backward_pass_alone():
    block = pool().take()
    kept, later = block.new(3), block.new(3)
    kept.fill_(2)
    x = torch.ones(3, requires_grad=True)
    product = x * kept
    later.fill_(5)
    product.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2, 2, 2]


def test_a_block_is_free_when_the_gradient_has_passed():
    made = pool()
    block = made.take()
    at = block.new(1).data_ptr()
    x = torch.ones(3, requires_grad=True)
    inside = released_after(x, block) * 3
    assert made.take().new(1).data_ptr() != at
    (inside * 2).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [6, 6, 6]
    assert made.take().new(1).data_ptr() == at
