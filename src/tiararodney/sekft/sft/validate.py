"""How well the weights do on sessions that were held back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tiararodney.sekft.render import IGNORED
from tiararodney.sekft.sft.step.pack import terminal_start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tiararodney.sekft.render import Example
    from tiararodney.sekft.sft.step.loss import Loss
    from tiararodney.sekft.sft.step.pack import Row

# loss, weight; hits and tokens of commands, of terminals; mass and turns where it goes on, where it ends
SUMS = 10


def ending_tokens(examples: Iterable[Example]) -> tuple[int, ...]:
    """Collect the tokens that terminals begin with.

    Args:
        examples: Those trained and those held back.

    Returns:
        The ids, ascending; empty where no example holds a terminal.
    """
    starts = ((example, terminal_start(example)) for example in examples)
    return tuple(sorted({example.labels[at] for example, at in starts if at < len(example.labels)} - {IGNORED}))


def validation_sums(forward: Callable[[Row], Loss], rows: Sequence[Row]) -> list[float]:
    """Run held-back sessions through the model.

    Args:
        forward: Gives the loss of a row, with the probability of all ending tokens.
        rows: This process's share of the sessions.

    Returns:
        `SUMS` numbers, to be added up over all processes.
    """
    sums = [0.0] * SUMS
    with torch.no_grad():
        for row in rows:
            loss = forward(row)
            if not any(row.weights):  # it only keeps step with other processes
                continue
            sums[0] += float(loss.total)
            sums[1] += sum(row.weights)
            masses = loss.probe_mass.tolist() if loss.probe_mass is not None else [0.0] * len(row.targets)
            for correct, mass, first, last in zip(loss.correct.tolist(), masses, row.first, row.terminal, strict=True):
                sums[2 + 2 * last] += correct
                sums[3 + 2 * last] += 1
                sums[6 + 2 * last] += mass if first else 0.0
                sums[7 + 2 * last] += first
    return sums


def metrics(sums: Sequence[float]) -> dict[str, float]:
    """Make rates of the sums of all processes.

    A terminal is a session's last turn (`exit`, or `panic` and its reason). The *ending tokens* are the tokens that the
    terminals of the data begin with; where a command begins with one of them too, it counts as an ending.

    Args:
        sums: See `validation_sums`.

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
