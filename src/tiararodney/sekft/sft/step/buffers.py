"""Memory for what the layers of a row keep until its backward pass, used again by the rows after it.

Rows differ in length, so their tensors do in size. Taken from the heap and given back in turn with those of the row
beside it, they leave gaps that fit none of the next row's: a run on two cores held 400 MB in such gaps beside the
700 MB in use. Here a layer's tensors lie in one block, and all blocks in one stretch of memory, as far to its front as
there is room: what was never used of it takes none. An accelerator's allocator does the like by itself.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

import torch


class Pool:
    """Blocks in one stretch of memory. Threads may share it.

    Args:
        dtype: Of the blocks' elements.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._memory = torch.empty(0, dtype=dtype)
        self._gaps: list[tuple[int, int]] = []  # begin and end of what is free, in order, none touching the next
        self._lock = Lock()

    def fit(self, elements: int) -> None:
        """Make room, while no block is in use.

        Args:
            elements: Elements of all blocks that may be in use together.
        """
        if elements > len(self._memory):
            self._memory = torch.empty(0, dtype=self._memory.dtype)  # the old goes before the new comes
            self._memory = torch.empty(elements, dtype=self._memory.dtype)
        self._gaps = [(0, len(self._memory))]

    def take(self, elements: int) -> Block:
        """Hand out memory.

        Args:
            elements: Elements of the block.

        Returns:
            A block in the first gap that is large enough; where there is none, in memory of its own.
        """
        with self._lock:
            for at, (begin, end) in enumerate(self._gaps):
                if end - begin >= elements:
                    self._gaps[at : at + 1] = [(begin + elements, end)] if end - begin > elements else []
                    return Block(self._memory, begin, begin + elements, self)
        return Block(self._memory.new_empty(elements), 0, elements)

    def give(self, begin: int, end: int) -> None:
        """Take back what `take` handed out."""
        with self._lock:
            before = [gap for gap in self._gaps if gap[1] <= begin]
            after = self._gaps[len(before) :]
            if before and before[-1][1] == begin:
                begin = before.pop()[0]
            if after and after[0][0] == end:
                end = after.pop(0)[1]
            self._gaps = [*before, (begin, end), *after]


class Block:
    """Memory for the tensors of one layer, laid behind each other.

    Args:
        memory: Where it lies.
        begin: The first of its elements there.
        end: The first that is not its own.
        pool: Where it comes from; None where the memory is its own.
    """

    def __init__(self, memory: torch.Tensor, begin: int, end: int, pool: Pool | None = None) -> None:
        self._memory, self._pool = memory, pool
        self._begin, self._end = begin, end
        self._next = begin

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
        begin, end = self._next, self._next + strides[0] * shape[0]
        if end > self._end:
            return self._memory.new_empty(shape)
        self._next = end
        return self._memory.new_empty(0).set_(self._memory.untyped_storage(), begin, shape, strides)

    @property
    def left(self) -> int:
        """Elements of it that no tensor has taken."""
        return self._end - self._next

    def release(self) -> None:
        """Give the memory back, once. What lies in it may be overwritten from now on."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.give(self._begin, self._end)

    __del__ = release  # with the graph that holds it, where no backward pass came to its end


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
        x: The layer's input. Without a gradient of its own there is no such moment, and the block goes with what else
            holds it.
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
