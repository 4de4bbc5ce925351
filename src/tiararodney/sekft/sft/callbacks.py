"""Callbacks of a run: progress on stderr, evaluation after some steps, divergence; and signals that stop it."""

from __future__ import annotations

import logging
import signal
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from tiararodney.sekft.errors import RunFailed
from tiararodney.sekft.provenance import peak_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

log = logging.getLogger(__name__)

LOG_EVERY = 5.0  # seconds between lines


class LogProgress(TrainerCallback):  # type: ignore[misc]  # transformers' types are skipped
    """Logs how far a run is, every few seconds; each step with -v.

    Args:
        remaining: Tokens of the steps to come.
        device: What is computed on, for the memory.
    """

    def __init__(self, remaining: int, device: str) -> None:
        self._remaining, self._device = remaining, device
        self._tokens = self._trained = 0
        self._begin = self._logged = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        """Log a step, if it is time to; log every validation."""
        if not state.is_world_process_zero:
            return
        if "eval_success" in logs:
            log.info("behaviour step=%d success=%s", state.global_step, _percent(logs["eval_success"]))
        if "eval_loss" in logs:
            rates = (logs.get(f"eval_{name}") for name in (
                "command_accuracy", "terminal_accuracy", "too_early", "too_late",
            ))  # fmt: skip
            log.info(
                "validation step=%d loss=%.4f command_accuracy=%s terminal_accuracy=%s too_early=%s too_late=%s",
                state.global_step, logs["eval_loss"], *map(_percent, rates),
            )  # fmt: skip
        elif "loss" in logs:
            self._remaining -= logs["tokens"]
            self._tokens += logs["tokens"]
            self._trained += logs["trained_tokens"]
            self._log_step(state, logs)

    def _log_step(self, state: Any, logs: Any) -> None:
        now = time.monotonic()
        speed = self._tokens / max(now - self._begin, 1e-9)
        line = (
            f"step {state.global_step}/{state.max_steps}  loss {logs['loss']:.4f}  "
            f"accuracy {100 * logs['accuracy']:.1f} %  {speed:.0f} tokens/s  "
            f"{timedelta(seconds=int(self._remaining / speed))} left  peak {held(self._device) / 2**30:.2f} GiB"
        )
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s", line)
        elif state.global_step == state.max_steps or now - self._logged >= LOG_EVERY:
            log.info("%s", line)
            self._logged = now


class EvaluateAfter(TrainerCallback):  # type: ignore[misc]  # transformers' types are skipped
    """Evaluates after some steps of ours (the ends of epochs, the last one), whatever the Trainer's `eval_steps`.

    Args:
        due: Tells of a step, and of the run's last one, whether to evaluate after it.
    """

    def __init__(self, due: Callable[[int, int], bool]) -> None:
        self._due = due

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Ask for an evaluation."""
        control.should_evaluate |= self._due(state.global_step, state.max_steps)


class StopAtDivergence(TrainerCallback):  # type: ignore[misc]  # transformers' types are skipped
    """Ends a run whose loss has been far above its start's for some steps, and writes no checkpoint meanwhile.

    Args:
        steps: How many steps in a row; 0 for never.
        learning_rate: For the message.
    """

    def __init__(self, steps: int, learning_rate: float) -> None:
        self._steps, self._learning_rate = steps, learning_rate

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Look at the losses so far."""
        losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
        if is_diverging(losses, self._steps):
            control.should_save = False
            raise RunFailed(
                f"the loss was over {loss_limit(losses):.2f} for {self._steps} steps, {losses[-1]:.2f} in step "
                f"{state.global_step}: the run diverged. Lower --learning-rate (here {self._learning_rate}), or give "
                "--divergence-steps 0 to go on regardless; a checkpoint of before it is kept."
            )
        if self._steps and losses and losses[-1] > loss_limit(losses):
            control.should_save = False


def loss_limit(losses: Sequence[float]) -> float:
    """The loss above which a run is on its way out.

    Twice the first step's and a nat more: the first is the base's own loss, or that of an adapter that goes on
    training, which may be near 0. A loss below three nats a token is never out of hand.

    Args:
        losses: One or more, in nats a token.
    """
    return 2 * max(losses[0], 1.0) + 1


def is_diverging(losses: Sequence[float], steps: int) -> bool:
    """Tell whether each of the last steps lost more than `loss_limit`.

    Args:
        losses: Of all steps so far.
        steps: How many of the last ones have to; 0 for never.

    Returns:
        False where there were fewer.
    """
    last = losses[-steps:] if steps else []
    return len(last) == steps > 0 and min(last) > loss_limit(losses)


class Stop:
    """Whether a run has to stop: because a signal came, or because `should_stop` says so.

    Args:
        should_stop: Another source of the wish to stop.
    """

    def __init__(self, should_stop: Callable[[], bool] | None = None) -> None:
        self._should_stop, self._signalled, self._discarding = should_stop, False, False

    def __call__(self) -> bool:
        """Tell whether to stop."""
        return self._signalled or (self._should_stop is not None and self._should_stop())

    @contextmanager
    def discarding(self) -> Iterator[None]:
        """While open, a signal raises KeyboardInterrupt at once: what is computed inside may be thrown away.

        A micro-batch takes many seconds on a slow processor, and none of it counts before its step is whole.
        """
        self._discarding = True
        try:
            yield
        finally:
            self._discarding = False

    @contextmanager
    def on_signals(self) -> Iterator[Stop]:
        """While open, Ctrl-C and TERM ask for the stop; a second one interrupts wherever the run is."""
        if threading.current_thread() is not threading.main_thread():
            yield self  # only the main thread may set handlers
            return
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        again, self._signalled = self._signalled, True  # set first: some callers swallow what is raised in them
        if not again:
            log.warning("%s: stopping; once more to stop without a checkpoint", signal.Signals(number).name)
        if again or self._discarding:
            raise KeyboardInterrupt


def held(device: str) -> int:
    """The most memory that the run held so far.

    Args:
        device: What is computed on.

    Returns:
        Bytes of the accelerator, or of this process.
    """
    return int(torch.cuda.max_memory_allocated(device)) if device.startswith("cuda") else peak_memory()


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"
