"""The LoRA layers that a run trains: their shape, their first weights, and how they come off the base again."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig
from peft.helpers import disable_input_dtype_casting

from tiararodney.sekft import hub
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.model import detach_adapter
from tiararodney.sekft.model.adapters import (
    add_adapter,
    check_record,
    load_weights,
    read_config,
    switch_adapter,
)
from tiararodney.sekft.model.targets import check_targets, read_targets, text_targets
from tiararodney.sekft.settings import flag_of
from tiararodney.sekft.sft.config import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tiararodney.sekft.model import Base

NAME = "sekft_training"
SHAPE = ("lora_r", "lora_alpha", "use_rslora", "use_dora", "target_modules")  # peft says "r"


def lora_config(config: TrainConfig, base: Base) -> LoraConfig:
    """Return peft's configuration: as the flags say, or that of the adapter that the run starts from.

    Raises:
        UsageError: A flag contradicts the adapter that the run starts from, or it is none that can be trained on.
    """
    asked = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        target_modules=text_targets(base.model, read_targets(config.target_modules)),
        exclude_modules=read_targets(config.exclude_modules) if config.exclude_modules else None,
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_name(config, base.path),
    )
    if config.init_adapter is None:
        return asked
    start = read_config(config.init_adapter, "--init-adapter")
    check_record(config.init_adapter, base.fingerprint, base.path, "--init-adapter")
    defaults = {field.name: field.default for field in fields(TrainConfig)}
    for name in SHAPE:
        value, has = getattr(config, name), _of(start, name)
        if value != defaults[name] and _of(asked, name) != has:
            raise UsageError(
                f"{flag_of(name)}: found {value}, but --init-adapter {config.init_adapter} has {has}. "
                "Leave the flag out: the adapter's shape goes on."
            )
    start.lora_dropout = asked.lora_dropout
    start.base_model_name_or_path = asked.base_model_name_or_path
    start.inference_mode = False
    return start


def _of(lora: LoraConfig, name: str) -> Any:
    return getattr(lora, "r" if name == "lora_r" else name)


def base_name(config: TrainConfig, base: Path) -> str:
    """What an adapter calls its base: `--base-name`, else the id of a folder in the hub's cache, else its full path."""
    return config.base_name or hub.id_of(base) or str(base.absolute())


@contextmanager
def fresh_adapter(base: Base, config: TrainConfig) -> Iterator[dict[str, torch.nn.Parameter]]:
    """Hang a trainable adapter on the base, and take it off again whatever happens: the base is as before, to the bit.

    Yields:
        The trained weights by name, in fp32.

    Raises:
        UsageError: The layers do not fit the base.
    """
    lora = lora_config(config, base)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        before = base.adapters.active
        with base.lock:
            add_adapter(base, lora, NAME)
        try:
            if config.init_adapter is not None:
                with base.lock:
                    load_weights(base, NAME, config.init_adapter, "--init-adapter")
            parameters = {key: parameter for key, parameter in base.model.named_parameters() if f".{NAME}." in key}
            if config.init_adapter is None:
                check_targets(base, read_targets(config.target_modules), parameters, flag_of("target_modules"))
            for parameter in parameters.values():
                parameter.data = parameter.data.float()
            with training_turn(base, parameters):
                pass  # what wraps the model looks for weights that are active and can be trained
            yield parameters
        finally:
            with base.lock:
                base.model.eval()
                detach_adapter(base, NAME)
                switch_adapter(base, before)


@contextmanager
def training_turn(base: Base, parameters: Mapping[str, torch.nn.Parameter]) -> Iterator[None]:
    """Hold the base and compute with the adapter, whose weights are trained; between turns, others may generate."""
    with base.lock:
        switch_adapter(base, NAME)
        for parameter in parameters.values():
            parameter.requires_grad_(requires_grad=True)
        # LoRA computes in the compute type, as when serving; the products are cast, not the inputs.
        with disable_input_dtype_casting(base.model):
            yield


def lora_summary(base: Base) -> dict[str, Any]:
    """Return JSON values of what is trained: the layers' shape as it came out. The adapter must be on the base."""
    config = base.adapters.handle.peft_config[NAME]
    shape = {name: _of(config, name) for name in (*SHAPE, "lora_dropout")}
    targets = shape["target_modules"]
    return shape | {
        "target_modules": targets if isinstance(targets, str) else sorted(targets),
        "trained_weights": sum(p.numel() for key, p in base.model.named_parameters() if f".{NAME}." in key),
    }
