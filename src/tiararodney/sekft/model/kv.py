"""The KV cache of a batch whose rows come and go, in the layers that the model's configuration asks for.

All rows of a batch end at the same column: [padding, tokens]. Padding stands on the left only, so that a distance in
columns is a distance in tokens, as sliding windows and relative positions need it. transformers' own layers copy all
they hold at every token; these write into free columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import compress, count
from operator import ne
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad
from transformers.cache_utils import (
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

COLUMNS = 128  # free columns that a layer makes whenever it needs one more
ALL = 1 << 62  # the window of a layer that does not slide
KV = ("keys", "values")


@dataclass(frozen=True, eq=False)
class Row:
    """The cache of one token sequence.

    Attributes:
        length: How many tokens have gone through the model.
        layers: Each layer's tensors by name. "keys" and "values" are [heads, tokens, head size], a sliding window
            holds its last tokens; states have names like ("conv", 0) and no batch dimension.
    """

    length: int
    layers: tuple[dict[Any, torch.Tensor], ...]

    @cached_property
    def stateful(self) -> bool:
        """Whether a layer holds a state, which cannot be taken back to a shorter prefix."""
        return any(name not in KV for layer in self.layers for name in layer)

    @cached_property
    def cuttable(self) -> bool:
        """Whether it can be cut to a shorter prefix: no state, and no window that has dropped tokens."""
        return not self.stateful and all(t.shape[1] == self.length for layer in self.layers for t in layer.values())

    def prefix(self, length: int) -> Row:
        """The cache of the first `length` tokens, fewer only where it is `cuttable`, sharing memory with this one."""
        if length == self.length:
            return self
        return Row(length, tuple({name: t[:, :length] for name, t in layer.items()} for layer in self.layers))

    def copied(self) -> Row:
        """The same in memory of its own, without a batch's padding and free columns."""
        return Row(self.length, tuple({name: t.clone() for name, t in layer.items()} for layer in self.layers))

    @cached_property
    def sizes(self) -> tuple[int, int]:
        """Bytes of its keys and values, and bytes of its states, which do not grow with its tokens."""
        tensors = [item for layer in self.layers for item in layer.items()]
        growing = sum(t.nbytes for name, t in tensors if name in KV)
        return growing, sum(t.nbytes for _, t in tensors) - growing


class PrefixCache:
    """Caches of finished replies, for prompts that go on from them: the least recently used first.

    Only the same source (the adapter that computed it) finds a cache again.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[Hashable, list[int], Row]] = []

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()

    def add(self, source: Hashable, ids: list[int], row: Row) -> None:
        """Keep the cache of `ids`; it replaces those of its own prefixes."""
        self.drop_prefixes(source, ids)
        self._entries.append((source, ids, row))

    def find(self, source: Hashable, ids: Sequence[int]) -> Row | None:
        """Find the cache of the longest prefix of a prompt, with at least one token left to compute."""
        best, length = None, 0
        for entry in self._entries:
            shared = min(_shared(entry[1], ids), len(ids) - 1) if entry[0] == source else 0
            if shared > length and (shared == entry[2].length or entry[2].cuttable):
                best, length = entry, shared
        if best is None:
            return None
        self._entries.remove(best)
        self._entries.append(best)  # used last
        return best[2].prefix(length)

    def drop_prefixes(self, source: Hashable, ids: Sequence[int]) -> None:
        """Drop the caches that `ids` goes on from: their tokens are about to be in its own."""
        self._entries = [e for e in self._entries if e[0] != source or _shared(e[1], ids) < len(e[1])]

    def shrink(self, size: int) -> None:
        """Drop the least recently used until what is left takes at most `size` bytes."""
        while self.nbytes() > size:
            del self._entries[0]

    def nbytes(self) -> int:
        """What is kept, in bytes."""
        return sum(sum(row.sizes) for _, _, row in self._entries)


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many first tokens two sequences have in common."""
    return next(compress(count(), map(ne, one, other)), min(len(one), len(other)))


class _Slots(DynamicLayer):  # type: ignore[misc]  # transformers ships no types
    """Keys and values in buffers [rows, heads, columns, head size] of which `keys` and `values` are views."""

    def open(self) -> None:
        """Start empty; in place of a constructor, as a layer of transformers' own becomes one of these."""
        self.window = getattr(self, "sliding_window", ALL) - 1  # how many tokens stay
        self._buffers: list[torch.Tensor] = []
        self._end = self.cumulative_length = 0

    def fill(self, rows: Sequence[dict[Any, torch.Tensor]], width: int) -> None:
        """Start with rows, their last tokens at the common edge; `width` is the longest's, dropped tokens included."""
        held = min(width, self.window)
        # The padding is zeros, since it is multiplied by a weight of zero, which a NaN would survive.
        self._buffers = [
            torch.stack([pad(row[name], (0, 0, held - row[name].shape[1], COLUMNS)) for row in rows]) for name in KV
        ]
        self._end, self.is_initialized = held, True
        self.narrow(width)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append columns [rows, heads, new, head size]; return all that the new tokens may see."""
        new = key_states.shape[-2]
        if not self.is_initialized:
            self.keys, self.values, self.is_initialized = key_states[:, :, :0], value_states[:, :, :0], True
        if not self._buffers or self._end + new > self._buffers[0].shape[2]:
            self._buffers = [pad(view, (0, 0, 0, new + COLUMNS)) for view in (self.keys, self.values)]
            self._end = self.keys.shape[2]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, self._end : self._end + new] = states
        begin, self._end = self._end - self.keys.shape[2], self._end + new
        keys, values = (buffer[:, :, begin : self._end] for buffer in self._buffers)
        self.narrow(self.cumulative_length + new)
        return keys, values

    def narrow(self, width: int) -> None:
        """Set the width to that of the longest row."""
        self.cumulative_length = width
        self.keys, self.values = (b[:, :, self._end - min(width, self.window) : self._end] for b in self._buffers)


OURS: dict[type, type[_Slots]] = {
    kind: type(f"Roomy{kind.__name__}", (_Slots, kind), {})
    for kind in (
        DynamicLayer,
        DynamicSlidingWindowLayer,
        LinearAttentionAndFullAttentionLayer,
        LinearAttentionAndSlidingWindowAttentionLayer,
    )
}


def new_cache(config: Any) -> Any:  # transformers ships no types
    """An empty cache of a batch, with the layers that a model's configuration asks for.

    Raises:
        NotImplementedError: One is of a kind whose rows cannot be told apart here.
    """
    cache = DynamicCache(config=config)
    for layer in cache.layers:
        if type(layer) in OURS:
            layer.__class__ = OURS[type(layer)]  # the same layer in all but how it keeps its memory
            layer.open()
        elif type(layer) is not LinearAttentionLayer:
            raise NotImplementedError(f"a cache with {type(layer).__name__}")
    if not cache.layers:
        raise NotImplementedError("a cache without layers")
    return cache


def stack_rows(cache: Any, kept: Sequence[tuple[int, int]], rows: Sequence[Row] = ()) -> Any:
    """Have a cache hold copies of some of its rows, (number, length) each, and below them of others; return it."""
    width = max([*(length for _, length in kept), *(row.length for row in rows)])
    for index, layer in enumerate(cache.layers):  # one by one: only one layer's memory is there twice
        parts = [*(_take(layer, *which) for which in kept), *(row.layers[index] for row in rows)]
        if "keys" in parts[0]:
            layer.fill(parts, width)
        for kind, number in [name for name in parts[0] if name not in KV]:
            layer.has_previous_state[number] = getattr(layer, f"is_{kind}_states_initialized")[number] = False
            getattr(layer, f"update_{kind}_state")(torch.stack([part[kind, number] for part in parts]), number)
            layer.has_previous_state[number] = True
    return cache


def take_row(cache: Any, row: int, length: int) -> Row:
    """The first `length` tokens of a cache's row, as views: to be copied or used before the batch goes on."""
    return Row(length, tuple(_take(layer, row, length) for layer in cache.layers))


def _take(layer: Any, row: int, length: int) -> dict[Any, torch.Tensor]:
    has_keys = isinstance(layer, _Slots) and layer.is_initialized
    taken: dict[Any, torch.Tensor] = {name: getattr(layer, name)[row, :, -length:] for name in KV} if has_keys else {}
    for kind in ("conv", "recurrent"):
        states = getattr(layer, f"{kind}_states", {})
        taken |= {(kind, number): state[row] for number, state in states.items() if state is not None}
    return taken
