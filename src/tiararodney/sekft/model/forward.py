"""Put token sequences of different lengths through the model together, on caches that hold all but their last tokens.

What a family's cache can be asked for is found by trying it against plain forward passes.
"""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from tiararodney.sekft.model.adapters import switch_adapter
from tiararodney.sekft.model.fingerprint import probe_ids
from tiararodney.sekft.model.kv import Row, new_cache, stack_rows, take_row
from tiararodney.sekft.model.memory import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.sekft.model.base import Base

log = logging.getLogger(__name__)

# Tokens that a block may waste on padding: a share of those that are needed, and a few in any case.
PADDING_SHARE = 0.5
PADDING_LEAST = 64
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
ROUNDED = 0.2  # 16 bits: rounding differs from kernel to kernel, and a mixture of experts may route otherwise


def forward(
    base: Base, texts: Sequence[Sequence[int]], adapters: Sequence[str | None], cache: Any, columns: int = 1
) -> torch.Tensor:
    """Put the last tokens of every text through the model; return the logits of the next: [texts, vocabulary].

    Args:
        base: The base.
        texts: Token ids.
        adapters: Each text's.
        cache: Of all tokens but the last `columns` of the longest text, every text ending at the same column; see `kv`.
            None computes every text anew, by itself.
        columns: How many tokens go through.
    """
    if cache is None:
        each = zip(adapters, texts, strict=True)
        return torch.cat([_logits(base, [adapter], {"input_ids": torch.tensor([ids])}) for adapter, ids in each])
    lengths = torch.tensor([[len(ids)] for ids in texts])
    width = int(lengths.max())
    inputs = {
        "input_ids": torch.tensor([[0] * (columns - len(ids)) + [*ids[-columns:]] for ids in texts]),
        "position_ids": (lengths - columns + torch.arange(columns)).clamp(min=0),
    }
    if int(lengths.min()) < width:  # else the model's own causal mask will do, which has faster kernels
        inputs["attention_mask"] = (torch.arange(width) >= width - lengths).long()
    return _logits(base, adapters, inputs, cache)


def _logits(base: Base, adapters: Sequence[str | None], inputs: dict[str, Any], cache: Any = None) -> torch.Tensor:
    """Call the model with each row's adapter; return the logits of the last column."""
    switch_adapter(base, next(filter(None, adapters), None))
    model, known = base.model, inspect.signature(base.model.forward).parameters
    arguments = {name: tensor.to(base.device) for name, tensor in inputs.items()} | {"use_cache": cache is not None}
    if cache is not None:
        arguments["cache" if "cache" in known else "past_key_values"] = cache
    if "logits_to_keep" in known:
        arguments["logits_to_keep"] = 1
    if len(set(adapters)) > 1:
        model = base.adapters.handle
        arguments["adapter_names"] = [name or "__base__" for name in adapters]
    logits: torch.Tensor = model(**arguments).logits[:, -1]
    return logits


def prefill(
    base: Base, texts: Sequence[Sequence[int]], adapters: Sequence[str | None], prefixes: Sequence[Row | None]
) -> tuple[Any, torch.Tensor]:
    """Put prompts through the model in one block; return the cache of all their tokens, and what `forward` returns.

    All have the cache of a prefix, or none has. The block is as wide as the longest of what is new. A prompt with less
    starts earlier, in what its cache holds already, or has padding on the left: its tokens stay without a gap.
    """
    rows = [row for row in prefixes if row is not None]
    if not rows:
        cache = new_cache(base.model.config)
        return cache, forward(base, texts, adapters, cache, max(map(len, texts)))
    block = max(len(ids) - row.length for ids, row in zip(texts, rows, strict=True))
    cut = [row.prefix(max(len(ids) - block, 0)) for ids, row in zip(texts, rows, strict=True)]
    cache = stack_rows(new_cache(base.model.config), (), cut)
    return cache, forward(base, texts, adapters, cache, block)


def can_share(texts: Sequence[Sequence[int]], prefixes: Sequence[Row | None], chunk: int, *, stateful: bool) -> bool:
    """Tell whether prompts go into one block of at most `chunk` tokens: all stay exact, little is computed in vain."""
    new = [len(ids) - (row.length if row else 0) for ids, row in zip(texts, prefixes, strict=True)]
    block = max(new) * len(new)
    padded = not stateful and all(row is None or row.cuttable for row in prefixes)
    most = PADDING_SHARE * sum(new) + PADDING_LEAST if padded else 0
    return block <= chunk and block - sum(new) <= most and len({row is None for row in prefixes}) == 1


@dataclass(frozen=True)
class Traits:
    """What holds for a model's cache."""

    can_decode: bool = False  # decoding texts of different lengths side by side computes what plain forward passes do
    can_extend: bool = False  # so do several tokens put on a cache at once
    stateful: bool = False  # a layer holds a state, which padding would go into
    per_token: int = 0  # bytes of a token's keys and values
    fixed: int = 0  # bytes of a row's states


_found: WeakKeyDictionary[Any, Traits] = WeakKeyDictionary()


def find_traits(base: Base) -> Traits:
    """Try the model's cache, once, without adapters. What does not hold is logged: generation is slower without it."""
    if base.model not in _found:
        _found[base.model] = traits = _try(base)
        if not traits.can_extend:
            what = "continue a prompt" if traits.can_decode else "be used"
            log.warning("%s: generation is slow, as its KV cache cannot %s", base.model.config.model_type, what)
    return _found[base.model]


def _try(base: Base) -> Traits:
    walk = probe_ids(base.model.get_input_embeddings().weight.shape[0], 39)
    long, short = walk[:14], walk[20:29]
    nothing = [None, None]

    def right(logits: torch.Tensor, *texts: list[int]) -> bool:
        """Whether they are those of plain forward passes over the texts."""
        expected = forward(base, texts, [None] * len(texts), None).float()
        spread = expected - expected.mean(dim=-1, keepdim=True)
        tolerance = TOLERANCE.get(base.dtype, ROUNDED)
        return bool(((logits.float() - expected).norm(dim=-1) <= tolerance * spread.norm(dim=-1)).all())

    def prefilled(ids: list[int]) -> Row:
        return take_row(prefill(base, [ids], [None], [None])[0], 0, len(ids))

    traits = Traits()
    try:
        cache = stack_rows(new_cache(base.model.config), (), [prefilled(long[:-1]), prefilled(short[:-1])])
        decodes = right(forward(base, [long, short], nothing, cache), long, short)
        row = take_row(cache, 0, len(long))
        if decodes and not row.stateful:
            decodes = right(prefill(base, [long, short], nothing, nothing)[1], long, short)
        growing, fixed = row.sizes
        traits = Traits(decodes, stateful=row.stateful, per_token=-(-growing // len(long)), fixed=fixed)
        traits = replace(traits, can_extend=decodes and right(prefill(base, [walk], [None], [row])[1], walk))
    except Exception as error:  # a family's cache may fail in any way; without it generation is slow, but right
        if is_out_of_memory(error):
            raise
        log.debug("trying the cache failed", exc_info=True)
    return traits
