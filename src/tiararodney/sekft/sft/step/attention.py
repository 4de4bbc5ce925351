"""Causal attention over a packed row, one document at a time, for the fast layers.

Over the whole row attention costs the square of the row, and most of that is masked out; per document it costs the sum
of the squares. On CPUs torch's flash attention is slow in 16 bits, which have blocks of plain operations here. CUDA has
two kernels to choose from; `check.settle_route` takes the first one that computes what the plain model does.
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
BLOCK = 256  # queries at a time: the scores of a block stay in the cache
chosen: dict[str, str] = {}  # kind of device -> name of the kernel that is used there, if not the fastest


def packed_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: Sequence[int], scale: float
) -> torch.Tensor:
    """Attend causally within each document of a row, whose lengths add up to the row.

    Query and result are [row, heads, head size], key and value [row, key heads, head size].
    """
    device = query.device.type
    name = chosen.get(device) or usable_kernels(device, query.dtype)[0]
    return KERNELS[name](query, key, value, tuple(lengths), scale)


def usable_kernels(device: str, dtype: torch.dtype) -> list[str]:
    """List the keys of `KERNELS` that may run for a type on a kind of device ("cpu", "cuda"), the fastest first."""
    half = dtype in (torch.bfloat16, torch.float16)
    if device == "cpu":
        return ["blocked"] if half else ["sdpa"]
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
    """Attend in plain operations, some queries at a time; the backward pass computes the weights again."""
    output: torch.Tensor = _Blocked.apply(query, key, value, lengths, scale)
    return output


class _Blocked(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, lengths: Any, scale: float) -> torch.Tensor:
        output = torch.empty_like(query)
        queries, into = _grouped(query, key), _grouped(output, key)
        keys, values = (tensor.transpose(0, 1).contiguous() for tensor in (key, value))
        for part, seen in _blocks(lengths):
            weights = _weights(queries[:, :, part], keys[:, seen], scale)
            into[:, :, part] = torch.bmm(weights, values[:, seen]).view(into[:, :, part].shape)
        ctx.save_for_backward(query, key, value)
        ctx.lengths, ctx.scale = lengths, scale
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        query, key, value = ctx.saved_tensors
        grad_query = torch.empty_like(query)
        queries, given, into = (_grouped(tensor, key) for tensor in (query, grads[0].contiguous(), grad_query))
        keys, values = (tensor.transpose(0, 1).contiguous() for tensor in (key, value))
        # Many blocks add to the same keys: summed in fp32, rounded once.
        key_sum, value_sum = (torch.zeros_like(keys, dtype=torch.float32) for _ in range(2))
        for part, seen in _blocks(ctx.lengths):
            weights, out = _weights(queries[:, :, part], keys[:, seen], ctx.scale), given[:, :, part].flatten(1, 2)
            value_sum[:, seen] += torch.bmm(weights.mT, out)
            scores = softmax_backward(torch.bmm(out, values[:, seen].mT), weights, -1, weights.dtype)
            into[:, :, part] = torch.bmm(scores, keys[:, seen]).view(into[:, :, part].shape)
            key_sum[:, seen] += torch.bmm(scores.mT, queries[:, :, part].flatten(1, 2))
        sums = (total.transpose(0, 1).to(key.dtype) for total in (key_sum.mul_(ctx.scale), value_sum))
        return grad_query.mul_(ctx.scale), *sums, None, None


def _blocks(lengths: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """The queries of each document, some at a time, and the keys that the last of them sees."""
    for length, end in zip(lengths, accumulate(lengths), strict=True):
        for at in range(end - length, end, BLOCK):
            yield slice(at, min(at + BLOCK, end)), slice(end - length, min(at + BLOCK, end))


def _grouped(tensor: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """A view of [tokens, heads, size] by the heads of keys: [key heads, group, tokens, size]."""
    return tensor.view(len(tensor), key.shape[1], -1, tensor.shape[2]).permute(1, 2, 0, 3)


def _weights(queries: torch.Tensor, keys: torch.Tensor, scale: float) -> torch.Tensor:
    """Attention weights of queries [key heads, group, some, size], the last ones of those that see `keys`."""
    some, together = queries.shape[2], queries.flatten(1, 2)
    # The product itself scaled: a pass over the scores less. The first argument counts nothing with beta 0.
    scores = torch.baddbmm(together.new_empty(1, 1, 1), together, keys.mT, beta=0, alpha=scale)
    scores.view(*queries.shape[:3], -1)[..., -some:] += _future(some, scores.dtype)
    return torch.softmax(scores, -1)


@lru_cache(maxsize=64)
def _future(size: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.full((size, size), -torch.inf, dtype=dtype).triu_(1)


KERNELS: dict[str, Kernel] = {"torch-varlen": torch_varlen, "sdpa": sdpa, "blocked": blocked}
