"""The language-model head and the loss, at trained positions only and without ever holding all logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

# Positions whose logits exist at the same time. A small model's take 0.4 MB each in their three forms, and 64 of them
# keep a core as busy as more; an accelerator wants larger products.
CHUNK = {"cpu": 64, "cuda": 1024}


@dataclass(frozen=True)
class Loss:
    """The loss of some positions, and statistics of their predictions.

    Attributes:
        total: Weighted sum of the negative log likelihoods (nats), differentiable.
        nll: [positions]: each position's negative log likelihood, unweighted, detached.
        correct: [positions]: whether the most likely token is the target.
        probe_mass: [positions]: the probability of all probed tokens together; None where none were asked for.
    """

    total: torch.Tensor
    nll: torch.Tensor
    correct: torch.Tensor
    probe_mass: torch.Tensor | None = None


def concatenate(losses: Sequence[Loss]) -> Loss:
    """Join the losses of consecutive positions: at least one, all with `probe_mass` or all without."""
    masses = [loss.probe_mass for loss in losses if loss.probe_mass is not None]
    return Loss(
        total=torch.stack([loss.total for loss in losses]).sum(),
        nll=torch.cat([loss.nll for loss in losses]),
        correct=torch.cat([loss.correct for loss in losses]),
        probe_mass=torch.cat(masses) if masses else None,
    )


def head_loss(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    probe_ids: torch.Tensor | None = None,
) -> Loss:
    """Loss of the head's predictions. The gradient of the hidden states is made along the way.

    Args:
        hidden: [positions, size], after the last norm.
        weight: The head's weight [vocabulary, size], frozen.
        targets: [positions].
        weights: [positions], fp32: each position's weight in the loss.
        probe_ids: Ids of tokens whose joint probability is wanted at each position.
    """
    nll = torch.zeros(len(targets), dtype=torch.float32, device=hidden.device)
    correct = torch.zeros(len(targets), dtype=torch.bool, device=hidden.device)
    mass = None if probe_ids is None else torch.zeros_like(nll)
    total = _HeadLoss.apply(hidden, weight, targets, weights, probe_ids, (nll, correct, mass))
    return Loss(total, nll, correct, mass)


def logits_loss(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, probe_ids: torch.Tensor | None = None
) -> Loss:
    """The same from logits [positions, vocabulary], differentiable through them by autograd; see `head_loss`."""
    nll = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    mass = None if probe_ids is None else logits.detach().float().softmax(dim=-1)[:, probe_ids].sum(dim=-1)
    return Loss((nll * weights).sum(), nll.detach(), logits.argmax(dim=-1) == targets, mass)


class _HeadLoss(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any, targets: Any, weights: Any, probe_ids: Any, seen: Any) -> Any:
        nll, correct, mass = seen  # filled
        grad = torch.empty_like(hidden)
        chunk = CHUNK.get(hidden.device.type, CHUNK["cuda"])
        for begin in range(0, len(targets), chunk):
            part = slice(begin, begin + chunk)
            target = targets[part].unsqueeze(1)
            chances = torch.log_softmax(hidden[part] @ weight.t(), dim=-1, dtype=torch.float32)
            nll[part] = -chances.gather(1, target).squeeze(1)
            correct[part] = chances.argmax(dim=-1) == targets[part]
            if mass is not None:
                mass[part] = chances[:, probe_ids].exp().sum(dim=-1)
            if not ctx.needs_input_grad[0]:
                continue
            chances.exp_().scatter_add_(1, target, chances.new_full((), -1.0).expand(target.shape))
            grad[part] = chances.mul_(weights[part].unsqueeze(1)).to(hidden.dtype) @ weight
        ctx.save_for_backward(grad)
        return (nll * weights).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        (grad,) = ctx.saved_tensors
        return grad * grads[0], None, None, None, None, None
