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

# loss, weight; hits and tokens of commands, of terminals; mass and turns where it goes on, where it ends
SUMS = 10


def ending_tokens(examples: Iterable[Example]) -> tuple[int, ...]:
    """Return the ids that the terminals of examples begin with, ascending."""
    return tuple(sorted({example.labels[terminal_start(example)] for example in examples if example.final}))


def row_sums(row: Row, loss: Loss) -> list[float]:
    """Count what a row's loss, with the probability of all ending tokens or without, says.

    Returns:
        `SUMS` numbers, to be added up over rows and processes.
    """
    sums = [float(loss.total.detach()), sum(row.weights)] + [0.0] * (SUMS - 2)
    masses = [0.0] * len(row.targets) if loss.probe_mass is None else loss.probe_mass.tolist()
    for correct, mass, first, last in zip(loss.correct.tolist(), masses, row.first, row.terminal, strict=True):
        sums[2 + 2 * last] += correct
        sums[3 + 2 * last] += 1
        sums[6 + 2 * last] += mass if first else 0.0
        sums[7 + 2 * last] += first
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
    found = {"loss": total / weight, "accuracy": (hits + terminal_hits) / (commands + terminals)}
    if commands:
        found["command_accuracy"] = hits / commands
    if terminals:
        found["terminal_accuracy"] = terminal_hits / terminals
    if going_on and ends:
        found["too_early"] = early / going_on
    if ends:
        found["too_late"] = 1 - ending / ends
    return found
