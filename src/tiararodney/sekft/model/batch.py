"""Rows that go through the model together: prefilled in one block, then decoded token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from tiararodney.sekft.model.kv import drop_row, join_rows, take_row

if TYPE_CHECKING:
    from tiararodney.sekft.model.kv import Row
    from tiararodney.sekft.model.sampling import Sampling, Token

# Runs the model: (adapter of each row, arguments of its forward) -> logits of the last column [rows, vocabulary]
Run = Callable[[Sequence[str | None], dict[str, Any]], torch.Tensor]

# Tokens that a shared block may waste on padding: a share of those that are needed, and a few in any case.
PADDING_SHARE = 0.5
PADDING_LEAST = 64


@dataclass(frozen=True)
class Generated:
    """One reply.

    Attributes:
        tokens: The new tokens, without the stop token, with their log-probabilities where those were asked for.
        stopped: Whether a stop token, or `on_token`, ended it; False means that the limit cut it off.
        cached_tokens: How many of the prompt's tokens were found in a cache.
    """

    tokens: tuple[Token, ...]
    stopped: bool
    cached_tokens: int = 0

    @property
    def ids(self) -> list[int]:
        """The new token ids."""
        return [token.id for token in self.tokens]


@dataclass(eq=False)
class Request:
    """One prompt that is being continued.

    Attributes:
        ids: Token ids of prompt and reply; in a batch, all but the last are in its cache.
        sampling: How the reply is drawn.
        adapter: The adapter's name, None for the base alone.
        key: Names its draws.
        version: Which of the adapters that had this name.
        on_token: Called with each token; returns whether the reader wants no more.
        limit: How many tokens it may come to.
        reply: The reply's tokens so far, a stop token excepted.
        cached_tokens: How many of the prompt's tokens were found in a cache.
        outcome: What it came to, once it has ended.
        future: What the reader waits for.
    """

    ids: list[int]
    sampling: Sampling
    adapter: str | None = None
    key: str = ""
    version: int = 0
    on_token: Callable[[Token], bool | None] | None = None
    reply: list[Token] = field(default_factory=list)
    cached_tokens: int = 0
    outcome: Generated | BaseException | None = None
    future: Future[Generated] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.limit = len(self.ids) + self.sampling.max_new_tokens

    def accept(self, token: Token) -> None:
        """Append the next token, hand it out, and see whether the reply has ended."""
        self.ids.append(token.id)
        enough = token.id in self.sampling.stop_ids
        if not enough:
            self.reply.append(token)
            try:
                enough = bool(self.on_token is not None and self.on_token(token))
            except Exception as error:  # noqa: BLE001 - a reader's fault ends its own reply only
                self.outcome = error
                return
        if enough or len(self.reply) >= self.sampling.max_new_tokens:
            self.outcome = Generated(tuple(self.reply), enough, self.cached_tokens)


class Batch:
    """Rows that are decoded together.

    Args:
        requests: The rows.
        cache: Of all their tokens but the last, ending at the same column; see `kv`. None where a model's cache cannot
            be relied on: everything is then computed again for every token.
        device: The model's.
    """

    def __init__(self, requests: Sequence[Request], cache: Any, device: str) -> None:
        self.requests, self.cache, self._device = list(requests), cache, device

    @property
    def width(self) -> int:
        """Tokens of the longest row."""
        return max(len(request.ids) for request in self.requests)

    def decode(self, run: Run) -> torch.Tensor:
        """Put each row's last token through the model; return the logits of the next one."""
        ids = torch.tensor([[request.ids[-1]] for request in self.requests])
        return next(logits for logits in self.forward(ids, run) if logits is not None)

    def forward(self, ids: torch.Tensor, run: Run, chunk: int = 1) -> Iterator[torch.Tensor | None]:
        """Put the last tokens of every row through the model, chunk by chunk.

        Args:
            ids: The tokens that the cache lacks, or whose row has padding in front of them: [rows, columns].
            run: Runs the model.
            chunk: How many columns go through it at once.

        Yields:
            None for each chunk but the last, then the logits of the last column: [rows, vocabulary].
        """
        adapters = [request.adapter for request in self.requests]
        if self.cache is None:
            rows = [torch.tensor([request.ids], device=self._device) for request in self.requests]
            each = zip(adapters, rows, strict=True)
            yield torch.cat([run([adapter], {"input_ids": row, "use_cache": False}) for adapter, row in each])
            return
        lengths = torch.tensor([len(request.ids) for request in self.requests], device=self._device)[:, None]
        width, columns = self.width, ids.shape[1]
        # Without padding the model's own causal mask will do, which has faster kernels.
        padded = any(len(request.ids) < width for request in self.requests)
        mask = (torch.arange(width, device=self._device) >= width - lengths).long() if padded else None
        for begin in range(0, columns, chunk):
            end = min(begin + chunk, columns)
            positions = lengths - columns + torch.arange(begin, end, device=self._device)
            inputs = {"input_ids": ids[:, begin:end].to(self._device), "position_ids": positions.clamp(min=0)}
            if mask is not None:
                inputs["attention_mask"] = mask[:, : width - columns + end]
            logits = run(adapters, inputs | {"cache": self.cache})
            yield logits if end == columns else None

    def join(self, other: Batch) -> Batch:
        """Take over the rows of another batch; return this one, or the other where this is empty."""
        if not self.requests:
            return other
        self.requests += other.requests
        if self.cache is not None and other.requests:
            rows = [take_row(other.cache, row, len(request.ids) - 1) for row, request in enumerate(other.requests)]
            join_rows(self.cache, rows, self.width - 1)
        return self

    def leave(self, request: Request) -> Row | None:
        """Drop a row; return its cache."""
        row = self.requests.index(request)
        kept = None if self.cache is None else take_row(self.cache, row, len(request.ids) - 1).copied()
        self.requests[row] = self.requests[-1]
        del self.requests[-1]
        if not self.requests:
            self.cache = None
        elif self.cache is not None:
            drop_row(self.cache, row, self.width - 1)
        return kept


def prefill(
    prompts: Sequence[tuple[Request, Row | None]], cache: Any, device: str, run: Run, chunk: int = 1 << 30
) -> tuple[Batch, Iterator[torch.Tensor | None]]:
    """Make a batch of prompts, which go through the model in one block, chunk by chunk.

    The block is as wide as the longest of what is new. A row with less starts earlier, in what its cache holds already,
    or has padding on the left if it has no cache: its tokens stay without a gap. See `can_share`.

    Args:
        prompts: Each with its cache of a prefix of its tokens, None where there is none.
        cache: An empty one; None where none can be used.
        device: The model's.
        run: Runs the model.
        chunk: Tokens that go through it at once, all rows together.

    Returns:
        The batch, and what `Batch.forward` yields: in the end the logits that the replies start from.
    """
    batch = Batch([request for request, _ in prompts], cache, device)
    block = max(len(request.ids) - (prefix.length if prefix else 0) for request, prefix in prompts)
    starts = [max(len(request.ids) - block, 0) if prefix else 0 for request, prefix in prompts]
    ids = torch.zeros(len(prompts), block, dtype=torch.long)
    for row, (request, start) in enumerate(zip(batch.requests, starts, strict=True)):
        ids[row, block - (len(request.ids) - start) :] = torch.tensor(request.ids[start:])
        request.cached_tokens = max(request.cached_tokens, start)
    if any(starts):
        like = next(prefix for _, prefix in prompts if prefix)
        rows = [(prefix or like).prefix(start) for (_, prefix), start in zip(prompts, starts, strict=True)]
        join_rows(cache, rows, max(starts))
    return batch, batch.forward(ids, run, max(1, chunk // len(prompts)))


def can_share(prompts: Sequence[tuple[int, Row | None]], *, stateful: bool) -> bool:
    """Tell whether prompts can be prefilled in one block.

    Args:
        prompts: How many tokens each has, and its cache of a prefix of them.
        stateful: Whether the model holds states, into which padding would go.

    Returns:
        Whether the padding, and the tokens that some compute again, are few and leave all exact.
    """
    new = [length - (prefix.length if prefix else 0) for length, prefix in prompts]
    padding = max(new) * len(new) - sum(new)
    if stateful:
        return not padding and len({prefix is None for _, prefix in prompts}) == 1
    if padding > PADDING_SHARE * sum(new) + PADDING_LEAST:
        return False
    return not padding or all(prefix is None or prefix.cuttable for _, prefix in prompts)
