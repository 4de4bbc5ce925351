"""Causal attention over a packed row, one document at a time, for the fast layers.

Over the whole row attention costs the square of the row, and most of that is masked out; per document it costs the sum
of the squares. On the CPU torch's flash attention runs at two thirds of what bf16 matrix products reach there, so the
CPU has blocks of its own, which recompute the weights in the backward pass and store none. CUDA has two kernels to
choose from; `check.settle_route` takes the first one that computes what the plain model does.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from inspect import signature
from itertools import accumulate
from typing import Any

import torch

Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, tuple[int, ...], float], torch.Tensor]
softmax_backward = torch.ops.aten._softmax_backward_data.default  # noqa: SLF001 - an operator, public in all but name
BLOCK = 128  # queries at a time: the scores of a block stay in the cache
_chosen: dict[str, str] = {}  # kind of device -> name of the kernel in use there


def packed_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: Sequence[int], scale: float | None = None
) -> torch.Tensor:
    """Attend causally within each document of a row.

    Args:
        query: [row, heads, head size].
        key: [row, key heads, head size].
        value: [row, key heads, head size].
        lengths: Tokens of each document; they add up to the row.
        scale: Of the scores; None for one over the root of the head size.

    Returns:
        [row, heads, head size].
    """
    device = query.device.type
    name = _chosen.get(device) or usable_kernels(device, query.dtype)[0]
    return KERNELS[name](query, key, value, tuple(lengths), query.shape[-1] ** -0.5 if scale is None else scale)


def use_kernel(device: str, name: str | None) -> None:
    """Use one of `KERNELS` on a kind of device ("cpu", "cuda") from now on; None for the first of `usable_kernels`."""
    if name is None:
        _chosen.pop(device, None)
    else:
        _chosen[device] = name


def usable_kernels(device: str, dtype: torch.dtype) -> list[str]:
    """List the keys of `KERNELS` that may run for a type on a kind of device ("cpu", "cuda"), the fastest first."""
    if device == "cpu":
        return ["blocked"]
    half = dtype in (torch.bfloat16, torch.float16)
    return ["torch-varlen", "sdpa"] if half and find_spec("torch.nn.attention.varlen") is not None else ["sdpa"]


def sdpa(query: Any, key: Any, value: Any, lengths: tuple[int, ...], scale: float) -> torch.Tensor:
    """Attend by torch's scaled dot-product attention, each document by itself."""
    parts = (tensor.transpose(0, 1).unsqueeze(0).split(list(lengths), dim=2) for tensor in (query, key, value))
    outputs = [
        torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scale, enable_gqa=query.shape[1] != key.shape[1]
        )
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(outputs, dim=2)[0].transpose(0, 1)


def torch_varlen(query: Any, key: Any, value: Any, lengths: tuple[int, ...], scale: float) -> torch.Tensor:
    """Attend by torch's variable-length kernel, FlashAttention over all documents at once."""
    from torch.nn.attention.varlen import varlen_attn

    starts = _starts(lengths, query.device)
    # Versions before this argument take fewer heads of keys without being told.
    grouped = "enable_gqa" in signature(varlen_attn).parameters
    how: dict[str, Any] = {"enable_gqa": query.shape[1] != key.shape[1]} if grouped else {}
    output: torch.Tensor = varlen_attn(
        query, key, value, starts, starts, max(lengths), max(lengths), scale=scale, window_size=(-1, 0), **how
    )
    return output


@lru_cache(maxsize=4)
def _starts(lengths: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Where documents begin and the last ends: [documents + 1]; the same for every layer of a row."""
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)


def blocked(query: Any, key: Any, value: Any, lengths: tuple[int, ...], scale: float) -> torch.Tensor:
    """Attend in plain operations, some queries at a time."""
    output: torch.Tensor = _BlockedAttention.apply(query, key, value, lengths, scale)
    return output


class _BlockedAttention(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    """Nothing is kept but the arguments and the output's shape: the weights are computed again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, lengths: Any, scale: float) -> torch.Tensor:
        output = torch.empty_like(query)
        for document in _documents(lengths):
            queries, into = (_grouped(tensor[document], key.shape[1]) for tensor in (query, output))
            keys, values = (tensor[document].transpose(0, 1).contiguous() for tensor in (key, value))
            for part, seen in _blocks(queries.shape[2]):
                weights = _weights(queries[:, :, part], keys[:, :seen], scale)
                into[:, :, part] = torch.bmm(weights, values[:, :seen]).view(into[:, :, part].shape)
        ctx.save_for_backward(query, key, value)
        ctx.lengths, ctx.scale = lengths, scale
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        query, key, value = ctx.saved_tensors
        grad_query, grad_key, grad_value = (torch.empty_like(tensor) for tensor in (query, key, value))
        for document in _documents(ctx.lengths):
            queries, given, into = (
                _grouped(tensor[document], key.shape[1]) for tensor in (query, grads[0], grad_query)
            )
            keys, values = (tensor[document].transpose(0, 1).contiguous() for tensor in (key, value))
            # Many blocks add to the same keys: summed in fp32, rounded once.
            key_sum, value_sum = (torch.zeros_like(keys, dtype=torch.float32) for _ in range(2))
            for part, seen in _blocks(queries.shape[2]):
                weights = _weights(queries[:, :, part], keys[:, :seen], ctx.scale)
                out = _together(given[:, :, part])
                value_sum[:, :seen] += torch.bmm(weights.transpose(1, 2), out)
                grad_weights = torch.bmm(out, values[:, :seen].transpose(1, 2))
                scores = softmax_backward(grad_weights, weights, -1, weights.dtype)
                into[:, :, part] = torch.bmm(scores, keys[:, :seen]).view(into[:, :, part].shape)
                key_sum[:, :seen] += torch.bmm(scores.transpose(1, 2), _together(queries[:, :, part]))
            grad_key[document] = key_sum.mul_(ctx.scale).transpose(0, 1)
            grad_value[document] = value_sum.transpose(0, 1)
        return grad_query.mul_(ctx.scale), grad_key, grad_value, None, None


def _documents(lengths: Sequence[int]) -> Iterator[slice]:
    return (slice(end - length, end) for length, end in zip(lengths, accumulate(lengths), strict=True))


def _blocks(length: int) -> Iterator[tuple[slice, int]]:
    """A document's queries, some at a time: which, and how many of its keys they see at most."""
    for at in range(0, length, BLOCK):
        end = min(at + BLOCK, length)
        yield slice(at, end), end


def _grouped(tensor: torch.Tensor, key_heads: int) -> torch.Tensor:
    """A view of [tokens, heads, size] by the heads of keys: [key heads, group, tokens, size]."""
    return tensor.view(len(tensor), key_heads, -1, tensor.shape[2]).permute(1, 2, 0, 3)


def _together(queries: torch.Tensor) -> torch.Tensor:
    """Queries [key heads, group, some, size] that see the same keys, behind each other."""
    return queries.reshape(queries.shape[0], -1, queries.shape[3])


def _weights(queries: torch.Tensor, keys: torch.Tensor, scale: float) -> torch.Tensor:
    """Attention weights of queries [key heads, group, some, size] that see `keys`: [key heads, group * some, keys]."""
    some, seen = queries.shape[2], keys.shape[1]
    together = _together(queries)
    # the product itself scaled: a pass over the scores less. The first argument counts nothing with beta 0.
    scores = torch.baddbmm(together.new_empty(1, 1, 1), together, keys.transpose(1, 2), beta=0, alpha=scale)
    per_query = scores.view(*queries.shape[:2], some, seen)
    per_query[..., seen - some :].add_(_future(some, scores.dtype, scores.device))
    return torch.softmax(scores, -1)


@lru_cache(maxsize=64)
def _future(size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.full((size, size), -torch.inf, dtype=dtype, device=device).triu_(1)


KERNELS: dict[str, Kernel] = {"torch-varlen": torch_varlen, "sdpa": sdpa, "blocked": blocked}
