"""Causal attention over a packed row, one document at a time.

Over the whole row attention costs the square of the row, and most of that is masked out; per document it costs the
sum of the squares. On the CPU torch's flash attention runs at a quarter of what bf16 matrix products reach there, so
this module brings blocks of its own, which recompute the weights in the backward pass and store none. On CUDA the
kernel runs that `varlen` finds to compute the same.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface

from tiararodney.sekft.sft.step.buffers import Block, new
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
    block: Block | None = None,
) -> torch.Tensor:
    """Attend causally within each document, and from each document to the prefix that all of them share.

    Args:
        query: [heads, row, head size].
        key: [key heads, row, head size].
        value: [key heads, row, head size].
        lengths: Tokens of each document behind the prefix.
        prefix: Tokens at the row's start that are every document's past.
        scale: Of the scores; None for one over the root of the head size.
        block: Where the output is kept, where no accelerator's kernel makes it.

    Returns:
        [row, heads, head size].
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    kernel = fastest(query.device, query.dtype, query.shape[0], key.shape[0], query.shape[2])
    if kernel is not None:
        return kernel(query, key, value, lengths, prefix, scale)
    return blocked(query, key, value, lengths, prefix, scale, block)


def blocked(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: Sequence[int],
    prefix: int,
    scale: float,
    block: Block | None = None,
) -> torch.Tensor:
    """The same in torch's plain operations: the CPU's way, and what an accelerator's kernels are held against."""
    output: torch.Tensor = _BlockedAttention.apply(query, key, value, tuple(lengths), prefix, scale, block)
    return output


class _BlockedAttention(torch.autograd.Function):  # type: ignore[misc]  # torch's types are skipped
    """Causal attention in blocks of queries, document by document; shapes as for `packed_attention`.

    Nothing is kept but the arguments: scores, and the documents' keys behind the prefix's, are made again.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Any, key: Any, value: Any, lengths: Any, prefix: int, scale: float, block: Any
    ) -> torch.Tensor:
        heads, row, size = query.shape
        grouped = query.view(len(key), -1, row, size)
        output = new(block, query, row, heads, size)
        into = output.view(row, len(key), -1, size).permute(1, 2, 0, 3)
        for document in _documents(lengths, prefix):
            keys, values = document.of(key), document.of(value)
            for part, seen in document.blocks():
                weights = _weights(grouped[:, :, part], keys[:, :seen], scale)
                into[:, :, part] = torch.bmm(weights, values[:, :seen]).view(*grouped.shape[:2], -1, size)
        ctx.save_for_backward(query, key, value)
        ctx.documents, ctx.scale = _documents(lengths, prefix), scale
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        query, key, value = ctx.saved_tensors
        row, size = query.shape[1:]
        grouped = query.view(len(key), -1, row, size)
        given = grads[0].view(row, len(key), -1, size).permute(1, 2, 0, 3)
        grad_query = torch.empty_like(query)
        into = grad_query.view(grouped.shape)
        # Many blocks add to the same keys, many documents to the prefix's: summed in fp32, rounded once.
        grad_key = torch.zeros(key.shape, dtype=torch.float32, device=key.device)
        grad_value = torch.zeros_like(grad_key)
        for document in ctx.documents:
            keys, values = document.of(key), document.of(value)
            key_sum = torch.zeros(keys.shape, dtype=torch.float32, device=key.device)
            value_sum = torch.zeros_like(key_sum)
            for part, seen in document.blocks():
                weights = _weights(grouped[:, :, part], keys[:, :seen], ctx.scale)
                out = given[:, :, part].reshape(len(key), -1, size)
                value_sum[:, :seen] += torch.bmm(weights.transpose(1, 2), out)
                grad_weights = torch.bmm(out, values[:, :seen].transpose(1, 2))
                scores = softmax_backward(grad_weights, weights, -1, weights.dtype)
                into[:, :, part] = torch.bmm(scores, keys[:, :seen]).view(*grouped.shape[:2], -1, size)
                key_sum[:, :seen] += torch.bmm(scores.transpose(1, 2), _together(grouped[:, :, part]))
            document.add(grad_key, key_sum)
            document.add(grad_value, value_sum)
        grad_query.mul_(ctx.scale)
        return grad_query, grad_key.mul_(ctx.scale).to(key.dtype), grad_value.to(value.dtype), None, None, None, None


@dataclass(frozen=True)
class _Document:
    """Where a document lies in the row.

    Attributes:
        begin: Its first token.
        length: Its tokens.
        past: Tokens at the row's start that it attends to.
    """

    begin: int
    length: int
    past: int

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """Keys or values [key heads, row, size] that it attends to: [key heads, past + length, size]."""
        own = tensor[:, self.begin : self.begin + self.length]
        return torch.cat([tensor[:, : self.past], own], dim=1) if self.past else own

    def add(self, total: torch.Tensor, part: torch.Tensor) -> None:
        """Add to the row what belongs to the keys or values that `of` gave."""
        total[:, : self.past] += part[:, : self.past]
        total[:, self.begin : self.begin + self.length] += part[:, self.past :]

    def blocks(self) -> Iterator[tuple[slice, int]]:
        """Its queries, some at a time: where they lie in the row, and how many of `of`'s keys they see at most."""
        for at in range(0, self.length, BLOCK):
            end = min(at + BLOCK, self.length)
            yield slice(self.begin + at, self.begin + end), self.past + end


def _documents(lengths: Sequence[int], prefix: int) -> list[_Document]:
    documents = [_Document(0, prefix, 0)] if prefix else []
    begin = prefix
    for length in lengths:
        documents.append(_Document(begin, length, prefix))
        begin += length
    return documents


def _together(queries: torch.Tensor) -> torch.Tensor:
    """Queries [key heads, group, some, size] that see the same keys, behind each other."""
    return queries.reshape(queries.shape[0], -1, queries.shape[3])


def _weights(queries: torch.Tensor, keys: torch.Tensor, scale: float) -> torch.Tensor:
    """Attention weights of queries [key heads, group, some, size] that see `keys`: [key heads, group * some, keys]."""
    some, seen = queries.shape[2], keys.shape[1]
    together, turned = _together(queries), keys.transpose(1, 2)
    # the product itself scaled: a pass over the scores less. The first argument counts nothing with beta 0.
    scores = torch.baddbmm(together.new_empty(1, 1, 1), together, turned, beta=0, alpha=scale)
    per_query = scores.view(*queries.shape[:2], some, seen)
    per_query[..., seen - some :].add_(_future(some, scores.dtype, scores.device))
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


def for_transformers(
    _module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as `attending` said: what transformers calls.

    Args:
        _module: The layer's attention; not needed.
        query: [1, heads, row, head size].
        key: [1, key heads, row, head size].
        value: [1, key heads, row, head size].
        _attention_mask: None; the documents' lengths say it all.
        scaling: Of the scores.
        _: What other implementations need.

    Returns:
        [1, row, heads, head size], and no weights.
    """
    output = packed_attention(query[0], key[0], value[0], _lengths.get(), scale=scaling)
    return output.unsqueeze(0), None


AttentionInterface.register(NAME, for_transformers)
