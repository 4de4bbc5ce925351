"""The frozen base divided among the processes of a run (FSDP): each holds its share of every layer.

torch's `fully_shard` gathers a layer when transformers' own forward calls it and lets it go afterwards, in the backward
pass again. LoRA's weights are small: every process holds all of them, and their gradients are added as without FSDP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from tiararodney.sekft.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tiararodney.sekft.sft.ranks import Ranks


def shard(model: Any, trained: Iterable[torch.nn.Parameter], ranks: Ranks) -> None:
    """Divide a model's frozen weights among the processes, layer by layer.

    Args:
        model: The causal language model with its LoRA layers; changed in place, for good.
        trained: LoRA's weights, which stay whole.
        ranks: The processes.

    Raises:
        UsageError: The model's layers cannot be found.
    """
    layers = getattr(getattr(model, "model", None), "layers", None)
    if layers is None:
        raise UsageError(
            f"accelerate launch --use_fsdp: {type(model).__name__} has no list of layers to divide. Use --multi_gpu."
        )
    mesh = init_device_mesh(torch.device(model.device).type, (ranks.count,))
    whole = set(trained)
    _plain_quantised(model)
    for layer in layers:
        fully_shard(layer, mesh=mesh, ignored_params=whole)
    fully_shard(model, mesh=mesh, ignored_params=whole)


def _plain_quantised(model: Any) -> None:
    """Let the modules hold bitsandbytes' scales: what is gathered again is a plain parameter without them."""
    for module in model.modules():
        weight = dict(module.named_parameters(recurse=False)).get("weight")  # peft's layers show their base layer's
        state = getattr(weight, "quant_state", None)
        if weight is not None and state is not None:
            module.quant_state = state
            module.weight = torch.nn.Parameter(weight.data.as_subclass(torch.Tensor), requires_grad=False)
