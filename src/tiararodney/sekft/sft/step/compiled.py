"""torch.compile for the layers of transformers' own forward; ours are written out by hand."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.sft.step import attention
from tiararodney.sekft.sft.step.forward import is_written_out

log = logging.getLogger(__name__)


@contextmanager
def compiled(model: Any) -> Iterator[None]:
    """Run a model's decoder layers compiled, for the length of a `with` block.

    Compiled once for rows of any length. Attention over a packed row is left as it is: which documents a row holds
    would be compiled in.

    Args:
        model: The causal language model with the LoRA layers on it.

    Yields:
        Nothing.

    Raises:
        UsageError: torch cannot compile here.
    """
    if is_written_out(model):
        log.info("--compile: this family's layers are written out by hand, there is nothing to compile")
        yield
        return
    _probe(model.device)
    layers = list(model.get_decoder().layers)
    # layers of one shape share what was compiled; those that differ (sliding windows) count one by one
    limit = torch._dynamo.config.recompile_limit  # noqa: SLF001 - where torch documents its settings
    torch._dynamo.config.recompile_limit = max(limit, 2 * len(layers))  # noqa: SLF001 - the same
    AttentionInterface.register(attention.NAME, torch.compiler.disable(attention.for_transformers))
    for layer in layers:
        layer.compile(dynamic=True)
    log.info("layers are compiled in the first steps")
    try:
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None  # noqa: SLF001 - torch has no call that undoes `compile`
        AttentionInterface.register(attention.NAME, attention.for_transformers)
        torch._dynamo.config.recompile_limit = limit  # noqa: SLF001 - as above


def _probe(device: torch.device) -> None:
    try:
        torch.compile(_some_work)(torch.ones(8, device=device))
    except Exception as error:  # each part of the way to a kernel has errors of its own
        needed = (
            "triton and a C compiler"
            if device.type == "cuda"
            else "a C++ compiler and Python's headers (Debian: g++ python3-dev)"
        )
        raise UsageError(
            f"--compile: torch cannot compile here ({str(error).strip().splitlines()[0]}). Install {needed}, or leave "
            "the flag out."
        ) from error


def _some_work(x: torch.Tensor) -> torch.Tensor:
    return (x.sin() + 1).cos()
