"""How well the weights do on sessions that were held back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from tiararodney.sekft.render import IGNORED
from tiararodney.sekft.sft.step.forward import row_loss
from tiararodney.sekft.sft.step.pack import terminal_start

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tiararodney.sekft.render import Example
    from tiararodney.sekft.sft.ranks import Ranks
    from tiararodney.sekft.sft.step.pack import Row


@dataclass(frozen=True)
class Validation:
    """What the held-back sessions say, every turn after the turns of the reference.

    A terminal is a session's last turn (`exit`, or `panic` and its reason). The *ending tokens* are the tokens that the
    terminals of the data begin with; where a command begins with one of them too, it counts as an ending.

    Attributes:
        loss: As in training: the mean over all trained tokens, each weighted as `--terminal-weight` says.
        accuracy: Share of the trained tokens that are the most likely ones.
        command_accuracy: The same over the tokens of commands and their ends of turn.
        terminal_accuracy: The same over the tokens of terminals and theirs.
        too_early: At the turns where the reference goes on, the mean probability that the reply's first token is an
            ending token.
        too_late: At the turns where the reference ends, the mean probability that the reply's first token is none.
    """

    loss: float
    accuracy: float
    command_accuracy: float | None
    terminal_accuracy: float | None
    too_early: float | None
    too_late: float | None


def ending_tokens(examples: Iterable[Example]) -> tuple[int, ...]:
    """Collect the tokens that terminals begin with.

    Args:
        examples: Those trained and those held back.

    Returns:
        The ids, ascending; empty where no example holds a terminal.
    """
    starts = ((example, terminal_start(example)) for example in examples)
    return tuple(sorted({example.labels[at] for example, at in starts if at < len(example.labels)} - {IGNORED}))


def validate(
    model: Any, adapter: str, rows: Sequence[Row], endings: Sequence[int], ranks: Ranks, idle: Sequence[Row] = ()
) -> Validation:
    """Run held-back sessions through the model.

    Args:
        model: The causal language model with the LoRA layers active.
        adapter: Name of the adapter.
        rows: This process's share of the sessions.
        endings: See `ending_tokens`.
        ranks: Who this process is.
        idle: Rows that count nothing, run because other processes run one more.

    Returns:
        The same on every process.
    """
    # loss, weight; hits and tokens of commands, of terminals; mass and turns where it goes on, where it ends
    sums = [0.0] * 10
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for row in rows:
                loss = row_loss(model, row, adapter, asked=endings or None)
                sums[0] += float(loss.total)
                sums[1] += sum(row.weights) if row.weights else len(row.targets)
                masses = loss.mass.tolist() if loss.mass is not None else [0.0] * len(row.targets)
                for right, mass, first, last in zip(loss.right.tolist(), masses, row.first, row.terminal, strict=True):
                    sums[2 + 2 * last] += right
                    sums[3 + 2 * last] += 1
                    sums[6 + 2 * last] += mass if first else 0.0
                    sums[7 + 2 * last] += first
            for row in idle:
                row_loss(model, row, adapter)
    finally:
        model.train(training)
    total, weight, hits, commands, terminal_hits, terminals, early, going_on, ending, ends = ranks.sums(
        sums, str(model.device)
    )
    return Validation(
        loss=total / weight,
        accuracy=(hits + terminal_hits) / (commands + terminals),
        command_accuracy=hits / commands if commands else None,
        terminal_accuracy=terminal_hits / terminals if terminals else None,
        too_early=early / going_on if going_on and endings else None,
        too_late=1 - ending / ends if ends else None,
    )
