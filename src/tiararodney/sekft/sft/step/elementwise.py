"""The elementwise parts of a decoder layer, forward and backward: compiled on CUDA, plain operations elsewhere.

In eager mode each operation reads and writes whole tensors: for a Mistral-7B row of 8,192 tokens 359 GB move where 102
would do. `torch.compile` fuses each function below into one kernel, for rows of any length. On the CPU the products
take nearly all of the time, and compiling needs a C++ compiler.
"""

import logging
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import torch

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


def fused(function: Callable[P, T]) -> Callable[P, T]:
    """Compile a function of tensors when its first argument lies on CUDA and torch can compile there."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        x: Any = args[0]
        chosen = _compiled(function) if x.is_cuda and can_compile(x.device.type) else function
        return chosen(*args, **kwargs)

    return call


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    compiled: Callable[..., Any] = torch.compile(function, dynamic=True, fullgraph=True)
    return compiled


@cache
def can_compile(device: str) -> bool:
    """Tell whether torch can compile for "cuda" or "cpu" (Triton, a C compiler); tried once, a failure is logged."""
    try:
        _compiled(_probe)(torch.ones(8, device=device))
    except Exception as error:  # noqa: BLE001 - each part of the way to a kernel has errors of its own
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        log.warning(
            "torch cannot compile for %s: %s. Training is slower; install triton and a C compiler", device, first
        )
        return False
    return True


def _probe(x: torch.Tensor) -> torch.Tensor:
    return (x.sin() + 1).cos()


@fused
def normalise(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
    """RMSNorm of x [..., size] as Llama computes it: in fp32, rounded, then times the weight [size].

    Returns:
        The normalised `x`, and one over its root mean square: [..., 1], fp32.
    """
    wide = x.float()
    inverse = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return (wide * inverse).to(x.dtype) * weight, inverse


@fused
def normalise_backward(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, inverse: torch.Tensor
) -> torch.Tensor:
    """The gradient of the input of `normalise` from that of its output: times `inverse`, less its part along `x`."""
    wide, wide_x = (grad * weight).float(), x.float()
    along = (wide * wide_x).sum(-1, keepdim=True) * inverse.pow(3) / -x.shape[-1]
    return (wide * inverse + wide_x * along).to(x.dtype)


@fused
def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding: turn each pair (i, i + size / 2) of x [tokens, heads, size] by its angle.

    Autograd keeps nothing of it but `cos` and `sin` [tokens, 1, size / 2], which all layers share.
    """
    left, right = x.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


@fused
def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """``silu(gate) * up``."""
    return torch.nn.functional.silu(gate) * up


@fused
def swiglu_backward(grad: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of `gate` and `up`."""
    return torch.ops.aten.silu_backward(grad * up, gate), grad * torch.nn.functional.silu(gate)
