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

from tiararodney.sekft.sft.step import linear
from tiararodney.sekft.sft.step.buffers import Block, new
from tiararodney.sekft.sft.step.linear import Projection


@dataclass(frozen=True)
class Norm:
    """A norm by the root mean square, frozen.

    Attributes:
        weight: [size].
        epsilon: Added to the mean square.
    """

    weight: torch.Tensor
    epsilon: float


def project(
    x: torch.Tensor,
    projections: Sequence[Projection],
    residual: torch.Tensor | None = None,
    norm: Norm | None = None,
    block: Block | None = None,
    *,
    passing: int = 0,
) -> tuple[torch.Tensor, ...]:
    """Apply linear layers that share their input.

    Args:
        x: [tokens, inputs].
        projections: The layers.
        residual: Added to the output; for a single layer only.
        norm: Applied to `x` before.
        block: Where what the backward pass needs is kept, and the outputs.
        passing: How many of the outputs, counted from the first, no backward pass will need: they lie elsewhere.

    Returns:
        [tokens, outputs] of each layer.
    """
    given = linear.thin(projections)
    outputs: tuple[torch.Tensor, ...] = _Project.apply(x, residual, norm, tuple(projections), block, passing, *given)
    return outputs


class _Project(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    @staticmethod
    def forward(
        ctx: Any, x: Any, residual: Any, norm: Any, projections: Any, block: Any, passing: Any, *_: Any
    ) -> tuple[Any, ...]:
        inverse = None if norm is None else _inverse(x, norm)
        rooms = [None] * passing + [_room(block, x, projection) for projection in projections[passing:]]
        outputs, hidden = linear.forward(
            x if norm is None else _normed(x, inverse, norm), projections, residual, rooms, _thin(block, x, projections)
        )
        ctx.save_for_backward(x, inverse, hidden)
        ctx.projections, ctx.norm, ctx.residual = projections, norm, residual is not None
        ctx.block = block  # lives as long as the graph at least
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        x, inverse, hidden = ctx.saved_tensors
        taken = x if ctx.norm is None else _normed(x, inverse, ctx.norm)
        grad_x, trained = linear.backward(taken, grads, ctx.projections, hidden, needs_x=bool(ctx.needs_input_grad[0]))
        if ctx.norm is not None and grad_x is not None:
            grad_x = _norm_back(grad_x, x, inverse, ctx.norm)
        return grad_x, grads[0] if ctx.residual else None, None, None, None, None, *trained


def mlp(
    x: torch.Tensor, norm: Norm, gate: Projection, up: Projection, down: Projection, block: Block | None = None
) -> torch.Tensor:
    """A decoder layer's second half: norm, SwiGLU, residual.

    Args:
        x: [tokens, size].
        norm: Applied to `x` before.
        gate: To the factor that goes through SiLU.
        up: To the other factor.
        down: Back to the layer's size.
        block: Where what the backward pass needs is kept, and the output.

    Returns:
        [tokens, size]: ``x + down(silu(gate(norm(x))) * up(norm(x)))``.
    """
    output: torch.Tensor = _Mlp.apply(x, norm, (gate, up), (down,), block, *linear.thin((gate, up, down)))
    return output


class _Mlp(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    @staticmethod
    def forward(ctx: Any, x: Any, norm: Any, into: Any, out: Any, block: Any, *_: Any) -> Any:
        inverse = _inverse(x, norm)
        rooms = [_room(block, x, projection) for projection in into]
        (gate, up), hidden_in = linear.forward(_normed(x, inverse, norm), into, None, rooms, _thin(block, x, into))
        product = torch.nn.functional.silu(gate).mul_(up)
        (output,), hidden_out = linear.forward(product, out, x, [_room(block, x, out[0])], _thin(block, x, out))
        ctx.save_for_backward(x, inverse, gate, up, hidden_in, hidden_out)
        ctx.norm, ctx.into, ctx.out = norm, into, out
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        x, inverse, gate, up, hidden_in, hidden_out = ctx.saved_tensors
        risen = torch.nn.functional.silu(gate)
        grad: Any
        grad, trained_out = linear.backward(risen * up, grads, ctx.out, hidden_out, needs_x=True)
        grad_up = risen.mul_(grad)
        grad_gate = torch.ops.aten.silu_backward(grad.mul_(up), gate)
        grad_x: Any
        grad_x, trained_in = linear.backward(
            _normed(x, inverse, ctx.norm),
            (grad_gate, grad_up),
            ctx.into,
            hidden_in,
            needs_x=bool(ctx.needs_input_grad[0]),
        )
        if grad_x is not None:
            grad_x = _norm_back(grad_x, x, inverse, ctx.norm).add_(grads[0])
        return grad_x, None, None, None, None, *trained_in, *trained_out


def _room(block: Block | None, x: torch.Tensor, projection: Projection) -> torch.Tensor | None:
    """Where a projection of `x` is kept: [tokens, outputs]."""
    return None if block is None else block.new(len(x), projection.layer.out_features)


def _thin(block: Block | None, x: torch.Tensor, projections: Sequence[Projection]) -> torch.Tensor | None:
    """Where the product of `x` with LoRA's A of some layers is kept: [tokens, ranks]."""
    ranks = linear.ranks(projections)
    return None if block is None or not ranks else block.new(len(x), ranks)


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
        inverse = _inverse(x, norm)
        ctx.save_for_backward(x, inverse)
        ctx.norm = norm
        return _normed(x, inverse, norm)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        x, inverse = ctx.saved_tensors
        return _norm_back(grads[0], x, inverse, ctx.norm), None


def _inverse(x: torch.Tensor, norm: Norm) -> torch.Tensor:
    """One over the root of the mean square and epsilon: [..., 1], fp32."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return length.square_().div_(x.shape[-1]).add_(norm.epsilon).rsqrt_()


def _normed(x: torch.Tensor, inverse: torch.Tensor, norm: Norm) -> torch.Tensor:
    return (x * inverse).to(x.dtype).mul_(norm.weight)


def _norm_back(grad: torch.Tensor, x: torch.Tensor, inverse: torch.Tensor, norm: Norm) -> torch.Tensor:
    wide = (grad * norm.weight).float()
    wide_x = x.float()
    # d/dx of x * inverse(x): the gradient times inverse, less its part along x
    along = torch.linalg.vecdot(wide, wide_x).unsqueeze(-1) * inverse.pow(3).div_(-x.shape[-1])
    return (wide * inverse).addcmul_(wide_x, along).to(x.dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, block: Block | None = None) -> torch.Tensor:
    """Apply rotary position embedding and bring the heads to the front.

    Args:
        x: [tokens, heads, size].
        cos: [tokens, size / 2].
        sin: [tokens, size / 2].
        block: Where the output is kept.

    Returns:
        [heads, tokens, size].
    """
    output: torch.Tensor = _Rotate.apply(x, cos, sin, block)
    return output


class _Rotate(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    @staticmethod
    def forward(ctx: Any, x: Any, cos: Any, sin: Any, block: Any) -> Any:
        ctx.save_for_backward(cos, sin)
        out = new(block, x, x.shape[1], x.shape[0], x.shape[2])
        return _turn(x, cos.unsqueeze(1), sin.unsqueeze(1), out, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        cos, sin = ctx.saved_tensors
        (grad,) = grads
        out = grad.new_empty(grad.shape[1], grad.shape[0], grad.shape[2])
        return _turn(grad, cos, sin, out, -1), None, None, None


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, out: torch.Tensor, way: int) -> torch.Tensor:
    """Turn each pair (i, i + size / 2) of `x` by its angle, forward or back, into `out` with the first axes swapped."""
    half = x.shape[2] // 2
    left, right = x[..., :half], x[..., half:]
    swapped = out.transpose(0, 1)
    swapped[..., :half] = (left * cos).addcmul_(right, sin, value=-way)
    swapped[..., half:] = (right * cos).addcmul_(left, sin, value=way)
    return out
