"""The training loop: steps over packed rows, the token mean, the schedule, validation, checkpoints."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from tiararodney.sekft.errors import RunFailed
from tiararodney.sekft.sft.forward import is_written_out, row_loss
from tiararodney.sekft.sft.gradients import Workers, gradients, workers
from tiararodney.sekft.sft.pack import Row, pack_row, plan_steps, split_step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tiararodney.sekft.render import Example
    from tiararodney.sekft.sft.config import TrainConfig

log = logging.getLogger(__name__)

TELL_EVERY = 10.0  # seconds between progress lines
ROW_TOKENS = {"cpu": 2048, "cuda": 8192}  # tokens_per_row 0: what a row costs in memory against what it saves in time


@dataclass(frozen=True)
class Task:
    """What a run works on; nothing in it changes but the weights.

    Attributes:
        model: The causal language model with the LoRA layers active.
        adapter: Name of the adapter that is trained.
        parameters: The trained weights by name.
        optimizer: Over `parameters`.
        config: The run's configuration.
        examples: Examples to train on.
        validation: Examples to validate on.
        steps: For every step of the run the indices of its examples.
        epoch_ends: The numbers of steps after which an epoch is over.
    """

    model: Any
    adapter: str
    parameters: dict[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    config: TrainConfig
    examples: Sequence[Example]
    validation: Sequence[Example]
    steps: Sequence[Sequence[int]]
    epoch_ends: frozenset[int]


@dataclass
class Progress:
    """Where a run is. All of it, with the weights, is what a checkpoint holds.

    Attributes:
        step: Steps that are done.
        tokens: Tokens that went through the model, each session's counted whole.
        trained: Tokens that were trained.
        seconds: Time spent in steps.
        row_tokens: Tokens that a row takes at present; halved when memory runs out.
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
    curve: list[dict[str, Any]] = field(default_factory=list)
    best: float = math.inf
    best_step: int = 0
    since_best: int = 0
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return all but the weights as JSON values."""
        values = {key: value for key, value in vars(self).items() if key != "best_weights"}
        return values | {"best": None if math.isinf(self.best) else self.best}


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


def run_steps(
    task: Task, progress: Progress, save: Callable[[Progress], None], should_stop: Callable[[], bool]
) -> None:
    """Train to the end of the plan, or to where validation says that it gets no better.

    Args:
        task: What to work on.
        progress: Where to go on; brought forward.
        save: Writes a checkpoint.
        should_stop: Asked between rows; True ends the run after a checkpoint of the last whole step.

    Raises:
        KeyboardInterrupt: `should_stop` said so.
        RunFailed: The loss is not finite, or one example alone does not fit into memory.
    """
    with workers(task.model) as by:
        _run_steps(task, progress, save, should_stop, by)


def _run_steps(
    task: Task, progress: Progress, save: Callable[[Progress], None], should_stop: Callable[[], bool], by: Workers
) -> None:
    config, total = task.config, len(task.steps)
    share = is_written_out(task.model)
    progress.row_tokens = progress.row_tokens or config.tokens_per_row or ROW_TOKENS.get(task.model.device.type, 8192)
    lengths = [len(example.input_ids) for example in task.examples]
    remaining = sum(lengths[index] for step in task.steps[progress.step :] for index in step)
    begun, told = (progress.tokens, progress.trained, progress.seconds), time.monotonic()
    while progress.step < total:
        started = time.perf_counter()
        indices = task.steps[progress.step]
        try:
            entry = _step(task, progress, indices, lengths, by, share=share, should_stop=should_stop)
        except KeyboardInterrupt:
            save(progress)
            raise
        progress.step += 1
        progress.tokens += entry["tokens"]
        progress.trained += entry["trained_tokens"]
        progress.seconds += time.perf_counter() - started
        progress.curve.append(entry | {"seconds": round(progress.seconds, 3)})
        remaining -= entry["tokens"]
        line = _progress_line(progress, total, begun, remaining)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s", line)
        elif time.monotonic() - told >= TELL_EVERY or progress.step == total:
            log.info("%s", line)
            told = time.monotonic()
        if _is_due(task, progress.step) and _validate(task, progress, share=share):
            break
        if config.checkpoint_every and progress.step % config.checkpoint_every == 0 and progress.step < total:
            save(progress)


def _step(
    task: Task,
    progress: Progress,
    indices: Sequence[int],
    lengths: Sequence[int],
    by: Workers,
    *,
    share: bool,
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    """One optimizer step: the gradient of the mean over all trained tokens of all its rows."""
    config = task.config
    while True:
        rows = _rows(task.examples, indices, lengths, progress.row_tokens, by.at_once, share=share)
        try:
            sums = gradients(
                task.model,
                task.adapter,
                task.parameters,
                rows,
                should_stop,
                by,
                checkpointing=config.gradient_checkpointing,
            )
            break
        except torch.OutOfMemoryError as error:
            if len(rows) == len(indices):
                raise RunFailed(
                    f"out of memory with one example in a row ({max(row.tokens for row in rows)} tokens): {error}. "
                    "Lower --max-length, or give --gradient-checkpointing."
                ) from error
            progress.row_tokens //= 2
            log.warning("out of memory: rows now hold at most %d tokens", progress.row_tokens)
    trained = sum(len(row.targets) for row in rows)
    loss = sums.loss / trained
    if not math.isfinite(loss):
        raise RunFailed(
            f"the loss is {loss} in step {progress.step + 1}: the run diverged. "
            f"Lower --learning-rate (here {config.learning_rate}); a checkpoint of before is kept where there was one."
        )
    parameters = list(task.parameters.values())
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm))
    rate = learning_rate(config, progress.step, len(task.steps))
    for group in task.optimizer.param_groups:
        group["lr"] = rate
    task.optimizer.step()
    return {
        "step": progress.step + 1,
        "loss": loss,
        "accuracy": sums.hits / trained,
        "learning_rate": rate,
        "grad_norm": norm,
        "tokens": sum(row.tokens for row in rows),
        "trained_tokens": trained,
    }


def _rows(
    examples: Sequence[Example],
    indices: Sequence[int],
    lengths: Sequence[int],
    budget: int,
    at_once: int,
    *,
    share: bool,
) -> list[Row]:
    return [
        pack_row([examples[index] for index in members], share_prefix=share)
        for members in split_step(indices, lengths, budget, at_once)
    ]


def _is_due(task: Task, step: int) -> bool:
    if not task.validation:
        return False
    if step == len(task.steps):
        return True
    every = task.config.validate_every
    return step % every == 0 if every else step in task.epoch_ends


def _validate(task: Task, progress: Progress, *, share: bool) -> bool:
    """Validate and remember the best weights; True where it has not got better for long enough."""
    lengths = [len(example.input_ids) for example in task.validation]
    total, hits, trained = 0.0, 0, 0
    with torch.no_grad():
        for row in _rows(task.validation, range(len(lengths)), lengths, progress.row_tokens, 1, share=share):
            loss = row_loss(task.model, row, task.adapter)
            total += float(loss.total)
            hits += loss.hits
            trained += len(row.targets)
    value = total / trained
    progress.curve.append({"step": progress.step, "validation_loss": value, "validation_accuracy": hits / trained})
    log.info("step %d: validation loss %.4f, accuracy %.1f %%", progress.step, value, 100 * hits / trained)
    if value < progress.best:
        progress.best, progress.best_step, progress.since_best = value, progress.step, 0
        progress.best_weights = {name: tensor.detach().clone() for name, tensor in task.parameters.items()}
        return False
    progress.since_best += 1
    stop = bool(task.config.patience) and progress.since_best >= task.config.patience
    if stop:
        log.info("no better validation loss in %d validations: stopped", progress.since_best)
    return stop


def _progress_line(progress: Progress, steps: int, begun: tuple[int, int, float], remaining: int) -> str:
    """How far, how good, how fast, how long; speed over what this process did, padding there is none."""
    entry = progress.curve[-1]
    seconds = max(progress.seconds - begun[2], 1e-9)
    speed = (progress.tokens - begun[0]) / seconds
    left = int(remaining / speed) if speed else 0
    return (
        f"step {progress.step}/{steps}  loss {entry['loss']:.4f}  accuracy {100 * entry['accuracy']:.1f} %  "
        f"{speed:.0f} tokens/s ({(progress.trained - begun[1]) / seconds:.0f} trained)  "
        f"{left // 60}:{left % 60:02d} left"
    )
