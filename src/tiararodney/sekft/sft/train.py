"""Train an adapter: data -> examples -> steps -> weights -> `--out`."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import EarlyStoppingCallback

from tiararodney.sekft import provenance
from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.folders import check_out, drop_unfinished, locked
from tiararodney.sekft.model import Base, load_base
from tiararodney.sekft.model.adapters import WEIGHTS, tensor_names
from tiararodney.sekft.model.base import find_folder
from tiararodney.sekft.model.fourbit import dequantise, require_bitsandbytes
from tiararodney.sekft.model.loading import positions_of
from tiararodney.sekft.model.merge import merge_adapter
from tiararodney.sekft.render import apply_policy, save_contract
from tiararodney.sekft.sft.adapter import licence_of, open_repository, push, write_adapter
from tiararodney.sekft.sft.callbacks import (
    EvaluateAfter,
    LogProgress,
    Stop,
    StopAtDivergence,
    check_trackers,
    held,
    training_arguments,
)
from tiararodney.sekft.sft.checkpoint import check_same_run, checkpoint_folder, newest_checkpoint
from tiararodney.sekft.sft.data import Examples, read_examples
from tiararodney.sekft.sft.lora import NAME, base_name, fresh_adapter, lora_summary, training_turn
from tiararodney.sekft.sft.sizing import choose_size, dequantised_fits
from tiararodney.sekft.sft.step.check import settle_route
from tiararodney.sekft.sft.step.forward import choose_route
from tiararodney.sekft.sft.step.pack import plan_steps
from tiararodney.sekft.sft.trainer import PackedModel, PackedTrainer, whole
from tiararodney.sekft.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tiararodney.sekft.sft.callbacks import Judge
    from tiararodney.sekft.sft.config import TrainConfig

log = logging.getLogger(__name__)

SCHEMA_VERSION = 2  # of training.json


def train(
    config: TrainConfig,
    base: Base | None = None,
    should_stop: Callable[[], bool] | None = None,
    judge: Judge | None = None,
) -> Path:
    """Train an adapter and write it; as one of several processes where `accelerate launch` started them.

    Args:
        config: What to do.
        base: A base that is loaded already; it is bit for bit as before afterwards. None loads the configured one.
        should_stop: Asked between micro-batches; True ends the run after a checkpoint, as Ctrl-C does.
        judge: Plays the adapter in worlds; the weights that do best there are kept, whatever their loss.

    Returns:
        The adapter's folder. The first process writes it.

    Raises:
        UsageError: Base, data or `out` cannot be used.
        RunFailed: The run diverged, or memory or disk did not suffice.
        KeyboardInterrupt: It was told to stop; the checkpoint is named in the log.
    """
    started = provenance.now()
    check_trackers(config)
    with _processes(config, base) as processes, ExitStack() as stack:
        if processes.is_main_process:
            _claim(config, stack)
        else:
            logging.getLogger("tiararodney").setLevel(logging.WARNING)
        if base is None and config.load_4bit:
            require_bitsandbytes()
        folder = find_folder(config.base) if base is None else base.path
        tokenizer = apply_policy(load_tokenizer(folder) if base is None else base.tokenizer, config.control_tokens)
        # What is wrong with the data shows before a base of many gigabytes is read.
        examples = read_examples(config, tokenizer, positions_of(folder))
        _check_same("data", examples.digest)
        base = base or _load(config, processes)
        _check_same("base", base.fingerprint)
        with fresh_adapter(base, config) as parameters, Stop(should_stop).on_signals() as stop:
            trainer = _trainer(config, base, examples, parameters, stop, judge)
            _run(trainer, config)
            # A finished training survives whatever happens to the folder that is written now.
            trainer.save_state()
            if trainer.best_weights:
                trainer.set_weights(trainer.best_weights)
            tensors = {name: whole(tensor) for name, tensor in tensor_names(base, NAME).items()}
            if not processes.is_main_process:
                return config.out
            record = {"started": started, "processes": processes.num_processes}
            record |= _record(config, base, examples, trainer)
            contract = partial(save_contract, tokenizer, policy=config.control_tokens)
            lora = base.adapters.handle.peft_config[NAME]
            write_adapter(config.out, tensors, lora, record, contract, replace=config.overwrite)
        shutil.rmtree(checkpoint_folder(config.out), ignore_errors=True)
        drop_unfinished(config.out)
        _finish(config, base, record)
        return config.out


@contextmanager
def _processes(config: TrainConfig, base: Base | None) -> Iterator[Any]:
    """What `accelerate launch` started, for the length of a `with` block; one process where it did not."""
    cpu = config.device == "cpu" or not torch.cuda.is_available() or (base is not None and base.device == "cpu")
    if os.environ.get("ACCELERATE_USE_MEGATRON_LM", "false").lower() == "true":
        raise UsageError("accelerate launch: Megatron-LM is not supported. Use DDP (--multi_gpu) or FSDP (--use_fsdp).")
    if "WORLD_SIZE" not in os.environ and {"ACCELERATE_USE_CPU", "MASTER_ADDR"} <= os.environ.keys():
        raise UsageError(
            "accelerate launch --cpu starts several processes through MPI only; found one that was told of others. "
            "Use `accelerate launch --multi_gpu --num_processes N`: it runs on CPUs too."
        )
    processes = PartialState(cpu=cpu)
    try:
        if processes.num_processes > 1 and config.device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"--device {config.device}: several processes need one each. Give --device cuda, or none.")
        yield processes
    finally:
        if processes.num_processes > 1:
            processes.destroy_process_group()


def _claim(config: TrainConfig, stack: ExitStack) -> None:
    """Lock what is written, and refuse what is in the way."""
    check_out(config.out, overwrite=config.overwrite)
    stack.enter_context(locked(config.out))
    check_out(config.out, overwrite=config.overwrite)  # the lock may have put an adapter back
    checkpoints = checkpoint_folder(config.out)
    if config.overwrite and not config.resume:
        shutil.rmtree(checkpoints, ignore_errors=True)
    elif checkpoints.exists() and not config.resume:
        raise UsageError(
            f"--out {config.out}: {checkpoints} holds checkpoints of a run that was cut off. "
            "Give --resume to continue it, or --overwrite to drop them."
        )
    if config.push_to_hub:
        open_repository(config.push_to_hub, public=config.hub_public)
    if config.save_merged is not None:
        check_out(config.save_merged, overwrite=False, flag="--save-merged")


def _check_same(what: str, value: str) -> None:
    """Refuse to go on where processes see different things."""
    seen = gather_object([value])
    if odd := [number for number, other in enumerate(seen) if other != seen[0]]:
        raise RunFailed(
            f"process {odd[0]} has another {what} than process 0 ({seen[odd[0]]} and {seen[0]}). Give every machine "
            "the same files, or a file system that all of them share."
        )


def _load(config: TrainConfig, processes: Any) -> Base:
    """Load the base on this process's device, NF4 weights dequantised where rows still fit beside them."""
    several = processes.num_processes > 1 and processes.device.type != "cpu"
    base = load_base(
        config.base,
        four_bit=config.load_4bit,
        device=str(processes.device) if several else config.device,
        dtype=config.dtype,
        cache=not config.no_base_cache,
        dequantise=False if config.load_4bit else None,
    )
    route = choose_route(base.model, not config.no_packing)
    if base.four_bit and dequantised_fits(base.model, base.dtype, route):
        dequantise(base.model, base.dtype)
        log.info("NF4 weights stay dequantised in memory")
        return replace(base, dequantised=True)
    return base


def _trainer(
    config: TrainConfig, base: Base, examples: Examples, parameters: Mapping[str, torch.nn.Parameter], stop: Stop,
    judge: Judge | None,
) -> PackedTrainer:  # fmt: skip
    """Settle how the run goes, and check that it computes what the base does."""
    training, validation = examples.training, examples.validation
    lengths = [len(example.input_ids) for example in training]
    steps, epoch_ends = plan_steps(lengths, config.tokens_per_batch, config.epochs, config.seed)
    steps = steps[: config.max_steps] if config.max_steps else steps
    turn = partial(training_turn, base, parameters)
    with turn():
        route = settle_route(base.model, NAME, list(parameters.values()), training, packing=not config.no_packing)
    size = choose_size(
        base.model,
        route,
        longest=max(len(example.input_ids) for example in [*training, *validation]),
        asked=config.tokens_per_row,
        recompute=config.gradient_checkpointing,
    )
    callbacks: list[Any] = [
        LogProgress(sum(lengths[index] for step in steps for index in step), base.device),
        StopAtDivergence(config.divergence_steps, config.learning_rate),
    ]
    identity: dict[str, Any] = config.plan() | {
        "base": base.fingerprint,
        "four_bit": base.four_bit,
        "dtype": str(base.dtype),
        "examples": examples.digest,
        "init_adapter": provenance.sha256_of(config.init_adapter / WEIGHTS) if config.init_adapter else None,
    }
    evaluated, best = set(epoch_ends if validation and not config.validate_every else ()), "loss"
    if judge is not None:
        identity["judge"], best = judge.identity, "success"
        evaluated |= {*range(judge.every, len(steps), judge.every)}
    if judge is not None or validation:
        callbacks.append(EvaluateAfter(evaluated | {len(steps)}))
    if config.patience:
        callbacks.append(EarlyStoppingCallback(config.patience))
    trainer = PackedTrainer(
        PackedModel(base.model, NAME, route),
        training_arguments(config, checkpoint_folder(config.out), len(steps), base.device, best),
        training=training,
        validation=validation,
        steps=steps,
        size=size,
        recompute=config.gradient_checkpointing,
        identity=identity,
        should_stop=stop,
        callbacks=callbacks,
        turn=turn,
        judge=judge,
    )
    for callback in trainer.callback_handler.callbacks:
        if getattr(callback, "logging_dir", "") is None:  # TensorBoard's; TENSORBOARD_LOGGING_DIR names another folder
            callback.logging_dir = f"{config.out}.tensorboard"
    return trainer


def _run(trainer: PackedTrainer, config: TrainConfig) -> None:
    """Train to the end, from a checkpoint if there is one; leave one of the last whole step where it is stopped."""
    checkpoints = checkpoint_folder(config.out)
    resumed = newest_checkpoint(checkpoints) if config.resume else None
    if resumed is not None:
        check_same_run(resumed, trainer.identity)
        trainer.restore(resumed)
        log.info("resumed from checkpoint %s", resumed)
    elif config.resume:
        log.warning("--resume: no checkpoint in %s: the run begins at step 0", checkpoints)
    log.info("training steps=%d examples=%d", len(trainer.steps), len(trainer.train_dataset))
    try:
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    except KeyboardInterrupt:
        trainer.save_state()
        if trainer.saved_step:
            log.warning(
                "stopped after step %d; the checkpoint is in %s. Give the same command with --resume to continue",
                trainer.saved_step, checkpoints,
            )  # fmt: skip
        raise
    finally:
        trainer.release()
        with suppress(OSError):  # the Trainer makes it; an empty one is of no use
            checkpoints.rmdir()


def _record(config: TrainConfig, base: Base, examples: Examples, trainer: PackedTrainer) -> dict[str, Any]:
    state = trainer.state
    curve = [
        {"step": entry["step"]} | {k.replace("eval_", "validation_", 1): v for k, v in entry.items() if k != "epoch"}
        for entry in state.log_history
    ]
    steps = [entry for entry in curve if "loss" in entry]
    return {
        "schema_version": SCHEMA_VERSION,
        "config": config.to_json(),
        "lora": lora_summary(base),
        "base": {
            "name": base_name(config, base.path),
            "license": licence_of(base.path),
            "fingerprint": base.fingerprint,
            "four_bit": base.four_bit,
            "dequantised": base.dequantised,
            "dtype": str(base.dtype).removeprefix("torch."),
            "dtype_reason": base.dtype_reason,
        },
        "data": examples.counts | {"digest": examples.digest},
        "result": {
            "step": state.global_step,
            "tokens": sum(entry["tokens"] for entry in steps),
            "trained": sum(entry["trained_tokens"] for entry in steps),
            "seconds": round(sum(entry["seconds"] for entry in steps), 3),
            "route": trainer.packed.route.value,
            **asdict(trainer.size),
            "best": state.best_metric,
            "best_step": state.best_global_step or 0,
        },
        "curve": curve,
        "seed": config.seed,
        "versions": provenance.versions(),
        "git_revision": provenance.git_revision(),
        "device": torch.cuda.get_device_name(base.device) if base.device.startswith("cuda") else "cpu",
        "threads": torch.get_num_threads(),
        "peak_memory": held(base.device),
    }


def _finish(config: TrainConfig, base: Base, record: dict[str, Any]) -> None:
    """Log what was written, and bring it wherever else it was wanted."""
    result = record["result"]
    if result["best_step"]:
        judged = any("validation_success" in entry for entry in record["curve"])
        what = f"success {result['best']:.3f}" if judged else f"loss {result['best']:.4f}"
        log.info("these are the weights of step %d, which validated best: %s", result["best_step"], what)
    log.info(
        "adapter in %s: %d steps, %.0f s, %.0f tokens/s",
        config.out, result["step"], result["seconds"], result["tokens"] / max(result["seconds"], 1e-9),
    )  # fmt: skip
    if config.save_merged is not None:
        merge_adapter(base.path, config.out, config.save_merged)
    if config.push_to_hub:
        push(config.out, config.push_to_hub)
