"""NF4 weights: quantise, keep dequantised where there is room, and keep bitsandbytes from corrupting them."""

import gc
from types import ModuleType
from typing import Any

import torch
from torch import nn

from tiararodney.sekft.errors import UsageError


def require_bitsandbytes() -> ModuleType:
    """Import bitsandbytes or say how to get it.

    Returns:
        The module.

    Raises:
        UsageError: It is not installed, or its native part does not load.
    """
    try:
        import bitsandbytes
    except (ImportError, OSError, RuntimeError) as error:
        raise UsageError(
            f"--load-4bit needs bitsandbytes, which cannot be imported ({error}).\n"
            "Install it with `pip install 'tiararodney.sekft[gpu]'`, or leave --load-4bit out."
        ) from error
    module: ModuleType = bitsandbytes
    return module


def quantisation_config(dtype: torch.dtype = torch.bfloat16) -> Any:  # transformers ships no types
    """The one 4-bit setting: NF4 with nested scales. What adapters are trained and evaluated on.

    Args:
        dtype: The compute type.

    Returns:
        A `BitsAndBytesConfig`.
    """
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def set_compute_type(model: nn.Module, dtype: torch.dtype | str) -> None:
    """Make a 4-bit model compute in a type, whatever the type that its files name.

    Args:
        model: A model with or without `Linear4bit` layers; without, nothing is changed.
        dtype: The compute type; "auto" leaves it.
    """
    import bitsandbytes

    layers = [module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
    if not layers or not isinstance(dtype, torch.dtype):
        return
    for layer in layers:
        layer.compute_dtype, layer.compute_type_is_set = dtype, True
    # A base that comes quantised has embeddings and norms in the type that it was saved with.
    packed = {id(layer.weight) for layer in layers}
    exempt = ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict")
    exact = [name for attribute in exempt for name in getattr(model, attribute, None) or ()]
    for name, parameter in model.named_parameters():
        whole = parameter.dtype in {torch.bfloat16, torch.float16, torch.float32}
        if whole and id(parameter) not in packed and not any(part in name for part in exact):
            parameter.data = parameter.data.to(dtype)


def guard_against_repacking(model: nn.Module) -> int:
    """Keep bitsandbytes from repacking 4-bit weights for AVX512-BF16 CPUs.

    With bitsandbytes 0.50.2 a forward in eval mode repacks the weights, and any later `state_dict()` unpacks them
    wrongly: the base is then silently not the base any more. Must run before the first forward.

    Args:
        model: A model with `Linear4bit` layers.

    Returns:
        How many layers were guarded.
    """
    import bitsandbytes

    layers = [module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)


def dequantise(model: nn.Module, dtype: torch.dtype = torch.bfloat16) -> int:
    """Replace every `Linear4bit` by a plain linear layer that holds the dequantised NF4 weights.

    The same function as the 4-bit layers compute (they dequantise to `dtype` in every pass), paid once.

    Args:
        model: A model with `Linear4bit` layers; changed in place.
        dtype: The compute type of the 4-bit layers.

    Returns:
        How many layers were replaced.
    """
    import bitsandbytes

    count = 0
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if not isinstance(layer, bitsandbytes.nn.Linear4bit):
                continue
            with torch.no_grad():
                weight = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(dtype)
            with torch.device("meta"):
                plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, dtype=dtype)
            plain.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
            if layer.bias is not None:
                plain.bias = nn.Parameter(layer.bias.data.to(dtype), requires_grad=False)
            setattr(parent, name, plain)
            count += 1
    gc.collect()  # a 4-bit weight and its layer know each other: without this both stay for a while
    # transformers would take the model for a quantised one and refuse to save or move it.
    quantised: Any = model
    quantised.is_quantized = False
    for owner, name in ((quantised, "hf_quantizer"), (quantised.config, "quantization_config")):
        if hasattr(owner, name):
            delattr(owner, name)
    return count
