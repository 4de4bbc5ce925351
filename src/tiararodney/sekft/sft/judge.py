"""Best checkpoint by behaviour: what a run asks for a success rate in worlds. The caller of the run plays them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Judge:
    """Plays the adapter in training; the weights with the best success rate are kept.

    Args:
        every: steps between evaluations; the last step is evaluated too.
        success: plays and returns the success rate in [0, 1]; called while the base is free.
        identity: JSON values that must be the same for a run to be resumed.
    """

    every: int
    success: Callable[[], float]
    identity: Mapping[str, Any]

    def is_due(self, step: int, last: int) -> bool:
        """Whether a step is one after which to evaluate.

        Args:
            step: from 1.
            last: the run's last step.
        """
        return step % self.every == 0 or step == last
