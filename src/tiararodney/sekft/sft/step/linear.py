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


@dataclass(frozen=True)
class Kept:
    """What the backward pass of some projections needs beside their input.

    Attributes:
        hidden: The input times all of LoRA's A: [tokens, ranks]; None where no projection has LoRA.
        down: All of LoRA's A below each other [ranks, inputs], in the compute type.
        ups: LoRA's B of each projection that has one, times its scale, in the compute type.
    """

    hidden: torch.Tensor | None
    down: torch.Tensor | None
    ups: tuple[torch.Tensor, ...]

    def tensors(self) -> tuple[torch.Tensor | None, ...]:
        """All of it, to be saved; ``Kept.of`` takes it back."""
        return (self.hidden, self.down, *self.ups)

    @staticmethod
    def of(tensors: Sequence[torch.Tensor | None]) -> "Kept":
        """Take what `tensors` gave."""
        hidden, down, *ups = tensors
        return Kept(hidden, down, tuple(up for up in ups if up is not None))


def thin(projections: Sequence[Projection]) -> list[torch.Tensor | None]:
    """The trained matrices, A and B of each projection in turn: what autograd has to see as arguments."""
    return [part for projection in projections for part in (projection.down, projection.up)]


def forward(
    x: torch.Tensor, projections: Sequence[Projection], residual: torch.Tensor | None = None
) -> tuple[list[torch.Tensor], Kept]:
    """Apply linear layers that share their input.

    Args:
        x: [tokens, inputs].
        projections: The layers.
        residual: Added to the output; for a single layer only.

    Returns:
        [tokens, outputs] of each layer, and what the backward pass needs.
    """
    downs = [projection.down for projection in projections if projection.down is not None]
    down = torch.cat(downs).to(x.dtype) if downs else None
    hidden = x @ down.t() if down is not None else None
    outputs: list[torch.Tensor] = []
    ups: list[torch.Tensor] = []
    at = 0
    for projection in projections:
        weight = projection.weight(x.dtype)
        output = x @ weight.t() if residual is None else torch.addmm(residual, x, weight.t())
        if projection.layer.bias is not None:
            output += projection.layer.bias
        if projection.up is not None and hidden is not None:
            ups.append((projection.up * projection.scale).to(x.dtype))
            rank = projection.up.shape[1]
            output.addmm_(hidden[:, at : at + rank], ups[-1].t())
            at += rank
        outputs.append(output)
    return outputs, Kept(hidden, down, tuple(ups))


def backward(
    x: torch.Tensor, grads: Sequence[torch.Tensor], projections: Sequence[Projection], kept: Kept, *, needs_x: bool
) -> tuple[torch.Tensor | None, list[torch.Tensor | None]]:
    """The gradients of linear layers that share their input.

    Args:
        x: Their input [tokens, inputs].
        grads: The gradient of each output [tokens, outputs].
        projections: The layers.
        kept: What `forward` gave.
        needs_x: Whether the input's gradient is wanted.

    Returns:
        The gradient of the input, and of what `thin` lists, in its order.
    """
    grad_x: torch.Tensor | None = None
    trained: list[Any] = []
    ups = list(kept.ups)
    grad_hidden = None if kept.hidden is None else torch.empty_like(kept.hidden)
    at = 0
    for projection, grad in zip(projections, grads, strict=True):
        if needs_x:
            weight = projection.weight(x.dtype)
            grad_x = grad @ weight if grad_x is None else grad_x.addmm_(grad, weight)
        if projection.up is None or kept.hidden is None or grad_hidden is None:
            trained += [None, None]
            continue
        up = ups.pop(0)
        part = slice(at, at + up.shape[1])
        at += up.shape[1]
        torch.mm(grad, up, out=grad_hidden[:, part])
        grad_up = (kept.hidden[:, part].t() @ grad).t()
        trained += [part, grad_up.to(projection.up.dtype) * projection.scale]
    if grad_hidden is not None and kept.down is not None:
        if grad_x is not None:
            grad_x.addmm_(grad_hidden, kept.down)
        grad_down = (grad_hidden.t() @ x).to(torch.float32)
        trained = [grad_down[part] if isinstance(part, slice) else part for part in trained]
    return grad_x, trained
