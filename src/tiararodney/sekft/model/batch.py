"""Rows that go through the model together: prefilled in chunks, then decoded token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from tiararodney.sekft.model.kv import BatchCache, Row

if TYPE_CHECKING:
    from tiararodney.sekft.model.sampling import Sampling, Token

# Runs the model: (adapter of each row, arguments of its forward) -> logits of the last column [rows, vocabulary]
Run = Callable[[Sequence[str | None], dict[str, Any]], torch.Tensor]


@dataclass(eq=False)
class Request:
    """One prompt that is being continued.

    Attributes:
        prompt: Token ids.
        sampling: How its tokens are drawn.
        adapter: The adapter's name, None for the base alone.
        key: The session (and sample) it belongs to: names its draws, and the cache that is kept for its next turn.
        version: Which of the adapters that had this name.
        reply: The tokens so far.
        cached_tokens: How many of the prompt's tokens were found in a cache.
    """

    prompt: list[int]
    sampling: Sampling
    adapter: str | None = None
    key: str = ""
    version: int = 0
    reply: list[Token] = field(default_factory=list)
    cached_tokens: int = 0

    @property
    def ids(self) -> list[int]:
        """All tokens, the reply's included."""
        return self.prompt + [token.id for token in self.reply]

    @property
    def limit(self) -> int:
        """How many tokens it may come to."""
        return len(self.prompt) + self.sampling.max_new_tokens


class Prefill:
    """Prompts on their way into a batch.

    The block of new tokens is as wide as the longest of them. A row with fewer starts earlier, in what its cache
    holds already, or has padding on the left if it has no cache: its tokens stay without a gap. See `can_share`.

    Args:
        config: The model's configuration, for the cache.
        requests: What to prefill.
        prefixes: Each request's cache of a prefix of its tokens, None where there is none.
        device: The model's.
    """

    def __init__(self, config: Any, requests: Sequence[Request], prefixes: Sequence[Row | None], device: str) -> None:
        self.requests = list(requests)
        self.cache = BatchCache(config)
        self._device = device
        tokens = [request.ids for request in requests]
        self.lengths = [len(ids) for ids in tokens]
        self.block = max(n - (p.length if p else 0) for n, p in zip(self.lengths, prefixes, strict=True))
        starts = [max(n - self.block, 0) if p else 0 for n, p in zip(self.lengths, prefixes, strict=True)]
        self._past = max(starts)
        if self._past:
            like = next(prefix for prefix in prefixes if prefix)
            rows = [p.prefix(start) if p else like.emptied() for p, start in zip(prefixes, starts, strict=True)]
            self.cache.join(rows, self._past)
        for request, start in zip(requests, starts, strict=True):
            request.cached_tokens = max(request.cached_tokens, start)
        self._ids = torch.zeros(len(tokens), self.block, dtype=torch.long)
        for row, (ids, start) in enumerate(zip(tokens, starts, strict=True)):
            self._ids[row, self.block - (len(ids) - start) :] = torch.tensor(ids[start:])
        self._done = 0

    def advance(self, run: Run, tokens: int) -> torch.Tensor | None:
        """Put the next chunk through the model.

        Args:
            run: Runs the model.
            tokens: Size of a chunk, all rows together.

        Returns:
            The logits that the replies start from, once all is done; None before.
        """
        end = min(self.block, self._done + max(1, tokens // len(self.requests)))
        columns = torch.arange(self._done, end, device=self._device)
        lengths = torch.tensor(self.lengths, device=self._device)[:, None]
        inputs = {
            "input_ids": self._ids[:, self._done : end].to(self._device),
            "position_ids": (lengths - self.block + columns).clamp(min=0),
            "attention_mask": _mask(self.lengths, self._past + self.block, self._device)[:, : self._past + end],
            "cache": self.cache.cache,
        }
        if min(self.lengths) == self._past + self.block:
            del inputs["attention_mask"]  # no padding: the model's own causal mask, which has faster kernels
        logits = run([request.adapter for request in self.requests], inputs)
        self._done = end
        return logits if end == self.block else None


class Batch:
    """Rows that are decoded together.

    Prompts are in the cache; the last token of each reply has not been through the model yet. Where a model's cache
    cannot be relied on there is none, and everything is computed again for every token.

    Args:
        device: The model's.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self.requests: list[Request] = []
        self.lengths: list[int] = []
        self.cache: BatchCache | None = None

    @property
    def width(self) -> int:
        """Tokens of the longest row."""
        return max(self.lengths, default=0)

    def start(self, requests: Sequence[Request]) -> None:
        """Take requests over that are computed without a cache."""
        self.requests += requests
        self.lengths += [0] * len(requests)

    def join(self, prefill: Prefill) -> None:
        """Take over what has been prefilled."""
        width = max(self.width, *prefill.lengths)
        if self.cache is None or not self.requests:
            self.cache = prefill.cache
            self.cache.narrow(width)
        else:
            rows = [prefill.cache.row(row, length) for row, length in enumerate(prefill.lengths)]
            self.cache.join(rows, width)
        self.requests += prefill.requests
        self.lengths += prefill.lengths

    def decode(self, run: Run) -> torch.Tensor:
        """Put each row's last token through the model.

        Args:
            run: Runs the model.

        Returns:
            The logits of the next token of every row.
        """
        if self.cache is None:
            rows = ((r.adapter, torch.tensor([r.ids], device=self._device)) for r in self.requests)
            return torch.cat([run([adapter], {"input_ids": ids, "use_cache": False}) for adapter, ids in rows])
        inputs = {
            "input_ids": torch.tensor([[request.reply[-1].id] for request in self.requests], device=self._device),
            "position_ids": torch.tensor(self.lengths, device=self._device)[:, None],
            "cache": self.cache.cache,
        }
        if min(self.lengths) < self.width:
            inputs["attention_mask"] = _mask([n + 1 for n in self.lengths], self.width + 1, self._device)
        logits = run([request.adapter for request in self.requests], inputs)
        self.lengths = [n + 1 for n in self.lengths]
        return logits

    def leave(self, request: Request, *, keep: bool) -> Row | None:
        """Drop a row.

        Args:
            request: Whose.
            keep: Whether its cache is wanted.

        Returns:
            The cache of all its tokens but the last.
        """
        row = self.requests.index(request)
        kept = self.cache.row(row, self.lengths[row]).copied() if keep and self.cache is not None else None
        self.requests[row], self.lengths[row] = self.requests[-1], self.lengths[-1]
        del self.requests[-1], self.lengths[-1]
        if self.requests and self.cache is not None:
            self.cache.leave(row, self.width)
        else:
            self.cache = None
        return kept


def can_share(first: tuple[int, Row | None], other: tuple[int, Row | None], recurrent: bool) -> bool:
    """Tell whether two prompts can be prefilled in one block.

    Args:
        first: How many tokens a prompt has, and its cache of a prefix of them.
        other: The same of the other.
        recurrent: Whether the model holds a state that padding would go into.

    Returns:
        Whether the block's padding, and the tokens that one computes again, leave both exact.
    """
    (n, p), (m, q) = first, other
    new = [n - (p.length if p else 0), m - (q.length if q else 0)]
    if recurrent:
        return new[0] == new[1] and (p is None) == (q is None)
    return new[0] == new[1] or not any(row.windowed for row in (p, q) if row)


def _mask(lengths: Sequence[int], width: int, device: str) -> torch.Tensor:
    """1 where a row has a token, 0 where it has padding: [rows, width]."""
    columns = torch.arange(width, device=device)
    return (columns >= width - torch.tensor(lengths, device=device)[:, None]).long()
