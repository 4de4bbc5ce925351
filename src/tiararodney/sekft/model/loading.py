"""Load the weights of a base through transformers, or say in one sentence why that cannot be."""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import transformers

from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.model import fourbit
from tiararodney.sekft.model.fingerprint import first_line
from tiararodney.sekft.model.memory import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch

log = logging.getLogger(__name__)

FOUR_BIT, EIGHT_BIT = "bitsandbytes_4bit", "bitsandbytes_8bit"
# What transformers turns into plain weights while it loads; adapters are then trained on those.
DEQUANTISED = {"fp8": "FineGrainedFP8Config", "mxfp4": "Mxfp4Config"}
NAMED = 4  # tensors that a message names
FEW = 10  # percent of the weights that may stay as they are without a word


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
    options: dict[str, Any] = {"dtype": dtype, "device_map": {"": device}, "local_files_only": True}
    # Their names come out in our own message, where transformers would raise one of many lines.
    options |= {"ignore_mismatched_sizes": True, "output_loading_info": True}
    method = quantised_with(folder)
    if method is not None:
        options |= _options_of(method, folder, four_bit=four_bit)
    elif four_bit:
        options["quantization_config"] = fourbit.quantisation_config(dtype)
    try:
        with _quiet():
            model, info = _class_of(folder).from_pretrained(folder, **options)
    except UsageError:
        raise
    except Exception as error:  # whatever a library raises is about this base
        found = first_line(error)
        if is_out_of_memory(error):
            raise RunFailed(
                f"--base {folder}: out of memory on {device} while loading ({found}). "
                "Load it with --load-4bit, or take a smaller model."
            ) from error
        raise UsageError(
            f"--base {folder}: transformers cannot load it ({type(error).__name__}: {found}). "
            "Expected a causal language model whose files are whole."
        ) from error
    other = sorted(key for key, *_ in info["mismatched_keys"])
    for what, names, remedy in (
        ("lack", sorted(info["missing_keys"]), "Take a checkpoint that is whole: transformers would make them up"),
        ("have other shapes than config.json says for", other, "Take both from the same model"),
    ):
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            raise UsageError(f"--base {folder}: its weights {what} {', '.join(names[:NAMED])}{more}. {remedy}.")
    if four_bit or method in (FOUR_BIT, EIGHT_BIT):
        fourbit.set_compute_type(model, dtype)
        fourbit.guard_against_repacking(model)
        _warn_unquantised(model)
    return model


def positions_of(folder: Path) -> int | None:
    """How many tokens the text model in a folder was made for; None where its configuration does not say."""
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception:  # noqa: BLE001 - transformers raises whatever a config class does
        return None
    found = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def quantised_with(folder: Path) -> str | None:
    """What a model's files are quantised with, as transformers calls it ("bitsandbytes_4bit", "awq" ...), or None."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stated = config.get("quantization_config") or (config.get("text_config") or {}).get("quantization_config")
    if not stated:
        return None
    bits = {"load_in_4bit": FOUR_BIT, "load_in_8bit": EIGHT_BIT}
    return next((name for key, name in bits.items() if stated.get(key)), str(stated.get("quant_method", "unknown")))


def _options_of(method: str, folder: Path, *, four_bit: bool) -> dict[str, Any]:
    """What loads weights that come quantised, or why they cannot be used."""
    if method in (FOUR_BIT, EIGHT_BIT):
        fourbit.require_bitsandbytes()
        return {}
    if method not in DEQUANTISED or four_bit:
        why, remedy = "carries no adapters here", "Take the model's unquantised files"
        if method in DEQUANTISED:
            why = "--load-4bit cannot quantise again"
            remedy = "Leave --load-4bit out, or take the model's unquantised files"
        raise UsageError(f"--base {folder}: its weights are quantised with {method}, which {why}. {remedy}.")
    log.info("weights in %s are dequantised while loading", method)
    return {"quantization_config": getattr(transformers, DEQUANTISED[method])(dequantize=True)}


def _class_of(folder: Path) -> Any:  # transformers ships no types
    """The auto class that knows the model: text models, else those that see or hear and reply with text."""
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    if type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        return transformers.AutoModelForCausalLM
    if type(config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return transformers.AutoModelForImageTextToText
    raise UsageError(
        f"--base {folder}: found model_type {config.model_type!r}, which is no model that replies with text. "
        "Expected a causal language model."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bars and reports off stderr, which is for our own log."""
    before = transformers.logging.get_verbosity()
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)


def _warn_unquantised(model: Any) -> None:
    """Say where 4 bits do not reach: experts that are fused into one tensor are no linear layers."""
    plain = {name: p for name, p in model.named_parameters() if p.dim() > 2 and p.is_floating_point()}  # noqa: PLR2004
    # num_parameters counts packed weights as what they stand for
    percent = round(100 * sum(parameter.numel() for parameter in plain.values()) / model.num_parameters())
    if percent > FEW:
        name, example = next(iter(plain.items()))
        found = "%d %% of the weights are fused experts (such as %s), which bitsandbytes leaves in %s"
        log.warning(found, percent, name, example.dtype)
