"""Pack examples into rows without padding: documents behind each other, positions that start anew.

examples -> steps (what one optimizer step learns from) -> rows (micro-batches)
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiararodney.sekft.render import IGNORED, Example

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Row:
    """One packed row: a micro-batch.

    Attributes:
        input_ids: The documents behind each other.
        position_ids: Each token's position in its own document.
        lengths: Tokens of each document; they add up to the row.
        keep: Positions of the row whose hidden state predicts a trained token.
        targets: The token trained at each of `keep`.
        first: Whether each of `targets` is the first of its turn.
        terminal: Whether each of `targets` belongs to a session's last turn.
        weights: The weight of each of `targets` in the loss.
    """

    input_ids: tuple[int, ...]
    position_ids: tuple[int, ...]
    lengths: tuple[int, ...]
    keep: tuple[int, ...]
    targets: tuple[int, ...]
    first: tuple[bool, ...]
    terminal: tuple[bool, ...]
    weights: tuple[float, ...]

    @property
    def tokens(self) -> int:
        """How many tokens it holds."""
        return len(self.input_ids)


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
    """Split a step's examples into rows of at most `budget` tokens, the longest first.

    Args:
        step: Indices of examples.
        lengths: Tokens of each example.
        budget: Tokens of a row at most; an example that is longer has a row of its own.
        processes: How many share the rows: each example goes into the row with most room of that many at least.

    Returns:
        The indices of each row's examples.
    """
    rows: list[tuple[list[int], int]] = [([], 0) for _ in range(processes)] if processes > 1 else []
    for index in sorted(step, key=lambda index: (-lengths[index], index)):
        with_room = [at for at, (_, used) in enumerate(rows) if not used or used + lengths[index] <= budget]
        if with_room:
            at = min(with_room, key=lambda at: rows[at][1]) if processes > 1 else with_room[0]
            rows[at] = ([*rows[at][0], index], rows[at][1] + lengths[index])
        else:
            rows.append(([index], lengths[index]))
    return [members for members, _ in rows if members]


def pack_row(examples: Sequence[Example]) -> Row:
    """Lay examples behind each other.

    Args:
        examples: What the row holds; none is truncated.

    Returns:
        The row. Positions whose weight is 0 are context only.
    """
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
    return Row(
        input_ids=tuple(ids),
        position_ids=tuple(positions),
        lengths=tuple(len(example.input_ids) for example in examples),
        keep=keep,
        targets=targets,
        first=first,
        terminal=terminal,
        weights=weights,
    )


def documents(row: Row) -> list[Row]:
    """Take a row apart.

    Args:
        row: Any row.

    Returns:
        A row for each of its documents; what is trained stays in its order.
    """
    parts, begin, done = [], 0, 0
    for length in row.lengths:
        end = begin + length
        upto = done + sum(begin <= at < end for at in row.keep[done:])
        part = slice(done, upto)
        parts.append(
            Row(
                row.input_ids[begin:end], row.position_ids[begin:end], (length,),
                tuple(at - begin for at in row.keep[part]), row.targets[part], row.first[part], row.terminal[part],
                row.weights[part],
            )
        )  # fmt: skip
        begin, done = end, upto
    return parts


def total_weight(examples: Sequence[Example]) -> float:
    """What all trained tokens of some examples weigh together."""
    return math.fsum(
        weight for e in examples for label, weight in zip(e.labels, e.weights, strict=True) if label != IGNORED
    )


def terminal_start(example: Example) -> int:
    """Where an example's terminal begins.

    Args:
        example: A trained example.

    Returns:
        The position of the first token of the session's last turn; the example's length where it does not hold it.
    """
    length = len(example.labels)
    if not example.final:
        return length
    last = next((at for at in range(length - 1, -1, -1) if example.labels[at] != IGNORED), None)
    if last is None:
        return length
    return next((at + 1 for at in range(last, -1, -1) if example.labels[at] == IGNORED), 0)
