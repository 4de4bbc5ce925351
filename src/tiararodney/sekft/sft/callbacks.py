"""What the Trainer is given: its arguments, and callbacks for progress, evaluation and divergence; what stops a run."""

from __future__ import annotations

import logging
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.provenance import peak_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import FrameType

    from tiararodney.sekft.sft.config import TrainConfig

log = logging.getLogger(__name__)

LOG_EVERY = 5.0  # seconds between lines


def training_arguments(config: TrainConfig, folder: Path, steps: int, device: str, best: str) -> Any:
    """Make transformers' `TrainingArguments`.

    `folder` is where checkpoints go, `steps` the run's optimizer steps, `device` where the base lies; `best` names the
    metric of the weights that are kept, "loss" or "success".

    Raises:
        UsageError: transformers does not know a name in the configuration.
    """
    try:
        arguments = TrainingArguments(
            output_dir=str(folder),
            max_steps=steps,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
            lr_scheduler_type=config.lr_schedule,
            # Rounded down, as transformers starts a warmup at a rate of zero: a run of one step would train nothing.
            warmup_steps=int(config.warmup_ratio * steps),
            optim=config.optim,
            seed=config.seed,
            use_cpu=device == "cpu",
            logging_steps=1,
            logging_nan_inf_filter=False,
            eval_strategy="steps" if config.validation_fraction else "no",
            eval_steps=config.validate_every or steps,
            metric_for_best_model=best,
            save_strategy="steps" if config.checkpoint_every else "no",
            save_steps=config.checkpoint_every or steps,
            restore_callback_states_from_checkpoint=True,
            report_to=list(config.report_to) or "none",
            run_name=config.out.name,
            remove_unused_columns=False,  # a batch is a list of examples
            dataloader_pin_memory=False,
            disable_tqdm=True,
            log_level="error",
        )
    except (ValueError, ImportError) as error:
        raise UsageError(f"transformers refuses the configuration: {str(error).splitlines()[0]}") from error
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # noqa: SLF001 - else the Trainer spreads one process over all devices (DataParallel)
    return arguments


def check_trackers(config: TrainConfig) -> None:
    """Refuse trackers that are unknown or not installed with a UsageError, before hours are spent."""
    for name in config.report_to:
        try:
            get_reporting_integration_callbacks([name])[0]()
        except (ValueError, RuntimeError, ImportError) as error:
            raise UsageError(f"--report-to {name}: {str(error).splitlines()[0]}") from None


class LogProgress(TrainerCallback):  # type: ignore[misc]  # transformers' types are skipped
    """Logs every validation, and every few seconds how far a run is; each step with -v.

    Args:
        remaining: Tokens of the steps to come.
        device: What is computed on, for the memory.
    """

    def __init__(self, remaining: int, device: str) -> None:
        self._remaining, self._device = remaining, device
        self._tokens = 0
        self._begin = self._logged = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        """Log a step, if it is time to, or a validation."""
        if not state.is_world_process_zero:
            return
        if "eval_success" in logs:
            log.info("behaviour step=%d success=%.1f%%", state.global_step, 100 * logs["eval_success"])
        if "eval_loss" in logs:
            rates = ("command_accuracy", "terminal_accuracy", "too_early", "too_late")
            found = " ".join(f"{rate}={100 * logs[f'eval_{rate}']:.1f}%" for rate in rates if f"eval_{rate}" in logs)
            log.info("validation step=%d loss=%.4f %s", state.global_step, logs["eval_loss"], found)
        if "loss" not in logs:
            return
        self._remaining -= logs["tokens"]
        self._tokens += logs["tokens"]
        now = time.monotonic()
        due = state.global_step == state.max_steps or now - self._logged >= LOG_EVERY
        speed = self._tokens / max(now - self._begin, 1e-9)
        log.log(
            logging.INFO if due else logging.DEBUG,
            "step %d/%d  loss %.4f  accuracy %.1f %%  %.0f tokens/s  %s left  peak %.2f GiB",
            state.global_step, state.max_steps, logs["loss"], 100 * logs["accuracy"], speed,
            timedelta(seconds=int(self._remaining / speed)), held(self._device) / 2**30,
        )  # fmt: skip
        self._logged = now if due else self._logged


class EvaluateAfter(TrainerCallback):  # type: ignore[misc]  # transformers' types are skipped
    """Evaluates after `steps`, counted from 1 (the ends of epochs, the last one), beside the Trainer's `eval_steps`."""

    def __init__(self, steps: Collection[int]) -> None:
        self._steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Ask for an evaluation."""
        control.should_evaluate |= state.global_step in self._steps


@dataclass(frozen=True)
class Judge:
    """Best checkpoint by behaviour: plays the adapter in training in worlds; the best success rate is kept.

    Args:
        every: Steps between evaluations; the last step is evaluated too.
        success: Plays and returns the success rate in [0, 1]; called while the base is free.
        identity: JSON values that must be the same for a run to be resumed.
    """

    every: int
    success: Callable[[], float]
    identity: Mapping[str, Any]


class StopAtDivergence(TrainerCallback):  # type: ignore[misc]  # transformers' types are skipped
    """Ends a run whose loss has been above `loss_limit` for some steps, and writes no checkpoint meanwhile.

    Args:
        steps: How many steps in a row; 0 for never.
        learning_rate: For the message.
    """

    def __init__(self, steps: int, learning_rate: float) -> None:
        self._steps, self._learning_rate = steps, learning_rate

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Look at the losses so far."""
        losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
        if not self._steps or not losses or losses[-1] <= loss_limit(losses):
            return
        control.should_save = False
        if is_diverging(losses, self._steps):
            raise RunFailed(
                f"the loss was over {loss_limit(losses):.2f} for {self._steps} steps, {losses[-1]:.2f} in step "
                f"{state.global_step}: the run diverged. Lower --learning-rate (here {self._learning_rate}), or give "
                "--divergence-steps 0 to go on regardless; a checkpoint of before it is kept."
            )


def loss_limit(losses: Sequence[float]) -> float:
    """The loss in nats a token above which a run is on its way out.

    Twice the first step's and a nat more: the first is the base's own loss, or that of an adapter that goes on
    training, which may be near 0. A loss below three nats a token is never out of hand.
    """
    return 2 * max(losses[0], 1.0) + 1


def is_diverging(losses: Sequence[float], steps: int) -> bool:
    """Whether each of the last `steps` losses is above `loss_limit`; False where there are fewer, or for 0 steps."""
    return len(losses) >= steps > 0 and min(losses[-steps:]) > loss_limit(losses)


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
        main = threading.current_thread() is threading.main_thread()  # only it may set handlers
        numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
        before = {number: signal.signal(number, self._handle) for number in numbers}
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
    """The most bytes that the run held so far, of the accelerator or of this process."""
    return int(torch.cuda.max_memory_allocated(device)) if device.startswith("cuda") else peak_memory()
