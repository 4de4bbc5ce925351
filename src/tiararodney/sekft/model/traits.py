"""What can be asked of a model's cache, found by trying it against plain forward passes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from tiararodney.sekft.model.batch import Request, Run, prefill
from tiararodney.sekft.model.fingerprint import probe_ids
from tiararodney.sekft.model.kv import Row, new_cache, take_row
from tiararodney.sekft.model.memory import is_out_of_memory
from tiararodney.sekft.model.sampling import Sampling

if TYPE_CHECKING:
    from tiararodney.sekft.model.base import Base

log = logging.getLogger(__name__)

TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
ROUNDED = 0.2  # 16 bits: rounding differs from kernel to kernel, and a mixture of experts may route otherwise


@dataclass(frozen=True)
class Traits:
    """What holds for a model's cache.

    Attributes:
        can_decode: Decoding with the cache computes what a forward pass over the whole sequence does.
        can_batch: So it does for rows of different lengths side by side.
        can_extend: So it does for several tokens put on a cache at once.
        stateful: A layer holds a state, which padding would go into.
        per_token: Bytes that a token's keys and values take.
        fixed: Bytes of a row's states.
    """

    can_decode: bool = False
    can_batch: bool = False
    can_extend: bool = False
    stateful: bool = False
    per_token: int = 0
    fixed: int = 0


_found: WeakKeyDictionary[Any, Traits] = WeakKeyDictionary()


def find_traits(base: Base, run: Run) -> Traits:
    """Try the model's cache, once, without adapters. What does not hold is logged: generation is slower without it."""
    if base.model not in _found:
        _found[base.model] = traits = _try(base, run)
        if lacking := [what for what in ("decode", "batch", "extend") if not getattr(traits, f"can_{what}")]:
            kind = base.model.config.model_type
            log.warning("%s: generation is slow, as its KV cache cannot %s", kind, " nor ".join(lacking))
    return _found[base.model]


def _try(base: Base, run: Run) -> Traits:
    size = base.model.get_input_embeddings().weight.shape[0]
    walk = probe_ids(size, 39)
    long, short = walk[:14], walk[20:29]

    def right(logits: torch.Tensor, *prompts: list[int]) -> bool:
        """Whether they are those of plain forward passes over the prompts."""
        plain = [run([None], {"input_ids": torch.tensor([p], device=base.device), "use_cache": False}) for p in prompts]
        expected = torch.cat(plain).float()
        spread = expected - expected.mean(dim=-1, keepdim=True)
        tolerance = TOLERANCE.get(base.dtype, ROUNDED)
        return bool(((logits.float() - expected).norm(dim=-1) <= tolerance * spread.norm(dim=-1)).all())

    def prefilled(*prompts: list[int], prefix: Row | None = None) -> Any:
        rows = [(Request([*prompt], Sampling()), prefix) for prompt in prompts]
        batch, [logits] = prefill(rows, new_cache(base.model.config), base.device, run)
        return batch, logits

    def decoded(*prompts: list[int]) -> Any:
        batches = []
        for prompt in prompts:
            batches.append(prefilled(prompt[:-1])[0])
            batches[-1].requests[0].ids.append(prompt[-1])
        for other in batches[1:]:
            batches[0].join(other)
        return batches[0], batches[0].decode(run)

    found = Traits()
    try:
        batch, logits = decoded(long)
        row = take_row(batch.cache, 0, len(long)).copied()
        growing, fixed = row.sizes()
        found = Traits(right(logits, long), stateful=row.stateful, per_token=-(-growing // len(long)), fixed=fixed)
        if found.can_decode:
            side_by_side = right(decoded(long, short)[1], long, short)
            padded = row.stateful or right(prefilled(long, short)[1], long, short)
            found = replace(found, can_batch=side_by_side and padded)
            found = replace(found, can_extend=right(prefilled(walk, prefix=row)[1], walk))
    except Exception as error:  # a family's cache may fail in any way; without it generation is slow, but right
        if is_out_of_memory(error):
            raise
        log.debug("trying the cache failed", exc_info=True)
    return found
