"""Attention by an accelerator's kernels: over all documents of a row by one, or document by document.

torch brings a variable-length kernel, the package flash-attn another, and each document can go through torch's SDPA.
Which of them runs, and how it aligns a document's causal mask with a past that is longer, differs by version and
device, so none is believed: before its first use it computes a small row on the device at hand, and only if outputs and
gradients are those of `attention.blocked`, which is made of plain operations, is it taken.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from inspect import signature
from typing import Any

import torch
from torch.nn.attention.bias import causal_lower_right

log = logging.getLogger(__name__)

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Sequence[int], int, float], torch.Tensor]
TOLERANCE = 0.05  # of the largest value: bf16 has 8 bits, and the two ways sum in different orders
PROBE_LENGTHS, PROBE_PREFIX = (19, 130, 3), 7


@lru_cache(maxsize=16)
def fastest(device: torch.device, dtype: torch.dtype, heads: int, key_heads: int, size: int) -> Attention | None:
    """Find a kernel that is right on a device.

    Args:
        device: Where the tensors are.
        dtype: Of the tensors.
        heads: Of queries.
        key_heads: Of keys and values.
        size: Of a head.

    Returns:
        The first of flash-attn's, torch's variable-length and torch's SDPA kernels without a `disagreement`, or None;
        none is looked for on the CPU.
    """
    if device.type == "cpu":
        return None
    probe = (device, dtype, heads, key_heads, size)
    for name, kernel in _kernels(dtype):
        reason = disagreement(kernel, *probe)
        if reason is None:
            log.info("attention by %s", name)
            return kernel
        log.info("attention not by %s: %s", name, reason)
    return None


def _kernels(dtype: torch.dtype) -> list[tuple[str, Attention]]:
    found: list[tuple[str, Attention]] = []
    if dtype in (torch.bfloat16, torch.float16):
        if find_spec("flash_attn") is not None:
            found.append(("flash-attn", flash_attn))
        if find_spec("torch.nn.attention.varlen") is not None:
            found.append(("torch's variable-length kernel", torch_varlen))
    return [*found, ("torch's SDPA, document by document", one_by_one)]


def disagreement(
    kernel: Attention, device: torch.device, dtype: torch.dtype, heads: int, key_heads: int, size: int
) -> str | None:
    """Compare a kernel with the attention that is known to be right, on a small row of random values.

    Args:
        kernel: What to try.
        device: Where to.
        dtype: Of the tensors.
        heads: Of queries.
        key_heads: Of keys and values.
        size: Of a head.

    Returns:
        None where outputs and gradients agree, else what is wrong.
    """
    from tiararodney.sekft.sft.step.attention import blocked

    tokens = sum(PROBE_LENGTHS) + PROBE_PREFIX
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        shapes = ((heads, tokens, size), (key_heads, tokens, size), (key_heads, tokens, size), (tokens, heads, size))
        *inputs, weights = (torch.randn(shape, device=device, dtype=dtype) for shape in shapes)
    told = []
    for attend in (blocked, kernel):
        taken = [tensor.clone().requires_grad_() for tensor in inputs]
        try:
            with torch.enable_grad():
                output = attend(taken[0], taken[1], taken[2], PROBE_LENGTHS, PROBE_PREFIX, size**-0.5)
                if output.shape != weights.shape:
                    return f"output of shape {tuple(output.shape)}, expected {tuple(weights.shape)}"
                grads = torch.autograd.grad((output * weights).sum(), taken)
        except (RuntimeError, NotImplementedError, ImportError, AttributeError, TypeError, ValueError) as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        told.append((output.detach(), *grads))
    for name, right, found in zip(("output", "queries", "keys", "values"), *told, strict=True):
        off = float((right.float() - found.float()).abs().max() / right.float().abs().max())
        if not off <= TOLERANCE:  # NaN is not
            return f"{name} off by {off:.3g} of the largest value"
    return None


def torch_varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: Sequence[int], prefix: int, scale: float
) -> torch.Tensor:
    """Attend as `attention.packed_attention` says, by torch's kernel."""
    from torch.nn.attention.varlen import varlen_attn

    # Versions before this argument take fewer heads of keys without being told.
    grouped = (
        {"enable_gqa": query.shape[0] != key.shape[0]} if "enable_gqa" in signature(varlen_attn).parameters else {}
    )
    output: torch.Tensor = varlen_attn(
        *_layout(tuple(lengths), prefix, query.device).arguments(query, key, value),
        scale=scale,
        window_size=(-1, 0),
        **grouped,
    )
    return output


def flash_attn(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: Sequence[int], prefix: int, scale: float
) -> torch.Tensor:
    """Attend as `attention.packed_attention` says, by the package flash-attn."""
    from flash_attn import flash_attn_varlen_func  # an extra of the user's; it needs a CUDA compiler to install

    output: torch.Tensor = flash_attn_varlen_func(
        *_layout(tuple(lengths), prefix, query.device).arguments(query, key, value),
        softmax_scale=scale,
        causal=True,
    )
    return output


def one_by_one(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: Sequence[int], prefix: int, scale: float
) -> torch.Tensor:
    """Attend as `attention.packed_attention` says, each document by itself."""
    sizes = [prefix, *lengths] if prefix else list(lengths)
    queries, keys, values = ([*tensor.split(sizes, dim=1)] for tensor in (query, key, value))
    outputs = []
    for at, (q, k, v) in enumerate(zip(queries, keys, values, strict=True)):
        if prefix and at:
            k, v = torch.cat([keys[0], k], dim=1), torch.cat([values[0], v], dim=1)  # noqa: PLW2901
        outputs.append(_sdpa(q, k, v, scale))
    return torch.cat(outputs, dim=1).transpose(0, 1)


def _sdpa(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    grouped = query.shape[0] != key.shape[0]
    length, past = query.shape[1], key.shape[1] - query.shape[1]
    how: dict[str, Any] = {"attn_mask": causal_lower_right(length, length + past)} if past else {"is_causal": True}
    batched = (tensor.unsqueeze(0) for tensor in (query, key, value))
    how |= {"scale": scale, "enable_gqa": grouped}
    output: torch.Tensor = torch.nn.functional.scaled_dot_product_attention(*batched, **how)
    return output.squeeze(0)


class _Layout:
    """Where each document's queries and keys lie; the same for every layer of a row."""

    def __init__(self, lengths: tuple[int, ...], prefix: int, device: torch.device) -> None:
        sizes = [prefix, *lengths] if prefix else list(lengths)
        key_sizes = [prefix, *(prefix + length for length in lengths)] if prefix else sizes
        self.starts, self.key_starts = (
            torch.tensor([0, *torch.tensor(each).cumsum(0).tolist()], dtype=torch.int32, device=device)
            for each in (sizes, key_sizes)
        )
        self.longest, self.longest_key = max(sizes), max(key_sizes)
        self.index: torch.Tensor | None = None
        if prefix:  # each document's keys stand behind a copy of the prefix's
            past = torch.arange(prefix)
            rows = torch.arange(prefix, prefix + sum(lengths)).split(list(lengths))
            self.index = torch.cat([past, *(part for own in rows for part in (past, own))]).to(device)

    def arguments(self, *tensors: torch.Tensor) -> tuple[torch.Tensor | int, ...]:
        """What such kernels are given: the tensors as [tokens, heads, size], the starts, the longest documents."""
        return (*self.given(*tensors), self.starts, self.key_starts, self.longest, self.longest_key)

    def given(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Queries, keys and values: [tokens, heads, size], the keys of each document behind a copy of the prefix's."""
        query, *others = (tensor.transpose(0, 1) for tensor in tensors)
        if self.index is not None:
            others = [other.index_select(0, self.index) for other in others]
        return (query, *others)


@lru_cache(maxsize=4)
def _layout(lengths: tuple[int, ...], prefix: int, device: torch.device) -> _Layout:
    return _Layout(lengths, prefix, device)
