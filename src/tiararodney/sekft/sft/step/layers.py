"""The parts of a decoder layer with backward passes of their own.

Written out for frozen weights with LoRA, a layer takes about half of the memory passes that autograd makes of the same
formulas: only LoRA's own weights are trained, so a backward pass needs the gradient of the input and of two thin
matrices a layer. What is cheap to have again is not kept for it: the normed input of a projection is one multiplication
away from the input, SwiGLU's product one away from its factors. That leaves two thirds of what the layer would hold for
each token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from tiararodney.sekft.sft.step import elementwise


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


def linear_forward(
    x: torch.Tensor, projections: Sequence[Projection], residual: torch.Tensor | None = None
) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """Apply linear layers that share their input x [tokens, inputs]; a single one may have a residual added.

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


def linear_backward(
    x: torch.Tensor,
    grads: Sequence[torch.Tensor],
    projections: Sequence[Projection],
    hidden: torch.Tensor | None,
    *,
    needs_x: bool,
) -> tuple[torch.Tensor | None, list[torch.Tensor | None]]:
    """The gradients of linear layers that share their input x [tokens, inputs].

    They are made of those of the outputs, and of what `linear_forward` gave beside these (`hidden`).

    Returns:
        The gradient of the input, if it is needed, and of what `lora_params` lists, in its order.
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


class Norm(NamedTuple):
    """A frozen RMSNorm: its weight [size], and what is added to the mean square."""

    weight: torch.Tensor
    epsilon: float


def project(
    x: torch.Tensor, projections: Sequence[Projection], residual: torch.Tensor | None = None, norm: Norm | None = None
) -> tuple[torch.Tensor, ...]:
    """Apply linear layers to the input x [tokens, inputs] that they share, normed before if there is a norm.

    Returns:
        [tokens, outputs] of each layer; a residual is added to that of a single layer.
    """
    params = lora_params(projections)
    outputs: tuple[torch.Tensor, ...] = _Project.apply(x, residual, norm, tuple(projections), *params)
    return outputs


class _Project(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    @staticmethod
    def forward(ctx: Any, x: Any, residual: Any, norm: Any, projections: Any, *_: Any) -> tuple[Any, ...]:
        normed = x if norm is None else elementwise.normalise(x, *norm)[0]
        outputs, hidden = linear_forward(normed, projections, residual)
        ctx.save_for_backward(x, hidden)
        ctx.projections, ctx.norm, ctx.residual = projections, norm, residual is not None
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        x, hidden = ctx.saved_tensors
        normed, inverse = (x, None) if ctx.norm is None else elementwise.normalise(x, *ctx.norm)
        grad_x, trained = linear_backward(normed, grads, ctx.projections, hidden, needs_x=bool(ctx.needs_input_grad[0]))
        if ctx.norm is not None and grad_x is not None:
            grad_x = elementwise.normalise_backward(grad_x, x, ctx.norm.weight, inverse)
        return grad_x, grads[0] if ctx.residual else None, None, None, *trained


def mlp(x: torch.Tensor, norm: Norm, gate: Projection, up: Projection, down: Projection) -> torch.Tensor:
    """A decoder layer's second half: ``x + down(silu(gate(norm(x))) * up(norm(x)))`` of x [tokens, size]."""
    output: torch.Tensor = _Mlp.apply(x, norm, (gate, up), (down,), *lora_params((gate, up, down)))
    return output


class _Mlp(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    @staticmethod
    def forward(ctx: Any, x: Any, norm: Any, into: Any, out: Any, *_: Any) -> Any:
        normed, _ = elementwise.normalise(x, *norm)
        (gate, up), hidden_in = linear_forward(normed, into)
        (output,), hidden_out = linear_forward(elementwise.swiglu(gate, up), out, x)
        ctx.save_for_backward(x, gate, up, hidden_in, hidden_out)
        ctx.norm, ctx.into, ctx.out = norm, into, out
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        x, gate, up, hidden_in, hidden_out = ctx.saved_tensors
        product = elementwise.swiglu(gate, up)
        grad: Any
        grad, trained_out = linear_backward(product, grads, ctx.out, hidden_out, needs_x=True)
        grads_in = elementwise.swiglu_backward(grad, gate, up)
        normed, inverse = elementwise.normalise(x, *ctx.norm)
        grad_x: Any
        grad_x, trained_in = linear_backward(
            normed, grads_in, ctx.into, hidden_in, needs_x=bool(ctx.needs_input_grad[0])
        )
        if grad_x is not None:
            grad_x = elementwise.normalise_backward(grad_x, x, ctx.norm.weight, inverse).add_(grads[0])
        return grad_x, None, None, None, *trained_in, *trained_out


def rms_norm(x: torch.Tensor, norm: Norm) -> torch.Tensor:
    """`elementwise.normalise` of [..., size], with its backward pass."""
    output: torch.Tensor = _RmsNorm.apply(x, norm)
    return output


class _RmsNorm(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    @staticmethod
    def forward(ctx: Any, x: Any, norm: Any) -> Any:
        normed, inverse = elementwise.normalise(x, *norm)
        ctx.save_for_backward(x, inverse)
        ctx.norm = norm
        return normed

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        x, inverse = ctx.saved_tensors
        return elementwise.normalise_backward(grads[0], x, ctx.norm.weight, inverse), None
