"""Pack examples into rows without padding: documents behind each other, the head of all of them stored once.

    examples -> steps (what one optimizer step learns from) -> rows (what goes through the model at once)

Every session begins with the same template text and orientation. Causal attention makes those positions the same in
every document, so a row holds them once and each document attends to them as to its own past.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiararodney.sekft.render import IGNORED, Example

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Row:
    """One packed row.

    Attributes:
        input_ids: The shared prefix, then each document without it.
        position_ids: Each token's position in its own document.
        prefix: How many tokens at the row's start are the past of every document.
        lengths: Tokens of each document behind the prefix; they add up to the row without the prefix.
        keep: Positions of the row whose hidden state predicts a trained token.
        targets: The token trained at each of `keep`.
        first: Whether each of `targets` is the first of its turn.
        terminal: Whether each of `targets` belongs to a session's last turn.
        weights: What each of `targets` counts in the loss; empty where all count alike.
        tokens: Tokens of the documents, each counted whole: the work this row stands for.
    """

    input_ids: tuple[int, ...]
    position_ids: tuple[int, ...]
    prefix: int
    lengths: tuple[int, ...]
    keep: tuple[int, ...]
    targets: tuple[int, ...]
    first: tuple[bool, ...]
    terminal: tuple[bool, ...]
    weights: tuple[float, ...]
    tokens: int


def plan_steps(lengths: Sequence[int], budget: int, seed: int, epoch: int) -> list[list[int]]:
    """Deal the examples of one epoch into optimizer steps.

    Args:
        lengths: Tokens of each example.
        budget: Tokens a step takes at most; an example that is longer has a step of its own.
        seed: Of the order.
        epoch: Every epoch has an order of its own.

    Returns:
        The indices of each step's examples.
    """
    order = list(range(len(lengths)))
    random.Random(f"{seed}/{epoch}").shuffle(order)  # noqa: S311 - an order, no secret
    steps: list[list[int]] = []
    room = 0
    for index in order:
        if not steps or lengths[index] > room:
            steps.append([])
            room = budget
        steps[-1].append(index)
        room -= lengths[index]
    return steps


def split_step(step: Sequence[int], lengths: Sequence[int], budget: int, at_once: int = 1) -> list[list[int]]:
    """Split a step's examples into rows of at most `budget` tokens, the longest first.

    Args:
        step: Indices of examples.
        lengths: Tokens of each example.
        budget: Tokens a row takes at most; an example that is longer has a row of its own.
        at_once: Rows that are worked on side by side. One: each example goes into the first row with room. More: into
            the emptiest of that many, so that all are done at about the same time.

    Returns:
        The indices of each row's examples.
    """
    rows: list[tuple[list[int], int]] = [([], 0)] * at_once if at_once > 1 else []
    for index in sorted(step, key=lambda index: (-lengths[index], index)):
        with_room = [at for at, (_, used) in enumerate(rows) if not used or used + lengths[index] <= budget]
        if with_room:
            at = min(with_room, key=lambda at: rows[at][1]) if at_once > 1 else with_room[0]
            rows[at] = ([*rows[at][0], index], rows[at][1] + lengths[index])
        else:
            rows.append(([index], lengths[index]))
    return [members for members, _ in rows if members]


def pack_row(examples: Sequence[Example], *, share_prefix: bool, terminal_weight: float = 1.0) -> Row:
    """Lay examples behind each other.

    Args:
        examples: What the row holds; none is truncated.
        share_prefix: Store what all of them begin with once. The forward pass must know `prefix`.
        terminal_weight: What a token of a terminal counts in the loss, where a command's counts 1.

    Returns:
        The row.
    """
    prefix = _shared_prefix(examples) if share_prefix and len(examples) > 1 else 0
    ids: list[int] = list(examples[0].input_ids[:prefix])
    positions: list[int] = list(range(prefix))
    keep: list[int] = []
    targets: list[int] = []
    first: list[bool] = []
    terminal: list[bool] = []
    for example in examples:
        offset = len(ids) - prefix  # of the document's position 0 in the row
        begins = terminal_start(example)
        for position, label in enumerate(example.labels):
            if label != IGNORED:
                keep.append(offset + position - 1)
                targets.append(label)
                first.append(example.labels[position - 1] == IGNORED)
                terminal.append(position >= begins)
        ids += example.input_ids[prefix:]
        positions += range(prefix, len(example.input_ids))
    return Row(
        input_ids=tuple(ids),
        position_ids=tuple(positions),
        prefix=prefix,
        lengths=tuple(len(example.input_ids) - prefix for example in examples),
        keep=tuple(keep),
        targets=tuple(targets),
        first=tuple(first),
        terminal=tuple(terminal),
        weights=() if terminal_weight == 1 else tuple(terminal_weight if last else 1.0 for last in terminal),
        tokens=sum(len(example.input_ids) for example in examples),
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
    last = next(at for at in range(length - 1, -1, -1) if example.labels[at] != IGNORED)
    return next((at + 1 for at in range(last, -1, -1) if example.labels[at] == IGNORED), 0)


def _shared_prefix(examples: Sequence[Example]) -> int:
    """Tokens all examples begin with, up to before the position that predicts the first trained token of any."""
    first = examples[0].input_ids
    shared = min(_first_trained(example) - 1 for example in examples)
    for example in examples[1:]:
        for at in range(shared):
            if example.input_ids[at] != first[at]:
                shared = at
                break
    return max(shared, 0)


def _first_trained(example: Example) -> int:
    return next(at for at, label in enumerate(example.labels) if label != IGNORED)
