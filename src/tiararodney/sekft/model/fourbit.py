"""NF4 weights: quantise, keep dequantised where there is room, and keep bitsandbytes from corrupting them."""

import gc
import logging
from typing import Any

import torch
from torch import nn

from tiararodney.sekft.errors import UsageError


def require_bitsandbytes() -> None:
    """Import bitsandbytes or say how to get it.

    Raises:
        UsageError: It is not installed, or its native part does not load.
    """
    try:
        import bitsandbytes  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        raise UsageError(
            f"--load-4bit needs bitsandbytes, which cannot be imported ({error}).\n"
            "Install it with `pip install 'tiararodney.sekft[gpu]'`, or leave --load-4bit out."
        ) from error


def quantisation_config(dtype: torch.dtype = torch.bfloat16) -> Any:  # transformers ships no types
    """The one 4-bit setting (a `BitsAndBytesConfig`): NF4 with nested scales, computing in `dtype`."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def set_compute_type(model: nn.Module, dtype: torch.dtype | str) -> None:
    """Make a model with `Linear4bit` layers compute in a type, whatever its files name; "auto" leaves that."""
    layers = _layers(model)
    if not layers or not isinstance(dtype, torch.dtype):
        return
    for layer in layers:
        layer.compute_dtype, layer.compute_type_is_set = dtype, True
    # A base that comes quantised has embeddings and norms in the type that it was saved with.
    packed = {id(layer.weight) for layer in layers}  # of bytes, which may be stored as another type's
    exempt = ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict")
    exact = [name for attribute in exempt for name in getattr(model, attribute, None) or ()]
    for name, parameter in model.named_parameters():
        whole = parameter.dtype in {torch.bfloat16, torch.float16, torch.float32}
        if whole and id(parameter) not in packed and not any(part in name for part in exact):
            parameter.data = parameter.data.to(dtype)


def guard_against_repacking(model: nn.Module) -> None:
    """Keep bitsandbytes from repacking 4-bit weights for AVX512-BF16 CPUs; must run before the first forward.

    bitsandbytes 0.50.2 repacks them in a forward in eval mode, and any later `state_dict()` unpacks them wrongly: the
    base is then silently not the base any more.
    """
    for layer in _layers(model):
        layer.support_avx512bf16_for_cpu = False


def dequantised_bytes(model: nn.Module, dtype: torch.dtype) -> int:
    """What the 4-bit weights would take dequantised, in bytes."""
    return int(sum(layer.in_features * layer.out_features for layer in _layers(model)) * dtype.itemsize)


def dequantise(model: Any, dtype: torch.dtype = torch.bfloat16) -> None:  # transformers ships no types
    """Replace every `Linear4bit` by a plain linear layer of the dequantised weights: the same function, faster."""
    logging.getLogger("transformers.integrations.bitsandbytes").setLevel(logging.ERROR)  # it warns of the type
    model.dequantize(dtype=dtype)
    model.requires_grad_(requires_grad=False)
    gc.collect()  # a 4-bit weight and its layer know each other: without this both stay for a while


def _layers(model: nn.Module) -> list[Any]:
    import bitsandbytes

    return [module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
