"""The language-model head and the loss, at trained positions only and without ever holding all logits."""

from dataclasses import dataclass
from typing import Any

import torch

# Positions whose logits exist at the same time. A small model's take 0.4 MB each in their three forms, and 64 of them
# keep a core as busy as more; an accelerator wants larger products.
CHUNK = {"cpu": 64, "cuda": 1024}


@dataclass(frozen=True)
class Loss:
    """The loss of some positions, and what else their predictions tell.

    Attributes:
        total: Sum of the weighted negative log likelihoods (nats), differentiable.
        right: [positions]: whether the most likely token is the target.
        mass: [positions]: the probability of all tokens that were asked for together; None where none were.
    """

    total: torch.Tensor
    right: torch.Tensor
    mass: torch.Tensor | None = None

    @property
    def hits(self) -> int:
        """Positions whose most likely token is the target."""
        return int(self.right.sum())


def head_loss(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    counts: torch.Tensor | None = None,
    asked: torch.Tensor | None = None,
) -> Loss:
    """Loss of the head's predictions. The gradient of the hidden states is made along the way.

    Args:
        hidden: [positions, size], after the last norm.
        weight: The head's weight [vocabulary, size], frozen.
        targets: [positions].
        counts: [positions], fp32: what each position counts; None for 1.
        asked: Ids of tokens whose joint probability is wanted at each position.

    Returns:
        The loss.
    """
    seen: list[tuple[torch.Tensor, torch.Tensor | None]] = []
    total = _HeadLoss.apply(hidden, weight, targets, counts, asked, seen)
    right = torch.cat([right for right, _ in seen]) if seen else torch.zeros(0, dtype=torch.bool)
    mass = torch.cat([mass for _, mass in seen if mass is not None]) if asked is not None and seen else None
    return Loss(total, right, mass)


def logits_loss(
    logits: torch.Tensor, targets: torch.Tensor, counts: torch.Tensor | None = None, asked: torch.Tensor | None = None
) -> Loss:
    """The same from logits that are there, differentiable through them by autograd.

    Args:
        logits: [positions, vocabulary].
        targets: [positions].
        counts: [positions], fp32: what each position counts; None for 1.
        asked: Ids of tokens whose joint probability is wanted at each position.

    Returns:
        The loss.
    """
    each = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    total = each.sum() if counts is None else (each * counts).sum()
    mass = None if asked is None else logits.detach().float().softmax(dim=-1)[:, asked].sum(dim=-1)
    return Loss(total, logits.argmax(dim=-1) == targets, mass)


class _HeadLoss(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any, targets: Any, counts: Any, asked: Any, seen: Any) -> Any:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad = torch.empty_like(hidden)
        chunk = CHUNK.get(hidden.device.type, CHUNK["cuda"])
        for begin in range(0, len(targets), chunk):
            part = slice(begin, begin + chunk)
            target = targets[part].unsqueeze(1)
            chances = torch.log_softmax(hidden[part] @ weight.t(), dim=-1, dtype=torch.float32)
            likelihoods = chances.gather(1, target)
            right = (chances.argmax(dim=-1, keepdim=True) == target).squeeze(1)
            count = None if counts is None else counts[part].unsqueeze(1)
            total -= (likelihoods if count is None else likelihoods * count).sum()
            seen.append((right, None if asked is None else chances[:, asked].exp().sum(dim=-1)))
            if not ctx.needs_input_grad[0]:
                continue
            chances.exp_().scatter_add_(1, target, chances.new_full((), -1.0).expand(target.shape))
            if count is not None:
                chances *= count
            grad[part] = chances.to(hidden.dtype) @ weight
        ctx.save_for_backward(grad)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        (grad,) = ctx.saved_tensors
        return grad * grads[0], None, None, None, None, None
