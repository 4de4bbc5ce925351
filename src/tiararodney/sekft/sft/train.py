"""Train an adapter: data -> examples -> steps -> weights -> `--out`."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch

from tiararodney.sekft import provenance
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.folders import check_out, drop_unfinished
from tiararodney.sekft.model import Base, load_base
from tiararodney.sekft.model.base import find_device, find_folder
from tiararodney.sekft.model.fourbit import require_bitsandbytes
from tiararodney.sekft.model.merge import merge_adapter
from tiararodney.sekft.render import apply_policy, save_contract
from tiararodney.sekft.sft.adapter import write_adapter
from tiararodney.sekft.sft.checkpoint import checkpoint_folder, drop_checkpoint, load_checkpoint, save_checkpoint
from tiararodney.sekft.sft.data import Examples, read_examples
from tiararodney.sekft.sft.hub import check_hub, push
from tiararodney.sekft.sft.loop import KEEP_DEQUANTISED, Task, run_steps
from tiararodney.sekft.sft.lora import NAME, fresh_adapter, start_digest, told_shape
from tiararodney.sekft.sft.progress import Progress, held
from tiararodney.sekft.sft.ranks import Ranks, launched, meeting, own_device
from tiararodney.sekft.sft.schedule import plan_run
from tiararodney.sekft.sft.shards import shard
from tiararodney.sekft.sft.stopping import stopping
from tiararodney.sekft.sft.trackers import check_trackers, tracking
from tiararodney.sekft.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tiararodney.sekft.render import Policy
    from tiararodney.sekft.sft.config import TrainConfig

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1  # of training.json
RESULTS = ("step", "tokens", "trained", "seconds", "row_tokens", "checkpointing", "best", "best_step")


def train(config: TrainConfig, base: Base | None = None, should_stop: Callable[[], bool] | None = None) -> Path:
    """Train an adapter and write it; as one of several processes where `accelerate launch` started them.

    Args:
        config: What to do.
        base: A base that is loaded already; it is bit for bit as before afterwards. None loads the configured one.
        should_stop: Asked between rows; True ends the run after a checkpoint, as Ctrl-C does.

    Returns:
        The adapter's folder. The first process writes it.

    Raises:
        UsageError: Base, data or `out` cannot be used.
        RunFailed: The run diverged, or memory or disk did not suffice.
        KeyboardInterrupt: It was told to stop; nothing half-written is left.
    """
    ranks = launched() if base is None else Ranks()
    if not ranks.writes:
        logging.getLogger("tiararodney").setLevel(logging.WARNING)
    if config.compile and ranks.sharded:
        raise UsageError("--compile: not with FSDP, whose hooks gather each layer's weights. Leave one of them out.")
    config = replace(config, device=own_device(ranks, config.device))
    check_out(config.out, overwrite=config.overwrite)
    if ranks.writes:
        _check_checkpoint(config)
        check_trackers(config)
        if config.push_to_hub:
            check_hub(config.push_to_hub)
        if config.save_merged is not None:
            check_out(config.save_merged, overwrite=False, flag="--save-merged")
    with meeting(ranks, config.device):
        return _train(config, base, should_stop, ranks)


def _train(config: TrainConfig, base: Base | None, should_stop: Callable[[], bool] | None, ranks: Ranks) -> Path:
    started = provenance.now()
    policy = cast("Policy", config.control_tokens)
    if base is None and config.load_4bit:
        require_bitsandbytes()
    tokenizer = apply_policy(load_tokenizer(find_folder(config.base)) if base is None else base.tokenizer, policy)
    # What is wrong with the data shows before a base of many gigabytes is read.
    examples = read_examples(config, tokenizer)
    base = base or load_base(
        config.base,
        four_bit=config.load_4bit,
        device=config.device,
        dtype=config.dtype,
        cache=not config.no_base_cache,
        dequantise=False if ranks.sharded else KEEP_DEQUANTISED.get(find_device(config.device).split(":")[0]),
    )
    ranks.agree("data", examples.digest)
    ranks.agree("a base", base.fingerprint)
    checkpoint = checkpoint_folder(config.out)
    tracked = replace(config, report_to=config.report_to if ranks.writes else ())
    with tracking(tracked) as tell, fresh_adapter(base, config) as parameters, stopping(should_stop) as stop:
        ranks.share([parameter.data for parameter in parameters.values()])
        if ranks.sharded:
            shard(base.model, parameters.values(), ranks)
        task = _task(config, base, examples, parameters, ranks, tell)
        progress = Progress()
        same = _identity(config, base, examples)
        if config.resume:
            saved = load_checkpoint(checkpoint, parameters, progress.best_weights, task.optimizer, same)
            progress = _restored(progress, saved)
            ranks.agree("a checkpoint", progress.step)

        def save(now: Progress) -> None:
            if not ranks.writes:
                return
            told = now.to_json() | {"same": same}
            save_checkpoint(checkpoint, parameters, now.best_weights, task.optimizer, told)
            log.info("checkpoint after step %d in %s", now.step, checkpoint)

        log.info("%d steps over %d examples", len(task.steps), len(examples.training))
        clock = time.monotonic()
        run_steps(task, progress, save, stop)
        _take_best(parameters, progress)
        if not ranks.writes:
            return config.out
        told = _record(config, base, examples, progress, ranks) | {
            "started": started,
            "wall_seconds": round(time.monotonic() - clock, 3),
        }
        contract = partial(save_contract, tokenizer, policy=policy)
        write_adapter(config.out, base, NAME, told, contract, replace=config.overwrite)
    drop_checkpoint(checkpoint)
    _hand_on(config, base, progress)
    return config.out


def _hand_on(config: TrainConfig, base: Base, progress: Progress) -> None:
    """Tell of the adapter that is written, and bring it wherever else it was wanted."""
    if progress.best_weights:
        log.info("these are the weights of step %d, which validated best: loss %.4f", progress.best_step, progress.best)
    log.info(
        "adapter in %s: %d steps, %.0f s, %.0f tokens/s",
        config.out, progress.step, progress.seconds, progress.tokens / max(progress.seconds, 1e-9),
    )  # fmt: skip
    if config.save_merged is not None:
        merge_adapter(base.path, config.out, config.save_merged)
    if config.push_to_hub:
        log.info("uploaded: %s", push(config.out, config.push_to_hub, public=config.hub_public))


def _check_checkpoint(config: TrainConfig) -> None:
    checkpoint = checkpoint_folder(config.out)
    if config.overwrite or config.resume:
        drop_unfinished(config.out)
    if config.overwrite and not config.resume:
        drop_checkpoint(checkpoint)
    elif checkpoint.exists() and not config.resume:
        raise UsageError(
            f"--out {config.out}: {checkpoint} holds the checkpoint of a run that was cut off. "
            "Give --resume to go on from it, or --overwrite to drop it."
        )


def _task(
    config: TrainConfig,
    base: Base,
    examples: Examples,
    parameters: dict[str, torch.nn.Parameter],
    ranks: Ranks,
    tell: Callable[[Mapping[str, Any]], None],
) -> Task:
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    steps, epoch_ends = plan_run([len(example.input_ids) for example in examples.training], config)
    return Task(
        model=base.model,
        adapter=NAME,
        parameters=parameters,
        optimizer=optimizer,
        config=config,
        examples=examples.training,
        validation=examples.validation,
        steps=steps,
        epoch_ends=epoch_ends,
        ranks=ranks,
        told=tell,
    )


def _identity(config: TrainConfig, base: Base, examples: Examples) -> dict[str, Any]:
    """What must be the same for a resumed run to give the adapter of the unbroken one."""
    plan: dict[str, Any] = config.plan()
    return plan | {
        "base": base.fingerprint,
        "four_bit": base.four_bit,
        "dtype": str(base.dtype),
        "examples": examples.digest,
        "init_adapter": start_digest(config),
    }


def _restored(progress: Progress, saved: Mapping[str, Any] | None) -> Progress:
    if saved is None:
        return progress
    values = {key: value for key, value in saved.items() if key != "same" and value is not None}
    log.info("resuming after step %d", values["step"])
    return Progress(**values, best_weights=progress.best_weights)


def _take_best(parameters: Mapping[str, torch.nn.Parameter], progress: Progress) -> None:
    with torch.no_grad():
        for name, tensor in progress.best_weights.items():
            parameters[name].copy_(tensor)


def _record(config: TrainConfig, base: Base, examples: Examples, progress: Progress, ranks: Ranks) -> dict[str, Any]:
    told = progress.to_json()
    return {
        "schema_version": SCHEMA_VERSION,
        "config": config.to_json(),
        "lora": told_shape(base),
        "base": {
            "fingerprint": base.fingerprint,
            "four_bit": base.four_bit,
            "dequantised": base.dequantised,
            "dtype": str(base.dtype).removeprefix("torch."),
            "dtype_reason": base.dtype_reason,
        },
        "data": examples.counts | {"digest": examples.digest},
        "result": {key: told[key] for key in RESULTS},
        "curve": told["curve"],
        "seed": config.seed,
        "versions": provenance.versions(),
        "git_revision": provenance.git_revision(),
        "device": torch.cuda.get_device_name(base.device) if base.device.startswith("cuda") else "cpu",
        "processes": ranks.count,
        "threads": torch.get_num_threads(),
        "peak_memory": held(base.device),
    }
