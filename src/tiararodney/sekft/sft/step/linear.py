"""Frozen linear layers with LoRA beside them: forward and backward as plain functions.

Only LoRA's own weights are trained, so a backward pass needs the gradient of the input and of two thin matrices a
layer, nothing else. `layers` makes autograd functions of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Projection:
    """A frozen linear layer, with LoRA's two trained matrices where it has them.

    Attributes:
        layer: `nn.Linear`, or bitsandbytes' `Linear4bit`, whose weights are dequantised whenever they are used.
        down: LoRA's A [rank, inputs], or None.
        up: LoRA's B [outputs, rank], or None.
        scale: What LoRA's product is multiplied by.
    """

    layer: Any
    down: torch.Tensor | None = None
    up: torch.Tensor | None = None
    scale: float = 1.0

    def weight(self, dtype: torch.dtype) -> torch.Tensor:
        """The dense weight [outputs, inputs]."""
        weight = self.layer.weight
        state = getattr(weight, "quant_state", None)
        if state is not None:
            from bitsandbytes.functional import dequantize_4bit

            weight = dequantize_4bit(weight.data, state)
        dense: torch.Tensor = weight.to(dtype)
        return dense


def lora_params(projections: Sequence[Projection]) -> list[torch.Tensor | None]:
    """The trained matrices, A and B of each projection in turn: what autograd has to see as arguments."""
    return [part for projection in projections for part in (projection.down, projection.up)]


def forward(
    x: torch.Tensor, projections: Sequence[Projection], residual: torch.Tensor | None = None
) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """Apply linear layers that share their input.

    Args:
        x: [tokens, inputs].
        projections: The layers.
        residual: Added to the output; for a single layer only.

    Returns:
        [tokens, outputs] of each layer, and the input times all of LoRA's A ([tokens, ranks]; None where no layer has
        LoRA), which the backward pass needs.
    """
    down = _downs(projections, x.dtype)
    hidden = None if down is None else x @ down.t()
    outputs: list[torch.Tensor] = []
    at = 0
    for projection in projections:
        weight = projection.weight(x.dtype).t()
        output = x @ weight if residual is None else torch.addmm(residual, x, weight)
        if projection.layer.bias is not None:
            output += projection.layer.bias
        if projection.up is not None and hidden is not None:
            up = _up(projection, x.dtype)
            output.addmm_(hidden[:, at : at + up.shape[1]], up.t())
            at += up.shape[1]
        outputs.append(output)
    return outputs, hidden


def backward(
    x: torch.Tensor,
    grads: Sequence[torch.Tensor],
    projections: Sequence[Projection],
    hidden: torch.Tensor | None,
    *,
    needs_x: bool,
) -> tuple[torch.Tensor | None, list[torch.Tensor | None]]:
    """The gradients of linear layers that share their input.

    Args:
        x: Their input [tokens, inputs].
        grads: The gradient of each output [tokens, outputs].
        projections: The layers.
        hidden: What `forward` gave beside the outputs.
        needs_x: Whether the input's gradient is wanted.

    Returns:
        The gradient of the input, and of what `lora_params` lists, in its order.
    """
    grad_x: torch.Tensor | None = None
    trained: list[Any] = []
    grad_hidden = None if hidden is None else torch.empty_like(hidden)
    at = 0
    for projection, grad in zip(projections, grads, strict=True):
        if needs_x:
            weight = projection.weight(x.dtype)
            grad_x = grad @ weight if grad_x is None else grad_x.addmm_(grad, weight)
        if projection.up is None or hidden is None or grad_hidden is None:
            trained += [None, None]
            continue
        up = _up(projection, x.dtype)
        part = slice(at, at + up.shape[1])
        at += up.shape[1]
        torch.mm(grad, up, out=grad_hidden[:, part])
        grad_up = (hidden[:, part].t() @ grad).t()
        trained += [part, grad_up.to(projection.up.dtype) * projection.scale]
    down = _downs(projections, x.dtype)
    if grad_hidden is not None and down is not None:
        if grad_x is not None:
            grad_x.addmm_(grad_hidden, down)
        grad_down = (grad_hidden.t() @ x).to(torch.float32)
        trained = [grad_down[part] if isinstance(part, slice) else part for part in trained]
    return grad_x, trained


def _downs(projections: Sequence[Projection], dtype: torch.dtype) -> torch.Tensor | None:
    """All of LoRA's A below each other [ranks, inputs]; made again whenever it is used, as `_up` is: both are small."""
    downs = [projection.down for projection in projections if projection.down is not None]
    return torch.cat(downs).to(dtype) if downs else None


def _up(projection: Projection, dtype: torch.dtype) -> torch.Tensor:
    """LoRA's B of a layer that has it, times its scale [outputs, rank]."""
    assert projection.up is not None
    return (projection.up * projection.scale).to(dtype)
