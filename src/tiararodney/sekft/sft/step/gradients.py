"""The gradient of a step over its rows: one after the other, or on the CPU one row a core.

Two cores that share every matrix product of a small model wait for each other at each of some thousand products a row.
A row for each core has them meet once a step. The rows' gradients are added in the rows' order whichever is done
first, so that the same rows give the same bits.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import compress
from threading import Condition
from typing import TYPE_CHECKING, Any

import torch

from tiararodney.sekft.sft.step.buffers import Pool
from tiararodney.sekft.sft.step.forward import is_written_out, kept, row_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tiararodney.sekft.sft.step.pack import Row

# How many tokens may be on their way forward, of what rows of the full budget side by side have: a full one and one of
# the shorter ones, not two full ones.
FORWARD = 0.8
FORWARD_TIME = 0.38  # of a row's time, measured; the rest is its way back


class Gate:
    """Keeps rows side by side from being at their largest together, which each is between forward and backward.

    Two rows of one length that begin together hold twice what one holds; begun apart, two thirds of that. Lengths that
    differ keep them apart without waiting.
    """

    def __init__(self) -> None:
        self.limit = math.inf
        self._forward = 0
        self._changed = Condition()

    @contextmanager
    def passing(self, tokens: int) -> Iterator[None]:
        """Wait until the tokens on their way forward are at most `limit` with these, or none are.

        Args:
            tokens: Of the row that goes forward in the `with` block.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._forward or self._forward + tokens <= self.limit)
            self._forward += tokens
        try:
            yield
        finally:
            with self._changed:
                self._forward -= tokens
                self._changed.notify_all()


@dataclass(frozen=True)
class Workers:
    """Who computes rows.

    Attributes:
        at_once: Rows that are worked on side by side.
        threads: They have one core each; None where `at_once` is 1.
        pool: Memory for what layers keep; None where the allocator needs no help.
        gate: Passed by a row on its way forward.
    """

    at_once: int = 1
    threads: ThreadPoolExecutor | None = None
    pool: Pool | None = None
    gate: Gate = field(default_factory=Gate)

    def expect(self, tokens: int) -> None:
        """Hold memory to what rows of a budget need.

        Args:
            tokens: The budget of a row.
        """
        self.gate.limit = FORWARD * self.at_once * tokens


def begun(rows: Sequence[Row], at_once: int, limit: float) -> list[Row]:
    """Order rows for those who work side by side, so that little time is lost in waiting.

    Args:
        rows: A step's rows.
        at_once: How many are worked on side by side.
        limit: Tokens that may be on their way forward.

    Returns:
        The longest first, so that all are done at about the same time; where that would make the second wait at the
        gate, a long and a short one before them.
    """
    by_length = sorted(rows, key=lambda row: -len(row.input_ids))
    orders = [by_length]
    for first in ((0, -1), (0, -2), (1, -1), (1, -2), (-1, 0)) if at_once > 1 else ():
        pair = [by_length[at] for at in first if len(rows) > len(first)]
        orders.append(pair + [row for row in by_length if all(row is not other for other in pair)])
    return min(orders, key=lambda order: _duration([len(row.input_ids) for row in order], at_once, limit))


def _duration(lengths: Sequence[int], at_once: int, limit: float) -> float:
    """How long rows take side by side, in tokens that one of the workers takes in that time."""
    free = [0.0] * at_once
    forward: list[tuple[float, int]] = []  # when each row is forward, and its tokens
    for length in lengths:
        worker = free.index(min(free))
        begin = free[worker]
        while (ahead := [row for row in forward if row[0] > begin]) and sum(row[1] for row in ahead) + length > limit:
            begin = min(ahead)[0]
        forward.append((begin + FORWARD_TIME * length, length))
        free[worker] = begin + length
    return max(free)


@dataclass(frozen=True)
class Sums:
    """What some rows add up to.

    Attributes:
        loss: The weighted loss (nats).
        hits: Trained tokens that were predicted.
        terminal_hits: Those of them that belong to a terminal.
        terminals: Trained tokens of terminals.
    """

    loss: float = 0.0
    hits: int = 0
    terminal_hits: int = 0
    terminals: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.loss + other.loss,
            self.hits + other.hits,
            self.terminal_hits + other.terminal_hits,
            self.terminals + other.terminals,
        )


@contextmanager
def workers(model: Any) -> Iterator[Workers]:
    """Give a thread to each core that torch may use, for the length of a `with` block.

    Args:
        model: The causal language model with the LoRA layers active. An accelerator takes one row after the other,
            and so does transformers' own forward: the switch to our attention is the model's, not a thread's.

    Yields:
        The workers.
    """
    if model.device.type != "cpu" or not is_written_out(model):
        yield Workers()
        return
    cores, pool = torch.get_num_threads(), Pool(model.dtype)
    if cores == 1:
        yield Workers(pool=pool)
        return
    try:
        with ThreadPoolExecutor(cores, "row", initializer=torch.set_num_threads, initargs=(1,)) as threads:
            yield Workers(cores, threads, pool)
    finally:
        torch.set_num_threads(cores)  # a thread's own number is the default of every thread that comes after it


def gradients(
    model: Any,
    adapter: str,
    parameters: Mapping[str, torch.nn.Parameter],
    rows: Sequence[Row],
    should_stop: Callable[[], bool],
    by: Workers,
    *,
    checkpointing: bool = False,
    per: float | None = None,
) -> Sums:
    """Set the gradient of the loss of some rows, divided by what their tokens count together.

    Args:
        model: The causal language model with the LoRA layers active.
        adapter: Name of the adapter that is trained.
        parameters: Its weights by name; their ``grad`` is replaced.
        rows: A step's rows; added up in the order in which they are begun.
        should_stop: Asked before each row.
        by: Who computes.
        checkpointing: Recompute layers in the backward pass.
        per: What the gradient is divided by; None for what the tokens of these rows count, which makes it that of
            their mean. The step's count where other processes have more of its rows.

    Returns:
        What the rows add up to.

    Raises:
        KeyboardInterrupt: `should_stop` said so.
    """
    if per is None:
        per = sum(sum(row.weights) if row.weights else len(row.targets) for row in rows)
    weights = list(parameters.values())

    def work(row: Row) -> tuple[Sums, tuple[torch.Tensor | None, ...]]:
        if should_stop():
            raise KeyboardInterrupt
        with by.gate.passing(len(row.input_ids)):
            loss = row_loss(model, row, adapter, checkpointing=checkpointing, pool=by.pool)
        grads = torch.autograd.grad(loss.total / per, weights, allow_unused=True)
        right = loss.right.tolist()
        sums = Sums(float(loss.total.detach()), sum(right), sum(compress(right, row.terminal)), sum(row.terminal))
        return sums, grads

    if by.pool is not None and not checkpointing:
        longest = max((len(row.input_ids) for row in rows), default=0)
        by.pool.fit(kept(model, adapter) * longest * by.at_once)
    if by.threads is not None:
        rows = begun(rows, by.at_once, by.gate.limit)
    for weight in weights:
        weight.grad = None
    total = Sums()
    for sums, grads in by.threads.map(work, rows) if by.threads else map(work, rows):
        total += sums
        for weight, grad in zip(weights, grads, strict=True):
            if grad is not None:
                # contiguous: the fused optimizer reads memory as it lies
                weight.grad = grad.contiguous() if weight.grad is None else weight.grad.add_(grad)
    return total
