"""Pack examples into rows without padding: documents behind each other, positions that start anew.

examples -> steps (what one optimizer step learns from) -> rows (micro-batches)
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tiararodney.sekft.render import IGNORED, Example

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Row:
    """One packed row: a micro-batch.

    Attributes:
        examples: Its documents; positions start anew in each.
        input_ids: The documents behind each other.
        position_ids: Each token's position in its own document.
        keep: Positions of the row whose hidden state predicts a trained token.
        targets: The token trained at each of `keep`.
        first: Whether each of `targets` is the first of its turn.
        terminal: Whether each of `targets` belongs to a session's last turn.
        weights: The weight of each of `targets` in the loss.
    """

    examples: tuple[Example, ...]
    input_ids: list[int]
    position_ids: list[int]
    keep: tuple[int, ...]
    targets: tuple[int, ...]
    first: tuple[bool, ...]
    terminal: tuple[bool, ...]
    weights: tuple[float, ...]

    @property
    def tokens(self) -> int:
        """How many tokens it holds."""
        return len(self.input_ids)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each document."""
        return tuple(len(example.input_ids) for example in self.examples)


def plan_steps(lengths: Sequence[int], budget: int, epochs: float, seed: int) -> tuple[list[list[int]], list[int]]:
    """Deal the examples of all epochs into optimizer steps, each epoch in an order of its own.

    Args:
        lengths: Tokens of each example.
        budget: Tokens of a step at most; an example that is longer has a step of its own.
        epochs: Passes over the data; of a last one that is not whole, its first steps.
        seed: Of the order.

    Returns:
        The indices of each step's examples, and after how many steps each epoch ends.
    """
    steps: list[list[int]] = []
    ends = []
    for epoch in range(math.ceil(epochs)):
        order = list(range(len(lengths)))
        random.Random(f"{seed}/{epoch}").shuffle(order)  # noqa: S311 - an order, no secret
        planned: list[list[int]] = []
        room = 0
        for index in order:
            if not planned or lengths[index] > room:
                planned.append([])
                room = budget
            planned[-1].append(index)
            room -= lengths[index]
        steps += planned[: max(1, round(min(1.0, epochs - epoch) * len(planned)))]
        ends.append(len(steps))
    return steps, ends


def split_step(step: Sequence[int], lengths: Sequence[int], budget: int, processes: int = 1) -> list[list[int]]:
    """Split a step's examples into rows of at most `budget` tokens: the longest first, each into the emptiest row.

    Args:
        step: Indices of examples.
        lengths: Tokens of each example.
        budget: Tokens of a row at most; an example that is longer has a row of its own.
        processes: How many share the rows: there are as many at least, if the examples suffice.

    Returns:
        The indices of each row's examples.
    """
    rows: list[list[int]] = [[] for _ in range(processes)]
    rooms = [budget] * processes
    for index in sorted(step, key=lambda index: (-lengths[index], index)):
        at = rooms.index(max(rooms))
        if rows[at] and lengths[index] > rooms[at]:
            at = len(rows)
            rows.append([])
            rooms.append(budget)
        rows[at].append(index)
        rooms[at] -= lengths[index]
    return [row for row in rows if row]


def pack_row(examples: Sequence[Example]) -> Row:
    """Lay examples behind each other; none is truncated. Positions whose weight is 0 are context only."""
    ids: list[int] = []
    positions: list[int] = []
    trained: list[tuple[int, int, bool, bool, float]] = []
    for example in examples:
        offset, begin = len(ids) - 1, terminal_start(example)
        for at, (label, weight) in enumerate(zip(example.labels, example.weights, strict=True)):
            if label != IGNORED and weight:
                trained.append((offset + at, label, example.labels[at - 1] == IGNORED, at >= begin, weight))
        ids += example.input_ids
        positions += range(len(example.input_ids))
    keep, targets, first, terminal, weights = zip(*trained, strict=True) if trained else ((), (), (), (), ())
    return Row(tuple(examples), ids, positions, keep, targets, first, terminal, weights)


def idle_row(row: Row) -> Row:
    """A row of the same documents of which nothing is trained: it keeps a process in step with others."""
    return pack_row([replace(example, weights=[0.0] * len(example.labels)) for example in row.examples])


def total_weight(examples: Sequence[Example]) -> float:
    """What all trained tokens of some examples weigh together."""
    return math.fsum(
        weight for e in examples for label, weight in zip(e.labels, e.weights, strict=True) if label != IGNORED
    )


def terminal_start(example: Example) -> int:
    """Position of the first token of the session's last turn; the example's length where it does not hold it."""
    return example.spans[-1][0] if example.final else len(example.labels)
