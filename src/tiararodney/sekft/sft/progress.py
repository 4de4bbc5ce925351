"""Where a run is, and how it is told."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from tiararodney.sekft import console
from tiararodney.sekft.provenance import peak_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

TELL_EVERY = 10.0  # seconds between lines in a log
REDRAW_EVERY = 0.2  # seconds between redraws on a terminal
WINDOW = 5  # steps in a row whose loss is too high, before a run counts as diverged


@dataclass
class Progress:
    """Where a run is. All of it, with the weights, is what a checkpoint holds.

    Attributes:
        step: Steps that are done.
        tokens: Tokens that went through the model, each session's counted whole.
        trained: Tokens that were trained.
        seconds: Time spent in steps.
        row_tokens: Tokens that a row takes at present; halved when memory runs out.
        checkpointing: Whether layers are computed twice.
        curve: A record for every step and every validation.
        best: Loss of the best validation so far.
        best_step: The step it was after.
        since_best: Validations since then.
        best_weights: The weights of then, by name.
    """

    step: int = 0
    tokens: int = 0
    trained: int = 0
    seconds: float = 0.0
    row_tokens: int = 0
    checkpointing: bool = False
    curve: list[dict[str, Any]] = field(default_factory=list)
    best: float = math.inf
    best_step: int = 0
    since_best: int = 0
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return all but the weights as JSON values."""
        values = {key: value for key, value in vars(self).items() if key != "best_weights"}
        return values | {"best": None if math.isinf(self.best) else self.best}


def loss_limit(curve: Sequence[dict[str, Any]]) -> float:
    """The loss above which a run is on its way out: twice the first step's, which is the base's own, and a nat more.

    Args:
        curve: The run's so far.

    Returns:
        The limit in nats a token; infinite before the first step.
    """
    first = next((entry["loss"] for entry in curve if "loss" in entry), math.inf)
    return float(2 * first + 1)


def is_diverging(curve: Sequence[dict[str, Any]], steps: int = WINDOW) -> bool:
    """Tell whether each of the last steps lost more than `loss_limit`.

    Args:
        curve: The run's so far.
        steps: How many steps have to.

    Returns:
        False where there were fewer.
    """
    losses = [entry["loss"] for entry in curve if "loss" in entry][-steps:]
    return len(losses) == steps and min(losses) > loss_limit(curve)


class Teller:
    """Tells how far a run is: a line that is redrawn on a terminal, now and then a line in a log.

    Args:
        progress: Where the run is when this process takes it up; speed is that of this process.
        steps: Steps of the run.
        remaining: Tokens of the steps to come.
        device: What is computed on, for the memory.
    """

    def __init__(self, progress: Progress, steps: int, remaining: int, device: str) -> None:
        self._steps, self._remaining, self._device = steps, remaining, device
        self._begun = progress.tokens, progress.trained, progress.seconds
        self._told = self._drawn = time.monotonic()

    def tell(self, progress: Progress) -> None:
        """Tell of a step that is done, if it is time to.

        Args:
            progress: With the step's entry at the end of its curve.
        """
        self._remaining -= progress.curve[-1]["tokens"]
        now = time.monotonic()
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s", self.line(progress))
        elif progress.step == self._steps or (not console.redraws() and now - self._told >= TELL_EVERY):
            log.info("%s", self.line(progress))
            self._told = now
        elif console.redraws() and log.isEnabledFor(logging.INFO) and now - self._drawn >= REDRAW_EVERY:
            console.redraw(self.line(progress))
            self._drawn = now

    def line(self, progress: Progress) -> str:
        """How far, how good, how fast, how long, how much memory; speed over what this process did, without padding.

        Args:
            progress: With the last step's entry at the end of its curve.

        Returns:
            The line.
        """
        entry = progress.curve[-1]
        seconds = max(progress.seconds - self._begun[2], 1e-9)
        speed = (progress.tokens - self._begun[0]) / seconds
        trained = (progress.trained - self._begun[1]) / seconds
        return (
            f"step {progress.step}/{self._steps}  loss {entry['loss']:.4f}  accuracy {100 * entry['accuracy']:.1f} %  "
            f"{speed:.0f} tokens/s ({trained:.0f} trained)  {_duration(self._remaining / speed if speed else 0)} left  "
            f"peak {held(self._device) / 2**30:.2f} GiB"
        )


def held(device: str) -> int:
    """The most memory that the run held so far.

    Args:
        device: What is computed on.

    Returns:
        Bytes of the accelerator, or of this process.
    """
    return int(torch.cuda.max_memory_allocated(device)) if device.startswith("cuda") else peak_memory()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
