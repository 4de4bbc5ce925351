"""How well the weights predict: in a step of training, and on sessions that were held back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tiararodney.sekft.sft.step.pack import terminal_start

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tiararodney.sekft.render import Example
    from tiararodney.sekft.sft.step.loss import Loss
    from tiararodney.sekft.sft.step.pack import Row


def ending_tokens(examples: Iterable[Example]) -> tuple[int, ...]:
    """Return the ids that the terminals of examples begin with, ascending."""
    return tuple(sorted({example.labels[terminal_start(example)] for example in examples if example.final}))


def row_sums(row: Row, loss: Loss) -> list[float]:
    """Count what a row's loss, with the probability of all ending tokens or without, says.

    Returns:
        Numbers to be added up over rows and processes: loss and weight; of commands, then of terminals, the hits and
        the tokens; of turns where the session goes on, then where it ends, the mass of ending tokens and the number.
    """
    sums = [float(loss.total.detach()), sum(row.weights)] + [0.0] * 8
    masses = [0.0] * len(row.targets) if loss.probe_mass is None else loss.probe_mass.tolist()
    for correct, mass, first, last in zip(loss.correct.tolist(), masses, row.first, row.terminal, strict=True):
        for at, value in zip((2, 3, 6, 7), (correct, 1, mass * first, first), strict=True):
            sums[at + 2 * last] += value
    return sums


def added(sums: Iterable[Sequence[float]]) -> list[float]:
    """Add up the `row_sums` of some rows."""
    return [math.fsum(column) for column in zip(*sums, strict=True)]


def metrics(sums: Sequence[float]) -> dict[str, float]:
    """Make rates of the sums of all rows.

    A terminal is a session's last turn (`exit`, or `panic` and its reason). The *ending tokens* are the tokens that the
    terminals of the data begin with; where a command begins with one of them too, it counts as an ending.

    Args:
        sums: See `row_sums`.

    Returns:
        ``loss`` (the mean over all trained tokens, weighted as in training), ``accuracy``, ``command_accuracy``,
        ``terminal_accuracy`` (fractions of the trained tokens that are the most likely ones), ``too_early`` (at turns
        where the reference goes on, the mean probability that the reply's first token is an ending token) and
        ``too_late`` (at turns where the reference ends, that it is none). What has no tokens is left out.
    """
    total, weight, hits, commands, terminal_hits, terminals, early, going_on, ending, ends = sums
    rates = {
        "loss": (total, weight),
        "accuracy": (hits + terminal_hits, commands + terminals),
        "command_accuracy": (hits, commands),
        "terminal_accuracy": (terminal_hits, terminals),
        "too_early": (early, going_on * (ends > 0)),
        "too_late": (ends - ending, ends),
    }
    return {name: part / whole for name, (part, whole) in rates.items() if whole}
