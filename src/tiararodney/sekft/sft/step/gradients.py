"""The gradient of a step over its rows: one after the other, or on the CPU one row a core.

Two cores that share every matrix product of a small model wait for each other at each of some thousand products a row.
A row for each core has them meet once a step. The rows' gradients are added in the rows' order whichever is done
first, so that the same rows give the same bits.
"""

from __future__ import annotations

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

# Of the tokens of as many of the longest rows as there are side by side: how many may be on their way forward. A step's
# longest row and one of its shorter ones are few enough, two of the longest are not.
FORWARD = 0.8


class Gate:
    """Keeps rows side by side from being at their largest together, which each is between forward and backward.

    Two rows of one length that begin together hold twice what one holds; begun apart, two thirds of that. Lengths that
    differ keep them apart without waiting.
    """

    def __init__(self) -> None:
        self.limit = 0.0
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


def begun(rows: Sequence[Row], at_once: int) -> list[Row]:
    """Order rows for those who work side by side.

    Args:
        rows: A step's rows.
        at_once: How many are worked on side by side.

    Returns:
        A long one and a short one in turn for those who begin, so that they do not reach their largest together; then
        the longest first, so that all are done at about the same time.
    """
    left = sorted(rows, key=lambda row: -len(row.input_ids))
    first = [left.pop(0 if at % 2 == 0 else -1) for at in range(min(at_once, len(left)))]
    return first + left


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
        rows: A step's rows; added up in the order that `begun` gives them.
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

    longest = max((len(row.input_ids) for row in rows), default=0)
    by.gate.limit = FORWARD * by.at_once * longest
    if by.pool is not None and not checkpointing:
        by.pool.fit(kept(model, adapter) * longest * by.at_once)
    for weight in weights:
        weight.grad = None
    total = Sums()
    for sums, grads in by.threads.map(work, begun(rows, by.at_once)) if by.threads else map(work, rows):
        total += sums
        for weight, grad in zip(weights, grads, strict=True):
            if grad is not None:
                # contiguous: the fused optimizer reads memory as it lies
                weight.grad = grad.contiguous() if weight.grad is None else weight.grad.add_(grad)
    return total
