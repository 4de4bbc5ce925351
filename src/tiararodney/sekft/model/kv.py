"""The KV cache of a batch whose rows come and go, in the layers that the model's configuration asks for.

All rows of a batch end at the same column: [padding, tokens]. Padding stands on the left only, so that a distance in
columns is a distance in tokens, as sliding windows and relative positions need it. transformers' own layers copy all
they hold at every token; these write into memory with room on all sides, so that a token, a row that joins and a row
that leaves each cost the copy of themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import (
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS = 128  # free columns that a layer makes whenever it needs one more
ALL = 1 << 62  # the window of a layer that does not slide
KV = ("keys", "values")


@dataclass(frozen=True)
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
        """The cache of the first `length` tokens, sharing memory with this one.

        Raises:
            ValueError: A layer no longer holds what that prefix needs; see `cuttable`.
        """
        if length == self.length:
            return self
        if length and not self.cuttable:
            raise ValueError(f"this cache of {self.length} tokens cannot be cut to {length}")
        return Row(length, tuple({name: t[:, :length] for name, t in layer.items()} for layer in self.layers))

    def copied(self) -> Row:
        """The same in memory of its own, without a batch's padding and free columns."""
        return Row(self.length, tuple({name: t.clone() for name, t in layer.items()} for layer in self.layers))

    def sizes(self) -> tuple[int, int]:
        """Bytes of its keys and values, and bytes of its states, which do not grow with its tokens."""
        tensors = [item for layer in self.layers for item in layer.items()]
        growing = sum(t.nbytes for name, t in tensors if name in KV)
        return growing, sum(t.nbytes for _, t in tensors) - growing


class _Slots(DynamicLayer):  # type: ignore[misc]  # transformers ships no types
    """Keys and values in buffers [rows, heads, columns, head size] of which `keys` and `values` are views."""

    window: int  # how many tokens stay

    def open(self) -> None:
        """Start with no rows; in place of a constructor, as a layer of transformers' own becomes one of these."""
        self.window = getattr(self, "sliding_window", ALL) - 1
        self._buffers: list[torch.Tensor] = []
        self.rows = self._start = self._end = self.cumulative_length = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append columns [rows, heads, new, head size]; return all that the new tokens may see."""
        self.rows, new = len(key_states), key_states.shape[-2]
        self._reserve((key_states, value_states), self.rows, 0, new)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[: self.rows, :, self._end : self._end + new] = states
        self._end += new
        seen = self._views()
        self.narrow(self.cumulative_length + new)
        return seen

    def join(self, rows: Sequence[dict[Any, torch.Tensor]], width: int) -> None:
        """Put rows below those that are there, their last tokens at the common edge."""
        like = [rows[0][name] for name in KV]
        self._reserve(like, self.rows + len(rows), min(width, self.window), 0)
        for row in rows:
            for buffer, name in zip(self._buffers, KV, strict=True):
                buffer[self.rows, :, self._end - row[name].shape[-2] : self._end] = row[name]
            self.rows += 1
        self.narrow(width)

    def leave(self, row: int, width: int) -> None:
        """Drop a row; the last row takes its place. `width` is that of the longest row left."""
        self.rows -= 1
        if row != self.rows:
            for buffer in self._buffers:
                buffer[row, :, self._start : self._end] = buffer[self.rows, :, self._start : self._end]
        self.narrow(width)

    def narrow(self, width: int) -> None:
        """Set the width to that of the longest row."""
        self.cumulative_length, self._start = width, self._end - min(width, self.window)
        self.keys, self.values = self._views()

    def row(self, row: int, length: int) -> dict[Any, torch.Tensor]:
        """The keys and values that a row of `length` tokens holds, as views."""
        begin = max(self._start, self._end - length)
        return {name: b[row, :, begin : self._end] for name, b in zip(KV, self._buffers, strict=True)}

    def _views(self) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = (buffer[: self.rows, :, self._start : self._end] for buffer in self._buffers)
        return keys, values

    def _reserve(self, like: Sequence[torch.Tensor], rows: int, held: int, new: int) -> None:
        """Have buffers into which `rows` rows of `held` columns and `new` more fit; move there what there is."""
        width, there = self._end - self._start, self._buffers[:1]
        if there and rows <= there[0].shape[0] and held <= self._end and self._end + new <= there[0].shape[2]:
            return
        old = self._views() if there else ()
        rows, held = max([rows, *map(len, there)]), max(held, width)
        # Zeros, since padding is multiplied by a weight of zero, which a NaN would survive.
        self._buffers = [
            torch.zeros(rows, t.shape[-3], held + new + COLUMNS, t.shape[-1], dtype=t.dtype, device=t.device)
            for t in like
        ]
        for fresh, view in zip(self._buffers, old, strict=False):
            fresh[: self.rows, :, held - width : held] = view
        self._start, self._end = held - width, held
        self.dtype, self.device, self.is_initialized = like[0].dtype, like[0].device, True


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


def join_rows(cache: Any, rows: Sequence[Row], width: int) -> None:
    """Put rows below those that a cache has; `width` is that of the longest then, its dropped tokens included."""
    for index, layer in enumerate(cache.layers):
        parts = [row.layers[index] for row in rows]
        if "keys" in parts[0]:
            layer.join(parts, width)
        for name in parts[0]:
            if name not in KV:
                _join_state(layer, name, torch.stack([part[name] for part in parts]))


def drop_row(cache: Any, row: int, width: int) -> None:
    """Drop a row of a cache; the last one takes its place. `width` is that of the longest row left."""
    for layer in cache.layers:
        if _has_keys(layer):
            layer.leave(row, width)
        for (kind, number), state in _states(layer).items():
            keep = [len(state) - 1 if at == row else at for at in range(len(state) - 1)]
            getattr(layer, f"{kind}_states")[number] = state[keep]


def take_row(cache: Any, row: int, length: int) -> Row:
    """The first `length` tokens of a cache's row, as views: to be copied or used before the batch goes on."""
    layers = [
        (layer.row(row, length) if _has_keys(layer) else {})
        | {name: state[row] for name, state in _states(layer).items()}
        for layer in cache.layers
    ]
    return Row(length, tuple(layers))


def _has_keys(layer: Any) -> bool:
    return isinstance(layer, _Slots) and bool(layer.is_initialized)


def _states(layer: Any) -> dict[tuple[str, int], torch.Tensor]:
    """The states that a layer holds, each of all rows; none that has not been computed yet."""
    if not isinstance(layer, LinearAttentionLayer):
        return {}
    kinds = {"conv": layer.conv_states, "recurrent": layer.recurrent_states}
    return {(kind, n): state for kind, held in kinds.items() for n, state in held.items() if state is not None}


def _join_state(layer: Any, name: tuple[str, int], fresh: torch.Tensor) -> None:
    kind, number = name
    held, initialized = getattr(layer, f"{kind}_states"), getattr(layer, f"is_{kind}_states_initialized")
    held[number] = torch.cat([held[number], fresh]) if initialized[number] else fresh
    initialized[number] = layer.has_previous_state[number] = True
    layer.dtype, layer.device = fresh.dtype, fresh.device
    if kind == "conv":
        layer.conv_kernel_size[number] = fresh.shape[-1]
