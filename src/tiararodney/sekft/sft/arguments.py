"""The Trainer's arguments, made from the run's configuration."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from transformers import TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from tiararodney.sekft.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from tiararodney.sekft.sft.config import TrainConfig


def training_arguments(config: TrainConfig, folder: Path, steps: int, device: str, best: str) -> Any:
    """Make transformers' `TrainingArguments`.

    `folder` is where checkpoints go, `steps` the run's optimizer steps, `device` where the base lies; `best` names the
    metric of the weights that are kept, "loss" or "success".

    Raises:
        UsageError: transformers does not know a name in the configuration.
    """
    if "tensorboard" in config.report_to:
        beside = config.out.with_name(config.out.name + ".tensorboard")
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(beside))
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
