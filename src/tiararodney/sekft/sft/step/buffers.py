"""Memory for what the layers of a row keep until its backward pass, used again by the rows after it.

Rows differ in length, so their tensors do in size. Taken from the heap and given back in turn with those of the row
beside it, they leave gaps that fit none of the next row's: a run on two cores held 400 MB in such gaps beside the
700 MB in use. A layer's tensors lie in one block instead, and all blocks are of one size. An accelerator's allocator
does the like by itself.
"""

from __future__ import annotations

from typing import Any

import torch


class Pool:
    """Blocks of one size, free ones handed out again. Threads may share it.

    Args:
        dtype: Of the blocks' elements.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._free: list[torch.Tensor] = []
        self._elements = 0

    def fit(self, elements: int) -> None:
        """Make every block from now on large enough.

        Args:
            elements: Elements a block must hold. Smaller blocks are given up.
        """
        if elements > self._elements:
            self._free, self._elements = [], elements

    def take(self) -> Block:
        """Hand out a free block, or a new one."""
        try:
            return Block(self, self._free.pop())
        except IndexError:
            return Block(self, torch.empty(self._elements, dtype=self._dtype))

    def give(self, memory: torch.Tensor) -> None:
        """Take a block's memory back."""
        if len(memory) == self._elements:
            self._free.append(memory)


class Block:
    """Memory for the tensors of one layer, laid behind each other.

    Args:
        pool: Where it comes from.
        memory: [elements].
    """

    def __init__(self, pool: Pool, memory: torch.Tensor) -> None:
        self._pool = pool
        self._memory = memory
        self._used = 0

    def new(self, *shape: int) -> torch.Tensor:
        """Take an uninitialised tensor out of the block.

        Args:
            shape: Its shape.

        Returns:
            The tensor; beside the block, where that has no room for it. It is no view: autograd, which refuses a view
            after a write to another one, counts the writes to each for itself.
        """
        strides = [1]
        for size in reversed(shape[1:]):
            strides.insert(0, strides[0] * size)
        begin, end = self._used, self._used + strides[0] * shape[0]
        if end > len(self._memory):
            return self._memory.new_empty(shape)
        self._used = end
        return self._memory.new_empty(0).set_(self._memory.untyped_storage(), begin, shape, strides)

    def release(self) -> None:
        """Give the memory back. What lies in it may be overwritten from now on."""
        self._pool.give(self._memory)


def new(block: Block | None, like: torch.Tensor, *shape: int) -> torch.Tensor:
    """Take an uninitialised tensor, out of a block where there is one.

    Args:
        block: The layer's block, or None.
        like: Whose type and device the tensor has.
        shape: Its shape.

    Returns:
        The tensor.
    """
    return like.new_empty(shape) if block is None else block.new(*shape)


def released_after(x: torch.Tensor, block: Block) -> torch.Tensor:
    """Give a layer's block back as soon as its backward pass is over.

    Args:
        x: The layer's input. Without a gradient of its own there is no such moment, and the block goes with the graph.
        block: Where the layer keeps what its backward pass needs.

    Returns:
        `x`, for the layer to begin with.
    """
    output: torch.Tensor = _ReleasedAfter.apply(x, block)
    return output


class _ReleasedAfter(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    @staticmethod
    def forward(ctx: Any, x: Any, block: Any) -> Any:
        ctx.block = block
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        ctx.block.release()
        return grads[0], None
