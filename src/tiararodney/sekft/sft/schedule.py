"""What a run will do, laid out before it begins: the examples and the learning rate of every step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tiararodney.sekft.sft.step.pack import plan_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.sekft.sft.config import TrainConfig


def plan_run(lengths: Sequence[int], config: TrainConfig) -> tuple[list[list[int]], frozenset[int]]:
    """Lay out every step of a run.

    Args:
        lengths: Tokens of each example.
        config: Names epochs, steps, tokens a step, and the seed.

    Returns:
        The indices of each step's examples, and the numbers of steps after which an epoch is over.
    """
    steps: list[list[int]] = []
    ends = []
    for epoch in range(math.ceil(config.epochs)):
        planned = plan_steps(lengths, config.tokens_per_batch, config.seed, epoch)
        share = min(1.0, config.epochs - epoch)
        steps += planned[: max(1, round(share * len(planned)))]
        ends.append(len(steps))
    if config.max_steps:
        steps = steps[: config.max_steps]
    return steps, frozenset(end for end in ends if end <= len(steps))


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The rate of a step: linear warm-up, then the schedule down to nothing.

    Args:
        config: Names the peak, the warm-up's share and the schedule.
        step: The step, from 0.
        steps: All steps of the run.

    Returns:
        The rate.
    """
    warmup = math.ceil(config.warmup_ratio * steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    falling = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}
    return config.learning_rate * falling[config.lr_schedule]
