"""Choose the next token of every row, on the device."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Sampling:
    """How one reply is drawn.

    Attributes:
        max_new_tokens: Limit of the reply, in tokens.
        temperature: 0 takes the most likely token; above, tokens are drawn from the softmax at this temperature.
        top_p: Draw from the most likely tokens that together have this probability; 1 draws from all.
        seed: Seed of the draws. A draw depends on the seed, the request's key and the position in the reply alone,
            not on the prompt nor on what else is in the batch.
        stop_ids: Tokens that end the reply.
        logprobs: How many alternatives to give with each token's log-probability; None gives no log-probabilities.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop_ids: frozenset[int] = frozenset()
    logprobs: int | None = None


@dataclass(frozen=True)
class Token:
    """One token of a reply.

    Attributes:
        id: The token.
        logprob: Its log-probability under the model, before temperature and `top_p`; None unless asked for.
        top: The most likely tokens and their log-probabilities, best first.
    """

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def draw(seed: int, key: str, position: int) -> float:
    """The random number in [0, 1) that belongs to one position of one reply."""
    digest = hashlib.blake2b(f"{seed}/{position}/{key}".encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def choose(logits: torch.Tensor, how: Sequence[Sampling], draws: Sequence[float]) -> list[Token]:
    """Choose a token for every row of logits [rows, vocabulary].

    Each has its own settings, and its random number, which is unused where its temperature is 0.
    """
    picked = logits.argmax(dim=-1)
    for row, sampling in enumerate(how):
        if sampling.temperature > 0:
            picked[row] = _sample(logits[row], sampling, draws[row])
    tokens = [Token(token) for token in picked.tolist()]
    for row, sampling in enumerate(how):
        if sampling.logprobs is not None:
            tokens[row] = _with_logprobs(logits[row], tokens[row].id, sampling.logprobs)
    return tokens


def _sample(logits: torch.Tensor, how: Sampling, drawn: float) -> torch.Tensor:
    """Invert the cumulative distribution at a random number."""
    chances, order = torch.softmax(logits.float() / how.temperature, dim=-1), None
    if how.top_p < 1:
        chances, order = chances.sort(descending=True)
        chances = chances.masked_fill(chances.cumsum(dim=-1) - chances >= how.top_p, 0.0)
    sums = (chances if logits.device.type == "mps" else chances.double()).cumsum(dim=-1)
    found = torch.searchsorted(sums, drawn * sums[-1:], right=True).clamp_(max=len(sums) - 1)
    return found[0] if order is None else order[found[0]]


def _with_logprobs(logits: torch.Tensor, token: int, alternatives: int) -> Token:
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    best = logprobs.topk(min(alternatives, logprobs.shape[-1]))
    return Token(token, logprobs[token].item(), tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True)))
