"""Before a run: are two sessions in one row what each is alone through the plain model?"""

import logging
from collections.abc import Sequence
from typing import Any

import torch

from tiararodney.sekft.errors import RunFailed
from tiararodney.sekft.render import Example
from tiararodney.sekft.sft.step import attention
from tiararodney.sekft.sft.step.forward import Route, choose_route, row_loss
from tiararodney.sekft.sft.step.loss import Loss, concatenate
from tiararodney.sekft.sft.step.pack import pack_row

log = logging.getLogger(__name__)

TOKENS = 64  # of each of the two sessions
# Largest relative difference of the losses, and of the gradients. In 16 bits two orders of the same sums differ by
# several percent; another session's context, or a kernel that is wrong, by far more.
EXACT, ROUNDED = (1e-3, 1e-2), (0.1, 0.3)


def settle_route(
    model: Any,
    adapter: str,
    parameters: Sequence[torch.nn.Parameter],
    examples: Sequence[Example],
    *,
    packing: bool = True,
) -> Route:
    """Choose how rows go through a model, and compare two short sessions in one row with each alone.

    On CUDA the kernels of the fused layers' attention are tried in turn; the first that agrees is used from now on.
    Where transformers' own forward does not keep the sessions of a row apart, they go one at a time: which families
    make their masks without looking at positions shows only when they run.

    Args:
        model: The causal language model with the LoRA layers active, in eval mode.
        adapter: Name of the adapter that is trained.
        parameters: The adapter's weights.
        examples: Where the sessions are taken from: the starts of the two shortest.
        packing: Whether sessions may share a row.

    Raises:
        RunFailed: The fused layers differ from transformers' beyond rounding; it names the family.
    """
    route, family = choose_route(model, packing), model.config.model_type
    reason = None if route is Route.SINGLE else compare(model, adapter, parameters, examples, route)
    if reason is not None and route is Route.FUSED:
        raise RunFailed(
            f"{family}: two sessions in one row are not what each is alone, by {route.value}: {reason}. "
            "Give --no-packing to train one session at a time."
        )
    if reason is not None:
        log.warning("%s: transformers mixes up the sessions of a row (%s): they go one at a time", family, reason)
        route = Route.SINGLE
    log.info("micro-batches go through %s", route.value)
    return route


def compare(
    model: Any, adapter: str, parameters: Sequence[torch.nn.Parameter], examples: Sequence[Example], route: Route
) -> str | None:
    """Compare two short sessions in one row, taken by a route, with each alone through transformers' own forward.

    Returns:
        What is off by more than rounding; None where nothing is. See `settle_route` for the arguments.
    """
    shortest = sorted(examples, key=lambda example: len(example.input_ids))[:2]
    pair = [_start(example) for example in (shortest * 2)[:2]]
    alone = concatenate([row_loss(model, pack_row([one]), adapter, route=Route.SINGLE) for one in pair])
    expected = alone.nll, _gradient(alone, parameters)
    reasons = []
    for kernel in attention.usable_kernels(model.device.type, model.dtype) if route is Route.FUSED else [""]:
        attention.chosen[model.device.type] = kernel
        reason = _difference(model, adapter, parameters, pair, route, expected)
        if reason is None:
            if kernel:
                log.info("attention by %s", kernel)
            return None
        reasons.append(f"{kernel}: {reason}" if kernel else reason)
        log.debug("rejected: %s", reasons[-1])
    return "; ".join(reasons)


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
