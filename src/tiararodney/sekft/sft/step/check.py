"""Before a run: are two sessions in one row what each is alone through the plain model?"""

import logging
from collections.abc import Sequence
from typing import Any

import torch

from tiararodney.sekft.errors import RunFailed
from tiararodney.sekft.render import Example
from tiararodney.sekft.sft.step.attention import usable_kernels, use_kernel
from tiararodney.sekft.sft.step.forward import Route, row_loss
from tiararodney.sekft.sft.step.loss import Loss, concatenate
from tiararodney.sekft.sft.step.pack import pack_row

log = logging.getLogger(__name__)

TOKENS = 64  # of each of the two sessions
# Largest relative difference of the losses, and of the gradients. In 16 bits two orders of the same sums differ by
# several percent; another session's context, or a kernel that is wrong, by far more.
EXACT, ROUNDED = (1e-3, 1e-2), (0.1, 0.3)


def check_packing(
    model: Any, adapter: str, parameters: Sequence[torch.nn.Parameter], examples: Sequence[Example], route: Route
) -> None:
    """Compare two short sessions in one row with each alone through transformers' own forward.

    On CUDA the kernels of the fused layers' attention are tried in turn; the first that agrees is used from now on.

    Args:
        model: The causal language model with the LoRA layers active, in eval mode.
        adapter: Name of the adapter that is trained.
        parameters: The adapter's weights.
        examples: Where the sessions are taken from: the starts of the two shortest.
        route: How rows go through the model.

    Raises:
        RunFailed: They differ beyond rounding; it names the family.
    """
    shortest = sorted(examples, key=lambda example: len(example.input_ids))[:2]
    pair = [_start(example) for example in (shortest * 2)[:2]]
    alone = concatenate([row_loss(model, pack_row([one]), adapter, route=Route.SINGLE) for one in pair])
    expected = alone.nll, _gradient(alone, parameters)
    reasons = []
    kernels = usable_kernels(model.device.type, model.dtype) if route is Route.FUSED else [""]
    for kernel in kernels:
        use_kernel(model.device.type, kernel or None)
        reason = _difference(model, adapter, parameters, pair, route, expected)
        if reason is None:
            log.info("rows go through %s%s", route.value, f", attention by {kernel}" if kernel else "")
            return
        reasons.append(f"{kernel}: {reason}" if kernel else reason)
        log.debug("rejected: %s", reasons[-1])
    raise RunFailed(
        f"{model.config.model_type}: two sessions in one row are not what each is alone ({'; '.join(reasons)}), by "
        f"{route.value}. Give --no-packing to train one session at a time."
    )


def _start(example: Example) -> Example:
    """The first tokens of an example, all of them trained: what leaks shows at the first ones."""
    ids = example.input_ids[:TOKENS]
    return Example(ids, [-100, *ids[1:]])


def _gradient(loss: Loss, parameters: Sequence[torch.nn.Parameter]) -> torch.Tensor:
    grads = torch.autograd.grad(loss.total, parameters, allow_unused=True)
    return torch.cat([grad.float().flatten() for grad in grads if grad is not None])


def _difference(
    model: Any, adapter: str, parameters: Sequence[torch.nn.Parameter], pair: Sequence[Example], route: Route,
    expected: tuple[torch.Tensor, torch.Tensor],
) -> str | None:  # fmt: skip
    """What is off by more than rounding; None where nothing is."""
    try:
        packed = row_loss(model, pack_row(pair), adapter, route=route)
        found = packed.nll, _gradient(packed, parameters)
    except (RuntimeError, NotImplementedError, ImportError, AttributeError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    limits = EXACT if model.dtype == torch.float32 else ROUNDED
    for name, right, got, limit in zip(("loss", "gradient"), expected, found, limits, strict=True):
        if right.shape != got.shape:
            return f"{name} of shape {tuple(got.shape)}, expected {tuple(right.shape)}"
        off = float((right - got).norm() / right.norm().clamp_min(1e-12))
        if not off <= limit:  # NaN is not
            return f"{name} off by {off:.2g}"
    return None
