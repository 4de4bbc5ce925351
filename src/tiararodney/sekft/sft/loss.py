"""The language-model head and the loss, at trained positions only and without ever holding all logits."""

from dataclasses import dataclass
from typing import Any

import torch

CHUNK = 128  # positions whose logits exist at the same time


@dataclass(frozen=True)
class Loss:
    """The loss of some positions.

    Attributes:
        total: Sum of the negative log likelihoods (nats), differentiable.
        hits: Positions whose most likely token is the target.
    """

    total: torch.Tensor
    hits: int


def head_loss(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> Loss:
    """Loss of the head's predictions. The gradient of the hidden states is made along the way.

    Args:
        hidden: [positions, size], after the last norm.
        weight: The head's weight [vocabulary, size], frozen.
        targets: [positions].

    Returns:
        The loss.
    """
    hits: list[int] = []
    total = _HeadLoss.apply(hidden, weight, targets, hits)
    return Loss(total, sum(hits))


class _HeadLoss(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any, targets: Any, hits: list[int]) -> Any:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad = torch.empty_like(hidden)
        for begin in range(0, len(targets), CHUNK):
            part = slice(begin, begin + CHUNK)
            target = targets[part].unsqueeze(1)
            chances = torch.log_softmax(hidden[part] @ weight.t(), dim=-1, dtype=torch.float32)
            total -= chances.gather(1, target).sum()
            hits.append(int((chances.argmax(dim=-1, keepdim=True) == target).sum()))
            chances.exp_().scatter_add_(1, target, chances.new_full((), -1.0).expand(target.shape))
            grad[part] = chances.to(hidden.dtype) @ weight
        ctx.save_for_backward(grad)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        (grad,) = ctx.saved_tensors
        return grad * grads[0], None, None, None
