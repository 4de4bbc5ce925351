"""The parts of a decoder layer with backward passes of their own.

Only LoRA's own weights are trained, so a backward pass needs the gradient of the inputs and of two thin matrices a
layer, nothing else. Written out, that is about half of the memory passes which autograd makes of the same formulas.
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


def project(
    x: torch.Tensor, projections: Sequence[Projection], residual: torch.Tensor | None = None
) -> tuple[torch.Tensor, ...]:
    """Apply linear layers that share their input.

    Args:
        x: [tokens, inputs].
        projections: The layers.
        residual: Added to the output; for a single layer only.

    Returns:
        [tokens, outputs] of each layer.
    """
    thin = [part for projection in projections for part in (projection.down, projection.up)]
    outputs: tuple[torch.Tensor, ...] = _Project.apply(x, residual, tuple(projections), *thin)
    return outputs


class _Project(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    @staticmethod
    def forward(ctx: Any, x: Any, residual: Any, projections: Any, *thin: Any) -> tuple[Any, ...]:
        downs = [down for down in thin[::2] if down is not None]
        down: Any = torch.cat(downs).to(x.dtype) if downs else None
        hidden: Any = x @ down.t() if downs else None
        outputs = []
        ups: list[Any] = []
        at = 0
        for projection, up in zip(projections, thin[1::2], strict=True):
            weight = projection.weight(x.dtype)
            output = x @ weight.t() if residual is None else torch.addmm(residual, x, weight.t())
            if projection.layer.bias is not None:
                output += projection.layer.bias
            if up is not None:
                ups.append((up * projection.scale).to(x.dtype))
                output.addmm_(hidden[:, at : at + up.shape[1]], ups[-1].t())
                at += up.shape[1]
            outputs.append(output)
        ctx.save_for_backward(x, hidden, down, *ups)
        ctx.projections, ctx.residual = projections, residual is not None
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        x, hidden, down, *ups = ctx.saved_tensors
        grad_x: Any = None
        thin: list[Any] = []
        grad_hidden: Any = torch.empty_like(hidden) if hidden is not None else None
        at = 0
        for projection, grad in zip(ctx.projections, grads, strict=True):
            if ctx.needs_input_grad[0]:
                weight = projection.weight(x.dtype)
                grad_x = grad @ weight if grad_x is None else grad_x.addmm_(grad, weight)
            if projection.up is None:
                thin += [None, None]
                continue
            up = ups.pop(0)
            part = slice(at, at + up.shape[1])
            at += up.shape[1]
            grad_hidden[:, part] = grad @ up
            grad_up = (hidden[:, part].t() @ grad).t()
            thin += [part, grad_up.to(projection.up.dtype) * projection.scale]
        if grad_hidden is not None:
            if grad_x is not None:
                grad_x.addmm_(grad_hidden, down)
            grad_down = (grad_hidden.t() @ x).to(torch.float32)
            thin = [
                grad_down[part].to(ctx.projections[index // 2].down.dtype) if isinstance(part, slice) else part
                for index, part in enumerate(thin)
            ]
        return grad_x, grads[0] if ctx.residual else None, None, *thin


def rms_norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Normalise by the root mean square, as Llama does: in fp32, rounded, then times a frozen weight.

    Args:
        x: [..., size].
        weight: [size], frozen.
        epsilon: Added to the mean square.

    Returns:
        The normalised `x`.
    """
    output: torch.Tensor = _RmsNorm.apply(x, weight, epsilon)
    return output


class _RmsNorm(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, epsilon: float) -> Any:
        wide = x.float()
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        inverse = norm.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        wide = wide.mul_(inverse) if wide is not x else wide * inverse
        return wide.to(x.dtype).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        x, weight, inverse = ctx.saved_tensors
        wide = (grads[0] * weight).float()
        wide_x = x.float()
        # d/dx of x * inverse(x): the gradient times inverse, less its part along x
        along = torch.linalg.vecdot(wide, wide_x).unsqueeze(-1) * inverse.pow(3).div_(-x.shape[-1])
        return (wide * inverse).addcmul_(wide_x, along).to(x.dtype), None, None


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Apply rotary position embedding and bring the heads to the front.

    Args:
        x: [tokens, heads, size].
        cos: [tokens, size / 2].
        sin: [tokens, size / 2].

    Returns:
        [heads, tokens, size].
    """
    output: torch.Tensor = _Rotate.apply(x, cos, sin)
    return output


class _Rotate(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    @staticmethod
    def forward(ctx: Any, x: Any, cos: Any, sin: Any) -> Any:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos.unsqueeze(1), sin.unsqueeze(1), x.new_empty(x.shape[1], x.shape[0], x.shape[2]), 1)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        cos, sin = ctx.saved_tensors
        (grad,) = grads
        out = grad.new_empty(grad.shape[1], grad.shape[0], grad.shape[2])
        return _turn(grad, cos, sin, out, -1), None, None


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, out: torch.Tensor, way: int) -> torch.Tensor:
    """Turn each pair (i, i + size / 2) of `x` by its angle, forward or back, into `out` with the first axes swapped."""
    half = x.shape[2] // 2
    left, right = x[..., :half], x[..., half:]
    swapped = out.transpose(0, 1)
    swapped[..., :half] = (left * cos).addcmul_(right, sin, value=-way)
    swapped[..., half:] = (right * cos).addcmul_(left, sin, value=way)
    return out


def gated(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """SwiGLU's middle: silu(gate) * up.

    Args:
        gate: [tokens, size].
        up: [tokens, size].

    Returns:
        [tokens, size].
    """
    output: torch.Tensor = _Gated.apply(gate, up)
    return output


class _Gated(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    @staticmethod
    def forward(ctx: Any, gate: Any, up: Any) -> Any:
        ctx.save_for_backward(gate, up)
        return torch.nn.functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        gate, up = ctx.saved_tensors
        (grad,) = grads
        grad_up = torch.nn.functional.silu(gate).mul_(grad)
        return torch.ops.aten.silu_backward(grad * up, gate), grad_up
