"""The parts of a decoder layer with backward passes of their own.

Written out for frozen weights with LoRA, a layer takes about half of the memory passes that autograd makes of the same
formulas. What is cheap to have again is not kept for the backward pass: the normed input of a projection is one
multiplication away from the input, SwiGLU's product one away from its factors. That leaves two thirds of what the
layer would hold for each token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tiararodney.sekft.sft.step import elementwise, linear
from tiararodney.sekft.sft.step.linear import Projection


@dataclass(frozen=True)
class Norm:
    """A frozen RMSNorm.

    Attributes:
        weight: [size].
        epsilon: Added to the mean square.
    """

    weight: torch.Tensor
    epsilon: float


def project(
    x: torch.Tensor, projections: Sequence[Projection], residual: torch.Tensor | None = None, norm: Norm | None = None
) -> tuple[torch.Tensor, ...]:
    """Apply linear layers that share their input.

    Args:
        x: [tokens, inputs].
        projections: The layers.
        residual: Added to the output; for a single layer only.
        norm: Applied to `x` before.

    Returns:
        [tokens, outputs] of each layer.
    """
    params = linear.lora_params(projections)
    outputs: tuple[torch.Tensor, ...] = _Project.apply(x, residual, norm, tuple(projections), *params)
    return outputs


class _Project(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    @staticmethod
    def forward(ctx: Any, x: Any, residual: Any, norm: Any, projections: Any, *_: Any) -> tuple[Any, ...]:
        normed, inverse = (x, None) if norm is None else elementwise.normalise(x, norm.weight, norm.epsilon)
        outputs, hidden = linear.forward(normed, projections, residual)
        ctx.save_for_backward(x, inverse, hidden)
        ctx.projections, ctx.norm, ctx.residual = projections, norm, residual is not None
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        x, inverse, hidden = ctx.saved_tensors
        normed = x if ctx.norm is None else elementwise.normalise_again(x, ctx.norm.weight, inverse)
        grad_x, trained = linear.backward(normed, grads, ctx.projections, hidden, needs_x=bool(ctx.needs_input_grad[0]))
        if ctx.norm is not None and grad_x is not None:
            grad_x = elementwise.normalise_backward(grad_x, x, ctx.norm.weight, inverse)
        return grad_x, grads[0] if ctx.residual else None, None, None, *trained


def mlp(x: torch.Tensor, norm: Norm, gate: Projection, up: Projection, down: Projection) -> torch.Tensor:
    """A decoder layer's second half: norm, SwiGLU, residual.

    Args:
        x: [tokens, size].
        norm: Applied to `x` before.
        gate: To the factor that goes through SiLU.
        up: To the other factor.
        down: Back to the layer's size.

    Returns:
        [tokens, size]: ``x + down(silu(gate(norm(x))) * up(norm(x)))``.
    """
    output: torch.Tensor = _Mlp.apply(x, norm, (gate, up), (down,), *linear.lora_params((gate, up, down)))
    return output


class _Mlp(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    @staticmethod
    def forward(ctx: Any, x: Any, norm: Any, into: Any, out: Any, *_: Any) -> Any:
        normed, inverse = elementwise.normalise(x, norm.weight, norm.epsilon)
        (gate, up), hidden_in = linear.forward(normed, into)
        (output,), hidden_out = linear.forward(elementwise.swiglu(gate, up), out, x)
        ctx.save_for_backward(x, inverse, gate, up, hidden_in, hidden_out)
        ctx.norm, ctx.into, ctx.out = norm, into, out
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        x, inverse, gate, up, hidden_in, hidden_out = ctx.saved_tensors
        product = elementwise.swiglu(gate, up)
        grad: Any
        grad, trained_out = linear.backward(product, grads, ctx.out, hidden_out, needs_x=True)
        grads_in = elementwise.swiglu_backward(grad, gate, up)
        normed = elementwise.normalise_again(x, ctx.norm.weight, inverse)
        grad_x: Any
        grad_x, trained_in = linear.backward(
            normed, grads_in, ctx.into, hidden_in, needs_x=bool(ctx.needs_input_grad[0])
        )
        if grad_x is not None:
            grad_x = elementwise.normalise_backward(grad_x, x, ctx.norm.weight, inverse).add_(grads[0])
        return grad_x, None, None, None, *trained_in, *trained_out


def rms_norm(x: torch.Tensor, norm: Norm) -> torch.Tensor:
    """Normalise by the root mean square, as Llama does: in fp32, rounded, then times a frozen weight.

    Args:
        x: [..., size].
        norm: What by.

    Returns:
        The normalised `x`.
    """
    output: torch.Tensor = _RmsNorm.apply(x, norm)
    return output


class _RmsNorm(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    @staticmethod
    def forward(ctx: Any, x: Any, norm: Any) -> Any:
        normed, inverse = elementwise.normalise(x, norm.weight, norm.epsilon)
        ctx.save_for_backward(x, inverse)
        ctx.norm = norm
        return normed

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        x, inverse = ctx.saved_tensors
        return elementwise.normalise_backward(grads[0], x, ctx.norm.weight, inverse), None


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Apply rotary position embedding.

    Args:
        x: [tokens, heads, size].
        cos: [tokens, 1, size / 2].
        sin: The same shape.

    Returns:
        [tokens, heads, size].
    """
    output: torch.Tensor = _Rotate.apply(x, cos, sin)
    return output


class _Rotate(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    @staticmethod
    def forward(ctx: Any, x: Any, cos: Any, sin: Any) -> Any:
        ctx.save_for_backward(cos, sin)
        return elementwise.rotate(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        cos, sin = ctx.saved_tensors
        return elementwise.rotate(grads[0], cos, -sin), None, None
