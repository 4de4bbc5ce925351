"""Load the weights of a base through transformers, or say in one sentence why that cannot be."""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.model import fourbit
from tiararodney.sekft.model.fingerprint import first_line
from tiararodney.sekft.model.memory import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    import torch

log = logging.getLogger(__name__)

BITSANDBYTES = "bitsandbytes"
# What transformers turns into plain weights while it loads; adapters are then trained on those.
DEQUANTISED = {"fp8": "FineGrainedFP8Config", "mxfp4": "Mxfp4Config"}
NAMED = 4  # tensors that a message names


def load_model(folder: Path, device: str, dtype: torch.dtype | str, *, four_bit: bool = False) -> Any:
    """Load a causal language model straight to the device.

    The attention is SDPA where the family has it, else eager: transformers' own choice. Of a model that sees or hears
    as well the whole is loaded; only its text model is ever used.

    Args:
        folder: A model folder.
        device: A torch device.
        dtype: The type of weights that are not quantised; "auto" takes the files' own.
        four_bit: Quantise the linear layers to NF4.

    Returns:
        transformers' model.

    Raises:
        UsageError: It cannot be loaded, or is not whole.
        RunFailed: Memory does not suffice.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    options: dict[str, Any] = {"dtype": dtype, "device_map": {"": device}, "local_files_only": True}
    # Their names come out in our own message, where transformers would raise one of many lines.
    options |= {"ignore_mismatched_sizes": True, "output_loading_info": True}
    method = quantised_with(config)
    if method is not None:
        options |= _options_of(method, folder, four_bit=four_bit)
    elif four_bit:
        options["quantization_config"] = fourbit.quantisation_config(dtype)
    with _quiet():
        try:
            model, info = _class_of(folder).from_pretrained(folder, **options)
        except UsageError:
            raise
        except Exception as error:  # whatever a library raises is about this base
            if is_out_of_memory(error):
                raise RunFailed(
                    f"--base {folder}: out of memory on {device} while loading ({first_line(error)}). "
                    "Load it with --load-4bit, or take a smaller model."
                ) from error
            raise UsageError(
                f"--base {folder}: transformers cannot load it ({type(error).__name__}: {first_line(error)}). "
                "Expected a causal language model whose files are whole."
            ) from error
    _refuse(folder, "lack", info["missing_keys"], "Take a checkpoint that is whole: transformers would make them up")
    _refuse(folder, "have other shapes than config.json says for", [key for key, *_ in info["mismatched_keys"]], "")
    if info["unexpected_keys"]:
        log.debug("%d tensors of %s are not used", len(info["unexpected_keys"]), folder)
    if four_bit or method == BITSANDBYTES:
        fourbit.set_compute_type(model, dtype)
        _tell_unquantised(model)
    return model


def positions_of(folder: Path) -> int | None:
    """How many tokens the text model in a folder was made for.

    Args:
        folder: A model folder.

    Returns:
        The number, or None where its config.json does not say or cannot be read (`load_model` then says why).
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception:  # noqa: BLE001 - transformers raises whatever a config class does
        return None
    found = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def quantised_with(config: dict[str, Any]) -> str | None:
    """The method that a model's files are quantised with.

    Args:
        config: What its config.json holds.

    Returns:
        Its name in transformers, such as "bitsandbytes" or "awq"; None for plain weights.
    """
    stated = config.get("quantization_config") or (config.get("text_config") or {}).get("quantization_config")
    if not stated:
        return None
    return str(stated.get("quant_method") or (BITSANDBYTES if "load_in_4bit" in stated else "unknown"))


def is_four_bit(config: dict[str, Any]) -> bool:
    """Whether a model's files hold 4-bit weights of bitsandbytes.

    Args:
        config: What its config.json holds.
    """
    return quantised_with(config) == BITSANDBYTES and bool(config["quantization_config"].get("load_in_4bit"))


def _options_of(method: str, folder: Path, *, four_bit: bool) -> dict[str, Any]:
    if method == BITSANDBYTES:
        fourbit.require_bitsandbytes()
        return {}
    if method not in DEQUANTISED:
        raise UsageError(
            f"--base {folder}: its weights are quantised with {method}, on which sekft trains and serves no adapters. "
            "Take the model's unquantised files; --load-4bit quantises them."
        )
    if four_bit:
        raise UsageError(
            f"--base {folder}: its weights are quantised with {method}, and --load-4bit cannot quantise them again. "
            "Leave --load-4bit out, or take the model's unquantised files."
        )
    import transformers

    log.info("weights in %s are dequantised while loading", method)
    return {"quantization_config": getattr(transformers, DEQUANTISED[method])(dequantize=True)}


def _class_of(folder: Path) -> Any:  # transformers ships no types
    """The auto class that knows the model: text models, else those that see or hear and reply with text."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    )

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return AutoModelForImageTextToText
    raise UsageError(
        f"--base {folder}: found model_type {config.model_type!r}, which is no model that replies with text. "
        "Expected a causal language model."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bars and reports off stderr, which is for our own log."""
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def _refuse(folder: Path, what: str, names: Collection[str], remedy: str) -> None:
    if not names:
        return
    first = ", ".join(sorted(names)[:NAMED])
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    raise UsageError(f"--base {folder}: its weights {what} {first}{more}. {remedy or 'Take both from the same model'}.")


def _tell_unquantised(model: Any) -> None:
    """Say where 4 bits do not reach: experts that are fused into one tensor are no linear layers."""
    import bitsandbytes

    quantised = sum(
        module.in_features * module.out_features
        for module in model.modules()
        if isinstance(module, (bitsandbytes.nn.Linear4bit, bitsandbytes.nn.Linear8bitLt))
    )
    plain = {name: p for name, p in model.named_parameters() if p.dim() > 2 and p.is_floating_point()}  # noqa: PLR2004
    numbers = sum(parameter.numel() for parameter in plain.values())
    if numbers > quantised * 0.1:
        log.warning(
            "%d %% of the layers' weights are fused experts (such as %s), which bitsandbytes does not quantise: "
            "they stay in %s",
            round(100 * numbers / (numbers + quantised)),
            next(iter(plain)),
            str(next(iter(plain.values())).dtype).removeprefix("torch."),
        )
