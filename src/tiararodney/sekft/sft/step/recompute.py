"""Gradient checkpointing of transformers' own forward; `row_loss` does it itself where the layers are written out."""

from functools import partial
from typing import Any

from tiararodney.sekft.sft.step.forward import recomputing


def recompute(model: Any) -> None:
    """Have transformers' own forward compute layers twice.

    Args:
        model: The causal language model with the LoRA layers on it.
    """
    how = {"use_reentrant": False, "context_fn": partial(recomputing, model)}
    if hasattr(model, "activation_checkpointing_enable"):  # its name from transformers 5.2x on
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=how)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False):
            # It asks whether it is in training; what lies in it keeps its own mode, and draws no dropout.
            module.training = True


def keep_all(model: Any) -> None:
    """Undo `recompute`.

    Args:
        model: The same.
    """
    if hasattr(model, "activation_checkpointing_disable"):
        model.activation_checkpointing_disable()
    else:
        model.gradient_checkpointing_disable()
    model.disable_input_require_grads()
