"""The training loop: steps over packed rows, the token mean, validation, checkpoints."""

from __future__ import annotations

import logging
import math
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from tiararodney.sekft.errors import RunFailed
from tiararodney.sekft.model.memory import is_out_of_memory
from tiararodney.sekft.render import IGNORED
from tiararodney.sekft.sft.progress import WINDOW, Progress, Teller, is_diverging, loss_limit
from tiararodney.sekft.sft.schedule import learning_rate
from tiararodney.sekft.sft.sizing import fitting
from tiararodney.sekft.sft.step.compiled import compiled
from tiararodney.sekft.sft.step.forward import is_written_out, row_loss
from tiararodney.sekft.sft.step.gradients import Sums, Workers, gradients, workers
from tiararodney.sekft.sft.step.pack import Row, pack_row, split_step, terminal_start
from tiararodney.sekft.sft.step.recompute import keep_all, recompute
from tiararodney.sekft.sft.validate import ending_tokens, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tiararodney.sekft.render import Example
    from tiararodney.sekft.sft.config import TrainConfig
    from tiararodney.sekft.sft.ranks import Ranks

log = logging.getLogger(__name__)

# Whether a run's NF4 weights stay dequantised; None: where there is room. On the CPU all of SmolLM2-135M's are
# dequantised in 25 ms, a row takes seconds.
KEEP_DEQUANTISED = {"cpu": False, "cuda": None}
WHOLE, STOPPED, CROWDED = range(3)  # how a process's rows of a step ended, the worst last


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
        ranks: The processes that share the work.
        told: Called with every record of the curve as it is made.
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
    ranks: Ranks
    told: Callable[[dict[str, Any]], None]

    @property
    def device(self) -> str:
        """What the model lies on."""
        return str(self.model.device)


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
        KeyboardInterrupt: `should_stop` said so, in this process or in another.
        RunFailed: The loss is not finite or rises out of hand, or one example alone does not fit into memory.
    """
    with workers(task.model) as by, compiled(task.model) if task.config.compile else nullcontext():
        _size(task, progress, by)
        try:
            _run_steps(task, progress, save, should_stop, by)
        finally:
            if progress.checkpointing:
                keep_all(task.model)


def _size(task: Task, progress: Progress, by: Workers) -> None:
    """Settle how a run goes through its examples; a resumed one goes on as it went."""
    config = task.config
    wanted = {"always": True, "never": False}.get(config.gradient_checkpointing)
    if progress.row_tokens:
        progress.checkpointing = progress.checkpointing if wanted is None else wanted
    else:
        longest = max((len(example.input_ids) for example in [*task.examples, *task.validation]), default=0)
        size = fitting(
            task.model, task.adapter, longest=longest, at_once=by.at_once, asked=config.tokens_per_row,
            checkpointing=wanted,
        )  # fmt: skip
        # the process with the least memory decides for all
        progress.row_tokens = -task.ranks.worst(-size.row_tokens, task.device)
        progress.checkpointing = bool(task.ranks.worst(size.checkpointing, task.device))
    if progress.checkpointing:
        recompute(task.model)


def _run_steps(
    task: Task, progress: Progress, save: Callable[[Progress], None], should_stop: Callable[[], bool], by: Workers
) -> None:
    config, total = task.config, len(task.steps)
    lengths = [len(example.input_ids) for example in task.examples]
    remaining = sum(lengths[index] for step in task.steps[progress.step :] for index in step)
    teller = Teller(progress, total, remaining, task.device)
    while progress.step < total:
        started = time.perf_counter()
        try:
            entry = _step(task, progress, lengths, by, should_stop)
        except KeyboardInterrupt:
            save(progress)
            raise
        progress.step += 1
        progress.tokens += entry["tokens"]
        progress.trained += entry["trained_tokens"]
        progress.seconds += time.perf_counter() - started
        _note(task, progress, entry | {"seconds": round(progress.seconds, 3)})
        teller.tell(progress)
        if is_diverging(progress.curve):
            raise _diverged(
                task, progress, f"the loss was over {loss_limit(progress.curve):.2f} for {WINDOW} steps, "
                f"{entry['loss']:.2f} in step {progress.step}",
            )  # fmt: skip
        if _is_due(task, progress.step) and _validate(task, progress):
            break
        due = config.checkpoint_every and progress.step % config.checkpoint_every == 0 and progress.step < total
        if due and not is_diverging(progress.curve, steps=1):
            save(progress)


def _step(
    task: Task, progress: Progress, lengths: Sequence[int], by: Workers, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """One optimizer step: the gradient of the mean over all trained tokens of all its rows, on whatever process."""
    config, ranks = task.config, task.ranks
    indices = task.steps[progress.step]
    trained, terminals = _trained([task.examples[index] for index in indices])
    per = trained + (config.terminal_weight - 1) * terminals
    while True:
        if config.lora_dropout:
            # A step's own numbers, so that a resumed run draws what the unbroken one drew.
            torch.manual_seed((config.seed * 1_000_003 + progress.step) * 1_009 + ranks.rank)
        members = split_step(indices, lengths, progress.row_tokens, by.at_once * ranks.count)
        by.expect(progress.row_tokens)
        rows = _pack(task, task.examples, members)
        idle = _idle(task, members)
        ended, sums = _rows_done(task, progress, rows, idle, by, should_stop, per)
        if ended == WHOLE:
            break
        if ended == STOPPED:
            raise KeyboardInterrupt
        if task.device.startswith("cuda"):
            torch.cuda.empty_cache()
        if len(members) < len(indices):
            progress.row_tokens //= 2
            log.warning("out of memory: rows now hold at most %d tokens", progress.row_tokens)
        elif config.gradient_checkpointing == "auto" and not progress.checkpointing:
            progress.checkpointing = True
            recompute(task.model)
            log.warning("out of memory with one example in a row: layers are computed twice from now on")
        else:
            never = config.gradient_checkpointing == "never"
            raise RunFailed(
                f"out of memory with one example in a row ({max(lengths[index] for index in indices)} tokens). "
                + ("Let --gradient-checkpointing be auto." if never else "Lower --max-length, or give --load-4bit.")
            )
    parameters = list(task.parameters.values())
    loss, norm = sums.loss / per, float(torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm))
    if not math.isfinite(loss + norm):
        raise _diverged(
            task, progress, f"the loss is {loss} and the gradient's norm {norm} in step {progress.step + 1}"
        )
    rate = learning_rate(config, progress.step, len(task.steps))
    for group in task.optimizer.param_groups:
        group["lr"] = rate
    task.optimizer.step()
    commands = trained - terminals
    return {
        "step": progress.step + 1,
        "loss": loss,
        "accuracy": sums.hits / trained,
        "command_accuracy": (sums.hits - sums.terminal_hits) / commands if commands else None,
        "terminal_accuracy": sums.terminal_hits / terminals if terminals else None,
        "learning_rate": rate,
        "grad_norm": norm,
        "tokens": sum(lengths[index] for index in indices),
        "trained_tokens": trained,
    }


def _rows_done(
    task: Task,
    progress: Progress,
    rows: Sequence[Row],
    idle: Sequence[Row],
    by: Workers,
    should_stop: Callable[[], bool],
    per: float,
) -> tuple[int, Sums]:
    """Compute this process's rows; gradients and sums are those of all processes, and so is how it ended."""
    ended, sums = WHOLE, Sums()
    if task.ranks.sharded:
        # Every row gathers weights from all processes: none may leave a step that others are in.
        if task.ranks.worst(STOPPED if should_stop() else WHOLE, task.device) == STOPPED:
            return STOPPED, sums
        should_stop = _never
    try:
        sums = _gradients(task, rows, idle, by, should_stop, per, checkpointing=progress.checkpointing)
    except KeyboardInterrupt:
        if task.ranks.count == 1:
            raise
        ended = STOPPED
    except RuntimeError as error:
        if not is_out_of_memory(error) or task.ranks.sharded:
            raise
        ended = CROWDED
    ended = task.ranks.worst(ended, task.device)
    if ended == WHOLE and task.ranks.count > 1:
        for parameter in task.parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        task.ranks.add([parameter.grad for parameter in task.parameters.values()])
        loss, hits, terminal_hits, terminals = task.ranks.sums(
            [sums.loss, sums.hits, sums.terminal_hits, sums.terminals], task.device
        )
        sums = Sums(loss, round(hits), round(terminal_hits), round(terminals))
    return ended, sums


def _gradients(
    task: Task,
    rows: Sequence[Row],
    idle: Sequence[Row],
    by: Workers,
    should_stop: Callable[[], bool],
    per: float,
    *,
    checkpointing: bool,
) -> Sums:
    """The gradient of this process's rows, and with `idle` the motions of one."""
    if not rows and should_stop():
        raise KeyboardInterrupt
    sums = gradients(
        task.model, task.adapter, task.parameters, rows, should_stop, by, checkpointing=checkpointing, per=per
    )
    for row in idle:
        loss = row_loss(task.model, row, task.adapter, checkpointing=checkpointing)
        torch.autograd.grad(loss.total * 0, list(task.parameters.values()), allow_unused=True)
    return sums


def _pack(task: Task, examples: Sequence[Example], members: Sequence[Sequence[int]]) -> list[Row]:
    """This process's share of some rows."""
    share = is_written_out(task.model)
    weight = task.config.terminal_weight
    return [
        pack_row([examples[index] for index in row], share_prefix=share, terminal_weight=weight)
        for row in members[task.ranks.rank :: task.ranks.count]
    ]


def _idle(task: Task, members: Sequence[Sequence[int]], examples: Sequence[Example] | None = None) -> list[Row]:
    """A row to go through the motions with, where the base is divided and other processes have one row more."""
    left = len(members) % task.ranks.count
    if not task.ranks.sharded or not left or task.ranks.rank < left:
        return []
    chosen = task.examples if examples is None else examples
    return [pack_row([chosen[index] for index in members[-1]], share_prefix=False)]


def _never() -> bool:
    return False


def _trained(examples: Sequence[Example]) -> tuple[int, int]:
    """How many tokens some examples train, and how many of those belong to terminals."""
    trained = sum(label != IGNORED for example in examples for label in example.labels)
    terminals = sum(label != IGNORED for example in examples for label in example.labels[terminal_start(example) :])
    return trained, terminals


def _note(task: Task, progress: Progress, entry: dict[str, Any]) -> None:
    progress.curve.append(entry)
    task.told(entry)


def _diverged(task: Task, progress: Progress, what: str) -> RunFailed:
    every = task.config.checkpoint_every
    kept = "the last checkpoint before it is kept" if every and progress.step > every else "there is no checkpoint yet"
    return RunFailed(f"{what}: the run diverged. Lower --learning-rate (here {task.config.learning_rate}); {kept}.")


def _is_due(task: Task, step: int) -> bool:
    if not task.validation:
        return False
    if step == len(task.steps):
        return True
    every = task.config.validate_every
    return step % every == 0 if every else step in task.epoch_ends


def _validate(task: Task, progress: Progress) -> bool:
    """Validate and remember the best weights; True where it has not got better for long enough."""
    lengths = [len(example.input_ids) for example in task.validation]
    members = split_step(range(len(lengths)), lengths, progress.row_tokens, task.ranks.count)
    endings = ending_tokens([*task.examples, *task.validation])
    rows, idle = _pack(task, task.validation, members), _idle(task, members, task.validation)
    found = validate(task.model, task.adapter, rows, endings, task.ranks, idle)
    told = {f"validation_{name}": value for name, value in asdict(found).items()}
    _note(task, progress, {"step": progress.step} | told)
    log.info(
        "step %d: validation loss %.4f, accuracy %s on commands, %s on terminals; would end too early %s, too late %s",
        progress.step, found.loss, *map(_percent, (
            found.command_accuracy, found.terminal_accuracy, found.too_early, found.too_late,
        )),
    )  # fmt: skip
    if found.loss < progress.best:
        progress.best, progress.best_step, progress.since_best = found.loss, progress.step, 0
        progress.best_weights = {name: tensor.detach().clone() for name, tensor in task.parameters.items()}
        return False
    progress.since_best += 1
    stop = bool(task.config.patience) and progress.since_best >= task.config.patience
    if stop:
        log.info("no better validation loss in %d validations: stopped", progress.since_best)
    return stop


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
