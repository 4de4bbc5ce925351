"""transformers' Trainer over packed rows.

A batch of its data loader is a whole optimizer step: the examples that `pack.plan_steps` dealt into it. `training_step`
packs them into rows, takes this process's share and accumulates their gradients, each divided by what the trained
tokens of the whole step weigh. So a step is the weighted token mean whatever the rows and however many processes, and
when memory runs out the same step begins again with smaller rows. Optimizer, schedule, clipping, logging, trackers,
distribution and resuming are the Trainer's.
"""

from __future__ import annotations

import logging
import math
import operator
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer
from transformers.trainer_callback import ExportableState

from tiararodney.sekft.errors import RunFailed
from tiararodney.sekft.model.memory import is_out_of_memory, release_memory
from tiararodney.sekft.sft.checkpoint import read_progress, write_checkpoint
from tiararodney.sekft.sft.sizing import Size
from tiararodney.sekft.sft.step.forward import Route, row_loss
from tiararodney.sekft.sft.step.pack import Row, idle_row, pack_row, split_step, total_weight
from tiararodney.sekft.sft.validate import added, ending_tokens, metrics, row_sums

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from transformers import TrainerCallback, TrainerControl, TrainingArguments

    from tiararodney.sekft.render import Example
    from tiararodney.sekft.sft.callbacks import Judge, Stop
    from tiararodney.sekft.sft.step.loss import Loss

log = logging.getLogger(__name__)

WEIGHTS, BEST = "weights.safetensors", "best:"  # the file, and what the names in it of the best weights begin with


class PackedModel(torch.nn.Module):  # type: ignore[misc]  # torch's types are skipped
    """A causal language model that takes a packed row and returns its loss: what the Trainer wraps and trains.

    Args:
        model: The causal language model with LoRA layers injected and active.
        adapter: Name of the adapter that is trained.
        route: How rows go through the model.
    """

    def __init__(self, model: Any, adapter: str, route: Route) -> None:
        super().__init__()
        self.model, self.adapter, self.route = model, adapter, route
        self._no_split_modules = getattr(model, "_no_split_modules", None)  # what FSDP wraps
        self._dropouts = [one for m in model.modules() for one in getattr(m, "lora_dropout", {}).values()]

    def forward(self, row: Row, *, recompute: bool = False, probe_ids: Sequence[int] | None = None) -> Loss:
        """See `row_loss`."""
        return row_loss(self.model, row, self.adapter, route=self.route, recompute=recompute, probe_ids=probe_ids)

    def train(self, mode: bool = True) -> PackedModel:
        """Switch LoRA's dropout. The base computes as when serving: its own dropout stays off."""
        self.training = mode
        for dropout in self._dropouts:
            dropout.train(mode)
        return self


class PackedTrainer(Trainer):  # type: ignore[misc]  # transformers' types are skipped
    """Trains a `PackedModel`.

    Args:
        model: What is trained.
        args: Made by `callbacks.training_arguments`.
        training: Examples to train on, `validation` those to validate on, if any.
        steps: The indices of each optimizer step's examples.
        size: How large rows are, and which are recomputed.
        recompute: "auto", "always" or "never": whether layers may be recomputed when memory runs out.
        identity: What must be the same for a checkpoint to be resumed.
        should_stop: Asked before each row; True raises KeyboardInterrupt. One process alone is interrupted by a signal
            in the middle of a row too.
        turn: Holds the base for one step or validation; see `lora.training_turn`.
        judge: Plays the adapter in worlds; its success rate, not the loss, says which weights are best.
    """

    def __init__(  # noqa: PLR0913 - what a run needs, by name
        self,
        model: PackedModel,
        args: TrainingArguments,
        *,
        training: Sequence[Example],
        validation: Sequence[Example],
        steps: Sequence[Sequence[int]],
        size: Size,
        recompute: str,
        identity: Mapping[str, Any],
        should_stop: Stop,
        callbacks: Sequence[TrainerCallback],
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
        judge: Judge | None = None,
    ) -> None:
        super().__init__(
            model=model, args=args, train_dataset=training, eval_dataset=list(validation) or None,
            data_collator=list, callbacks=list(callbacks),
        )  # fmt: skip
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = True
        self.packed, self.steps, self.size, self.recompute = model, steps, size, recompute
        self.identity, self.should_stop, self.turn, self.judge = identity, should_stop, turn, judge
        self.control: TrainerControl
        self.best_weights: dict[str, torch.Tensor] = {}
        self.saved_step = 0
        self._probe_ids = ending_tokens([*training, *validation])
        self._entry: dict[str, float] = {}
        self._row = pack_row([])  # that goes through the model at present
        self._began = time.perf_counter()

    def _move_model_to_device(self, model: Any, device: Any) -> None:
        """The base lies where it was loaded."""

    # ---- a step

    def get_train_dataloader(self) -> Any:
        """One batch a step; every process reads all of it and takes its share of the rows."""
        return DataLoader(self.train_dataset, batch_sampler=list(self.steps), collate_fn=self.data_collator)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Make the optimizer while the trained weights are marked as such."""
        with self.turn():
            return super().create_optimizer(*args, **kwargs)

    def _get_num_items_in_batch(self, batch_samples: Any, device: Any) -> Any:  # noqa: ARG002 - the Trainer's signature
        return total_weight([example for batch in batch_samples for example in batch])

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Accumulate the gradient of one step's examples, whose trained tokens weigh `num_items_in_batch` together.

        Returns:
            This process's share of the loss, times the number of processes: their mean is the step's loss.

        Raises:
            KeyboardInterrupt: `should_stop` said so, on any process.
            RunFailed: One example alone does not fit into memory, or the loss is not finite.
        """
        self._check_stop()
        self._began, weight = time.perf_counter(), float(num_items_in_batch)
        with self.turn():
            model.train()
            try:
                while (sums := self._accumulate(model, inputs, weight)) is None:
                    # The traceback, and with it what the failed row held, is gone.
                    model.zero_grad()
                    release_memory()
                    self._shrink(self._row)
            finally:
                model.eval()  # as others generate with it
        total = self._sum(sums)
        found = metrics(total)
        if not math.isfinite(found["loss"]):
            raise self._diverged(f"the loss is {found['loss']} in step {self.state.global_step + 1}")
        self._entry = {name: value for name, value in found.items() if name.endswith("accuracy")} | {
            "tokens": sum(len(example.input_ids) for example in inputs),
            "trained_tokens": round(total[3] + total[5]),
        }
        return torch.tensor(found["loss"], device=self.args.device)

    def _accumulate(self, model: Any, examples: Sequence[Example], weight: float) -> list[float] | None:
        """Add up the gradients of this process's rows, and their sums; None where memory ran out."""
        # A step draws the same numbers whenever it is computed: again after memory ran out, or in a resumed run.
        torch.manual_seed((self.args.seed * 1_000_003 + self.state.global_step) * 1_009 + self.args.process_index)
        rows, sums = self._rows(examples), []
        try:
            with self._discarding():
                for number, row in enumerate(rows):
                    if self.args.world_size == 1 and number:
                        self._check_stop()
                    self._row, last = row, number == len(rows) - 1
                    self.accelerator.gradient_state._set_sync_gradients(last)  # noqa: SLF001 - as the Trainer does
                    with nullcontext() if last else self.accelerator.no_sync(model):
                        loss = model(row, recompute=self.size.recomputes(row.tokens))
                        # Processes' gradients are averaged, so each is multiplied by their number.
                        self.accelerator.backward(loss.total * (self.args.world_size / weight))
                    sums.append(row_sums(row, loss))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None
        return added(sums)

    def _rows(self, examples: Sequence[Example]) -> list[Row]:
        """This process's rows; all have as many, the last ones of some train nothing and keep step."""
        lengths = [len(example.input_ids) for example in examples]
        world = self.args.world_size
        members = split_step(range(len(lengths)), lengths, self.size.row_tokens, world)
        rows = [pack_row([examples[index] for index in row]) for row in members]
        own = rows[self.args.process_index :: world]
        return own + [idle_row(rows[-1])] * (math.ceil(len(rows) / world) - len(own))

    def _shrink(self, row: Row) -> None:
        """Make micro-batches smaller, after memory ran out in one."""
        if self.args.world_size > 1:
            raise RunFailed(
                f"out of memory in a micro-batch of {row.tokens} tokens. Several processes cannot try again with "
                "smaller ones by themselves: give a smaller --tokens-per-row, and --resume."
            )
        if len(row.lengths) > 1:
            self.size = replace(self.size, row_tokens=max(min(self.size.row_tokens, row.tokens) // 2, 1))
            log.warning("out of memory: micro-batches hold at most %d tokens from now on", self.size.row_tokens)
        elif self.recompute == "auto" and not self.size.recomputes(row.tokens):
            self.size = replace(self.size, plain_tokens=row.tokens - 1)
            log.warning("out of memory: micro-batches of %d tokens and more are recomputed from now on", row.tokens)
        else:
            never = self.recompute == "never"
            raise RunFailed(
                f"out of memory with one session of {row.tokens} tokens in a micro-batch. "
                + ("Let --gradient-checkpointing be auto." if never else "Lower --max-length, or give --load-4bit.")
            )

    def _check_stop(self) -> None:
        if any(self._sum([float(self.should_stop())])):
            raise KeyboardInterrupt

    def _discarding(self) -> AbstractContextManager[None]:
        """Let a signal interrupt at once; not where other processes would wait for this one."""
        return self.should_stop.discarding() if self.args.world_size == 1 else nullcontext()

    def _sum(self, values: Sequence[float]) -> list[float]:
        """Add numbers up over all processes."""
        if self.args.world_size == 1:
            return list(values)
        own = torch.tensor(values, dtype=torch.float64, device=self.args.device)
        return list(self.accelerator.reduce(own, "sum").tolist())

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)
        if not math.isfinite(float(norm)):
            raise self._diverged(f"the gradient's norm is {float(norm)} in step {self.state.global_step + 1}")
        return norm

    def _diverged(self, what: str) -> RunFailed:
        return RunFailed(f"{what}: the run diverged. Lower --learning-rate (here {self.args.learning_rate}).")

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what a step measured to what the Trainer logs of it."""
        if "loss" in logs:
            logs |= self._entry | {"seconds": round(time.perf_counter() - self._began, 3)}
        if "train_loss" not in logs:  # the Trainer's summary of the run: `training.json` has it
            super().log(logs, start_time)

    # ---- validation

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Validate on the sessions that were held back, if any, and in worlds, if the judge is due.

        Returns:
            See `validate.metrics`, and ``success``; the names begin with ``eval_``.
        """
        found: dict[str, float] = {}
        if self.eval_dataset:
            with self.turn(), self._discarding(), torch.no_grad():
                rows, endings = self._rows(self.eval_dataset), self._probe_ids or None
                sums = added([row_sums(row, self.model(row, probe_ids=endings)) for row in rows])
            found = {f"eval_{name}": value for name, value in metrics(self._sum(sums)).items()}
        step = self.state.global_step
        if self.judge is not None and (step % self.judge.every == 0 or step == self.state.max_steps):
            found["eval_success"] = self.judge.success()
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:  # noqa: ARG002 - the Trainer's
        """Keep the weights of the best success rate, of equals the later ones, or else of the least loss."""
        found, best = metrics.get(f"eval_{self.args.metric_for_best_model}", math.nan), self.state.best_metric
        better = operator.ge if self.args.greater_is_better else operator.lt
        if math.isnan(found) or not (best is None or better(found, best)):
            return False
        self.state.best_metric, self.state.best_global_step = found, self.state.global_step
        self.best_weights = {name: weight.detach().clone() for name, weight in self.weights().items()}
        return True

    # ---- checkpoints

    def weights(self) -> dict[str, torch.nn.Parameter]:
        """The trained weights by their names in the causal language model."""
        named = self.accelerator.unwrap_model(self.model).named_parameters()
        return {name.removeprefix("model."): weight for name, weight in named if f".{self.packed.adapter}." in name}

    def save_state(self) -> None:
        """Write a checkpoint of the last whole step, unless there is one."""
        if self.state.global_step != self.saved_step:
            self._save_checkpoint(self.model_wrapped, None)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:  # noqa: ARG002 - the Trainer's signature
        best = {BEST + name: weight for name, weight in self.best_weights.items()}
        weights = {name: whole(weight) for name, weight in (self.weights() | best).items()}
        if not self.args.should_save:
            return

        def fill(folder: Path) -> None:
            save_file(weights, folder / WEIGHTS)
            self._save_optimizer_and_scheduler(str(folder))
            self.state.stateful_callbacks |= {
                type(callback).__name__: callback.state()
                for callback in [*self.callback_handler.callbacks, self.control]
                if isinstance(callback, ExportableState)
            }
            self.state.save_to_json(str(folder / "trainer_state.json"))

        progress = {"identity": self.identity, "size": asdict(self.size)}
        folder = write_checkpoint(self.args.output_dir, self.state.global_step, fill, progress)
        self.saved_step = self.state.global_step
        log.info("checkpoint step=%d in %s", self.saved_step, folder)

    def restore(self, folder: Path) -> None:
        """Set what the Trainer does not restore by itself as an intact checkpoint has it: weights and sizes."""
        self.size = Size(**read_progress(folder)["size"])
        tensors = load_file(folder / WEIGHTS)  # a device would be "cpu:0" in several processes, which is refused there
        self.set_weights(tensors)
        self.best_weights = {name.removeprefix(BEST): t for name, t in tensors.items() if name.startswith(BEST)}

    def release(self) -> None:
        """Let go of the model."""
        self.model_wrapped = self.packed
        self.accelerator.free_memory()

    def _load_from_checkpoint(self, resume_from_checkpoint: Any, model: Any = None) -> None:
        """`restore` has done it."""

    def set_weights(self, values: Mapping[str, torch.Tensor]) -> None:
        """Set the trained weights by the names that `weights` gives them."""
        with torch.no_grad():
            for name, weight in self.weights().items():
                weight.copy_(values[name])


def whole(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight in one piece on the CPU; all processes must call it for one that FSDP has sharded."""
    full = getattr(weight, "full_tensor", None)
    tensor: torch.Tensor = weight if full is None else full()
    return tensor.detach().cpu().contiguous()
