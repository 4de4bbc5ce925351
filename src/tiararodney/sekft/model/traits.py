"""What can be asked of a model's cache, found by trying it against plain forward passes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from tiararodney.sekft.model.batch import Batch, Prefill, Request, Run
from tiararodney.sekft.model.kv import UnknownLayer, row_bytes
from tiararodney.sekft.model.memory import is_out_of_memory
from tiararodney.sekft.model.sampling import Sampling, Token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tiararodney.sekft.model.base import Base

log = logging.getLogger(__name__)

TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
ROUNDED = 0.2  # 16 bits: rounding differs from kernel to kernel, and a mixture of experts may route otherwise


@dataclass(frozen=True)
class Traits:
    """What holds for a model's cache.

    Attributes:
        cached: Decoding with the cache computes what a forward pass over the whole sequence does.
        batches: So it does for rows of different lengths side by side.
        extends: So it does for several tokens put on a cache at once.
        recurrent: A layer holds a state, which padding would go into.
        per_token: Bytes that a token's keys and values take.
        fixed: Bytes of a row's states.
    """

    cached: bool = False
    batches: bool = False
    extends: bool = False
    recurrent: bool = False
    per_token: int = 0
    fixed: int = 0


_found: WeakKeyDictionary[Any, Traits] = WeakKeyDictionary()


def find_traits(base: Base, run: Run) -> Traits:
    """Try the model's cache, once.

    Args:
        base: The base; the base alone is tried.
        run: Runs the model.

    Returns:
        What may be relied on. What does not hold is logged: generation is slower without it.
    """
    if base.model not in _found:
        _found[base.model] = traits = _try(base, run)
        lacking = [
            text
            for holds, text in (
                (traits.cached, "its cache: every token computes the whole session again"),
                (traits.batches or not traits.cached, "batches of sessions: they take turns"),
                (traits.extends or not traits.cached, "a kept cache: every turn computes its prompt again"),
            )
            if not holds
        ]
        if lacking:
            log.warning("%s: generation without %s", base.model.config.model_type, "; without ".join(lacking))
    return _found[base.model]


def _try(base: Base, run: Run) -> Traits:
    found = Traits()
    try:
        for found in _steps(base, run):  # noqa: B007 - the last one counts, also where the next step fails
            pass
    except UnknownLayer as error:
        log.debug("the cache has layers of an unknown kind: %s", error)
    except Exception as error:  # a family's cache may fail in any way; without it generation is slow, but right
        if is_out_of_memory(error):
            raise
        log.debug("trying the cache failed", exc_info=True)
    return found


def _steps(base: Base, run: Run) -> Iterator[Traits]:
    """Yield what is known after each trial."""
    size = base.model.get_input_embeddings().weight.shape[0]
    # A multiplicative walk touches embeddings all over the vocabulary.
    walk = [(7919 * i + 13) % size for i in range(1, 40)]
    long, short = walk[:14], walk[20:29]
    tolerance = TOLERANCE.get(base.dtype, ROUNDED)

    def plain(ids: list[int]) -> torch.Tensor:
        return run([None], {"input_ids": torch.tensor([ids], device=base.device), "use_cache": False})[0].float()

    def matches(logits: torch.Tensor, ids: list[int]) -> bool:
        expected = plain(ids)
        spread = expected - expected.mean()
        return bool((logits.float() - expected).norm() <= tolerance * spread.norm())

    def prefilled(prompts: list[list[int]], prefixes: list[Any]) -> tuple[Prefill, torch.Tensor]:
        made = Prefill(base.model.config, [Request(p, Sampling()) for p in prompts], prefixes, base.device)
        logits = made.advance(run, 1 << 20)
        assert logits is not None
        return made, logits

    def decoded(*prompts: list[int]) -> tuple[Batch, torch.Tensor]:
        batch = Batch(base.device)
        for ids in prompts:
            batch.join(prefilled([ids[:-1]], [None])[0])
        for request, ids in zip(batch.requests, prompts, strict=True):
            request.reply.append(Token(ids[-1]))
        return batch, batch.decode(run)

    batch, [alone] = decoded(long)
    assert batch.cache is not None
    row = batch.cache.row(0, len(long)).copied()
    growing, fixed = row_bytes(row)
    found = Traits(matches(alone, long), recurrent=row.stateful, per_token=-(-growing // len(long)), fixed=fixed)
    yield found
    if not found.cached:
        return
    _, both = decoded(long, short)
    batches = matches(both[0], long) and matches(both[1], short)
    if batches and not row.stateful:
        _, both = prefilled([long, short], [None, None])
        batches = matches(both[0], long) and matches(both[1], short)
    found = replace(found, batches=batches)
    yield found
    _, [longer] = prefilled([walk], [row])
    yield replace(found, extends=matches(longer, walk))
