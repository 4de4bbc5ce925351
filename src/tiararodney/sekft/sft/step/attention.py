"""Causal attention over a packed row, one document at a time.

Over the whole row attention costs the square of the row, and most of that is masked out; per document it costs the
sum of the squares. On the CPU torch's flash attention runs at a quarter of what bf16 matrix products reach there, so
this module brings blocks of its own, which recompute the weights in the backward pass and store none. On CUDA one
kernel takes all documents at once where `varlen` finds one.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch.nn.attention.bias import causal_lower_right
from transformers import AttentionInterface

from tiararodney.sekft.sft.step.varlen import fastest

NAME = "sekft_packed"
softmax_backward = torch.ops.aten._softmax_backward_data.default  # noqa: SLF001 - an operator, public in all but name
BLOCK = 128  # queries at a time: the scores of a block stay in the cache
_lengths: ContextVar[tuple[int, ...]] = ContextVar("lengths of the documents in the row")


def packed_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: Sequence[int],
    prefix: int = 0,
    scale: float | None = None,
) -> torch.Tensor:
    """Attend causally within each document, and from each document to the prefix that all of them share.

    Args:
        query: [heads, row, head size].
        key: [key heads, row, head size].
        value: [key heads, row, head size].
        lengths: Tokens of each document behind the prefix.
        prefix: Tokens at the row's start that are every document's past.
        scale: Of the scores; None for one over the root of the head size.

    Returns:
        [row, heads, head size].
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    kernel = fastest(query.device, query.dtype, query.shape[0], key.shape[0], query.shape[2])
    return (kernel or one_by_one)(query, key, value, lengths, prefix, scale)


def one_by_one(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: Sequence[int], prefix: int, scale: float
) -> torch.Tensor:
    """The same, document by document: what runs wherever no kernel for all of them is proved right."""
    attend = _blocks if query.device.type == "cpu" else _sdpa
    sizes = [prefix, *lengths] if prefix else list(lengths)
    queries, keys, values = ([*tensor.split(sizes, dim=1)] for tensor in (query, key, value))
    if prefix:  # a view kept for the backward pass would hold the whole row's
        keys[0], values[0] = keys[0].contiguous(), values[0].contiguous()
    outputs = []
    for at, (q, k, v) in enumerate(zip(queries, keys, values, strict=True)):
        if prefix and at:
            k, v = torch.cat([keys[0], k], dim=1), torch.cat([values[0], v], dim=1)  # noqa: PLW2901
        outputs.append(attend(q, k, v, scale))
    return torch.cat(outputs, dim=1).transpose(0, 1)


def _sdpa(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    grouped = query.shape[0] != key.shape[0]
    length, past = query.shape[1], key.shape[1] - query.shape[1]
    how: dict[str, Any] = {"attn_mask": causal_lower_right(length, length + past)} if past else {"is_causal": True}
    batched = (tensor.unsqueeze(0) for tensor in (query, key, value))
    how |= {"scale": scale, "enable_gqa": grouped}
    output: torch.Tensor = torch.nn.functional.scaled_dot_product_attention(*batched, **how)
    return output.squeeze(0)


def _blocks(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    heads, length, size = query.shape
    grouped = query.reshape(key.shape[0], heads // key.shape[0], length, size)
    output: torch.Tensor = _BlockedAttention.apply(grouped, key, value, scale)
    return output.reshape(heads, length, size)


class _BlockedAttention(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    """Causal attention in blocks of queries.

    The query is [key heads, group, length, size], key and value are [key heads, all, size].
    Works for the last `length` of `all` positions: what is before them is their past.
    """

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, scale: float) -> torch.Tensor:
        query = query * scale
        output = torch.empty_like(query)
        for begin, end, past in _ranges(query, key):
            weights = _weights(query, key, begin, end, past)
            part = torch.bmm(weights, value[:, : past + end])
            output[:, :, begin:end] = part.view(*query.shape[:2], end - begin, -1)
        ctx.save_for_backward(query, key, value)
        ctx.scale = scale
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        (grad,) = grads
        query, key, value = ctx.saved_tensors
        heads, group, _, size = query.shape
        grad_query = torch.empty_like(query)
        # Many blocks add to the same keys: summed in fp32, rounded once.
        grad_key = torch.zeros(key.shape, dtype=torch.float32, device=key.device)
        grad_value = torch.zeros_like(grad_key)
        for begin, end, past in _ranges(query, key):
            weights = _weights(query, key, begin, end, past)
            out = grad[:, :, begin:end].reshape(heads, -1, size)
            grad_value[:, : past + end] += torch.bmm(weights.transpose(1, 2), out)
            grad_weights = torch.bmm(out, value[:, : past + end].transpose(1, 2))
            scores = softmax_backward(grad_weights, weights, -1, weights.dtype)
            part = torch.bmm(scores, key[:, : past + end])
            grad_query[:, :, begin:end] = part.view(heads, group, end - begin, size)
            grad_key[:, : past + end] += torch.bmm(scores.transpose(1, 2), _block(query, begin, end))
        return grad_query.mul_(ctx.scale), grad_key.to(key.dtype), grad_value.to(value.dtype), None


def _ranges(query: torch.Tensor, key: torch.Tensor) -> Iterator[tuple[int, int, int]]:
    length = query.shape[2]
    past = key.shape[1] - length
    for begin in range(0, length, BLOCK):
        yield begin, min(begin + BLOCK, length), past


def _block(query: torch.Tensor, begin: int, end: int) -> torch.Tensor:
    return query[:, :, begin:end].reshape(query.shape[0], -1, query.shape[3])


def _weights(query: torch.Tensor, key: torch.Tensor, begin: int, end: int, past: int) -> torch.Tensor:
    """Attention weights of a block of queries over the keys up to it: [key heads, group * block, keys]."""
    scores = torch.bmm(_block(query, begin, end), key[:, : past + end].transpose(1, 2))
    per_query = scores.view(*query.shape[:2], end - begin, past + end)
    per_query[..., past + begin :].add_(_future(end - begin, scores.dtype, scores.device))
    return torch.softmax(scores, -1)


def _future(size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    if (mask := _futures.get((size, dtype, device))) is None:
        mask = torch.full((size, size), -torch.inf, dtype=dtype, device=device).triu_(1)
        _futures[size, dtype, device] = mask
    return mask


_futures: dict[tuple[int, torch.dtype, torch.device], torch.Tensor] = {}


@contextmanager
def attending(model: Any, lengths: Sequence[int]) -> Iterator[None]:
    """Make transformers' own forward attend within documents of these lengths, for the length of a `with` block.

    Args:
        model: The model; its attention implementation is switched for the block.
        lengths: Tokens of each document of the row, in order; they add up to the row.
    """
    before = model.config._attn_implementation  # noqa: SLF001 - the only name transformers has for it
    token = _lengths.set(tuple(lengths))
    model.config._attn_implementation = NAME  # noqa: SLF001 - the same
    try:
        yield
    finally:
        model.config._attn_implementation = before  # noqa: SLF001 - the same
        _lengths.reset(token)


def attending_again(model: Any) -> AbstractContextManager[None]:
    """Attend as now, later: for a layer that is computed again in the backward pass.

    Args:
        model: As for `attending`.

    Returns:
        The block that surrounds this call, to be entered again.
    """
    return attending(model, _lengths.get())


def _for_transformers(
    _module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    output = packed_attention(query[0], key[0], value[0], _lengths.get(), scale=scaling)
    return output.unsqueeze(0), None


AttentionInterface.register(NAME, _for_transformers)
