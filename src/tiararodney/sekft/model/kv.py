"""The KV cache of a batch whose rows come and go, in the layers that the model's configuration asks for.

All rows of a batch end at the same column: [padding, tokens]. Padding stands on the left only, so that a distance in
columns is a distance in tokens, as sliding windows and relative positions need it. transformers' own layers copy all
they hold at every token; these write into memory with room on all sides, so that a token, a row that joins and a row
that leaves each cost the copy of themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    from collections.abc import Iterable, Sequence

COLUMNS = 128  # free columns that a layer makes whenever it needs one more
KINDS = ("conv", "recurrent")  # of states
States = dict[tuple[str, int], torch.Tensor]


@dataclass(frozen=True)
class LayerRow:
    """What one layer holds of one row.

    Attributes:
        keys: [heads, tokens, head size]; None for a layer without attention. A sliding window holds its last tokens.
        values: The same.
        states: Convolution and recurrent states by kind and number, each without a batch dimension.
    """

    keys: torch.Tensor | None
    values: torch.Tensor | None
    states: States


@dataclass(frozen=True)
class Row:
    """The cache of one token sequence.

    Attributes:
        length: How many tokens have gone through the model.
        layers: One entry a layer.
        windowed: Whether a sliding window has dropped tokens that a shorter prefix would need.
        stateful: Whether a layer holds a state that cannot be taken back to a shorter prefix.
    """

    length: int
    layers: tuple[LayerRow, ...]
    windowed: bool
    stateful: bool

    def prefix(self, length: int) -> Row:
        """The cache of the first `length` tokens, sharing memory with this one.

        Raises:
            ValueError: A layer no longer holds what that prefix needs; see `windowed` and `stateful`.
        """
        if length == self.length:
            return self
        if self.windowed or self.stateful:
            raise ValueError(f"this cache of {self.length} tokens cannot be cut to {length}")
        cut = [
            replace(layer, keys=layer.keys[:, :length], values=layer.values[:, :length])
            if layer.keys is not None and layer.values is not None
            else layer
            for layer in self.layers
        ]
        return replace(self, length=length, layers=tuple(cut))

    def emptied(self) -> Row:
        """A row of no tokens, of the same shapes."""
        return replace(self, windowed=False, stateful=False).prefix(0)

    def copied(self) -> Row:
        """The same in memory of its own, without a batch's padding and free columns."""
        layers = [
            LayerRow(
                None if layer.keys is None else layer.keys.clone(),
                None if layer.values is None else layer.values.clone(),
                {name: state.clone() for name, state in layer.states.items()},
            )
            for layer in self.layers
        ]
        return replace(self, layers=tuple(layers))


class _Slots(DynamicLayer):  # type: ignore[misc]  # transformers ships no types
    """Keys and values in buffers [rows, heads, columns, head size] of which `keys` and `values` are views."""

    window: int | None  # how many tokens stay, where the layer slides

    def open(self) -> None:
        """Start with no rows; in place of a constructor, as a layer of transformers' own becomes one of these."""
        self.window = None if getattr(self, "sliding_window", None) is None else self.sliding_window - 1
        self._buffers: list[torch.Tensor] = []
        self.rows = self._start = self._end = self.cumulative_length = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append columns [rows, heads, new, head size]; return all that the new tokens may see."""
        new = key_states.shape[-2]
        if not self._buffers:
            self._allocate(key_states, value_states, len(key_states), new + COLUMNS)
            self.rows = len(key_states)
        self._make_room(self.rows, self._end - self._start, new)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[: self.rows, :, self._end : self._end + new] = states
        self._end += new
        seen = self._views()
        self.cumulative_length += new
        if self.window is not None:
            self._start = max(self._start, self._end - self.window)
        self._show()
        return seen

    def join(self, rows: Sequence[tuple[torch.Tensor, torch.Tensor]], width: int) -> None:
        """Put rows below those that are there, their last tokens at the common edge.

        Args:
            rows: Keys and values, each [heads, tokens, head size].
            width: Tokens of the longest row that the batch then has, a window's dropped ones included.
        """
        held = width if self.window is None else min(width, self.window)
        if not self._buffers:
            keys, values = rows[0]
            self._allocate(keys, values, len(rows), held + COLUMNS)
            self._end = held
        self._make_room(self.rows + len(rows), held, 0)
        for tensors in rows:
            for buffer, states in zip(self._buffers, tensors, strict=True):
                buffer[self.rows, :, self._end - states.shape[-2] : self._end] = states
            self.rows += 1
        self.narrow(width)

    def leave(self, row: int) -> None:
        """Drop a row; the last row takes its place. `narrow` has to follow."""
        self.rows -= 1
        if row != self.rows:
            for buffer in self._buffers:
                buffer[row, :, self._start : self._end] = buffer[self.rows, :, self._start : self._end]

    def narrow(self, width: int) -> None:
        """Set the width to that of the longest row."""
        self._start = self._end - (width if self.window is None else min(width, self.window))
        self.cumulative_length = width
        self._show()

    def row(self, row: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and values that a row of `length` tokens holds, as views."""
        held = min(length, self._end - self._start)
        keys, values = (buffer[row, :, self._end - held : self._end] for buffer in self._buffers)
        return keys, values

    def _views(self) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = (buffer[: self.rows, :, self._start : self._end] for buffer in self._buffers)
        return keys, values

    def _show(self) -> None:
        self.keys, self.values = self._views()

    def _make_room(self, rows: int, held: int, new: int) -> None:
        """Move to larger buffers unless `rows` rows of `held` columns and `new` more fit into these."""
        buffer = self._buffers[0]
        if rows <= buffer.shape[0] and held <= self._end and self._end + new <= buffer.shape[2]:
            return
        old, width = self._views(), self._end - self._start
        held = max(held, width)
        self._allocate(*old, max(rows, buffer.shape[0]), held + new + COLUMNS)
        for fresh, view in zip(self._buffers, old, strict=True):
            fresh[: self.rows, :, held - width : held] = view
        self._start, self._end = held - width, held

    def _allocate(self, keys: torch.Tensor, values: torch.Tensor, rows: int, columns: int) -> None:
        # Zeros, since padding is multiplied by a weight of zero, which a NaN would survive.
        self._buffers = [
            torch.zeros(rows, like.shape[-3], columns, like.shape[-1], dtype=like.dtype, device=like.device)
            for like in (keys, values)
        ]
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True


OURS: dict[type, type[_Slots]] = {
    kind: type(f"Roomy{kind.__name__}", (_Slots, kind), {})
    for kind in (
        DynamicLayer,
        DynamicSlidingWindowLayer,
        LinearAttentionAndFullAttentionLayer,
        LinearAttentionAndSlidingWindowAttentionLayer,
    )
}


class BatchCache:
    """The cache of a batch: what the model's configuration asks for, with rows that join and leave.

    Args:
        config: The model's configuration.

    Attributes:
        cache: What the model takes.
    """

    def __init__(self, config: Any) -> None:  # transformers ships no types
        self.cache = DynamicCache(config=config)
        for layer in self.cache.layers:
            if type(layer) in OURS:
                layer.__class__ = OURS[type(layer)]  # the same layer in all but how it keeps its memory
                layer.open()
            elif type(layer) is not LinearAttentionLayer:
                raise UnknownLayer(type(layer).__name__)
        if not self.cache.layers:
            raise UnknownLayer("none")

    def join(self, rows: Sequence[Row], width: int) -> None:
        """Put rows below those that are there.

        Args:
            rows: Their caches, of at least one token each.
            width: Tokens of the longest row that the batch then has.
        """
        for index, layer in enumerate(self.cache.layers):
            parts = [row.layers[index] for row in rows]
            if parts[0].keys is not None:
                layer.join([(part.keys, part.values) for part in parts], width)
            _join_states(layer, [part.states for part in parts])

    def narrow(self, width: int) -> None:
        """Set the width to that of the longest row."""
        for layer in self.cache.layers:
            if isinstance(layer, _Slots) and layer.is_initialized:
                layer.narrow(width)

    def leave(self, row: int, width: int) -> None:
        """Drop a row; the last row takes its place.

        Args:
            row: Its number.
            width: Tokens of the longest row that is left.
        """
        for layer in self.cache.layers:
            if isinstance(layer, _Slots) and layer.is_initialized:
                layer.leave(row)
            for (kind, number), state in _states(layer).items():
                keep = [*range(len(state) - 1)]
                if row < len(keep):
                    keep[row] = len(state) - 1
                getattr(layer, f"{kind}_states")[number] = state[keep]
        self.narrow(width)

    def row(self, row: int, length: int) -> Row:
        """The cache of one row, as views into the batch's.

        Args:
            row: Its number.
            length: How many of its tokens have gone through the model.

        Returns:
            Its cache, to be copied or used before the batch goes on.
        """
        layers, windowed = [], False
        for layer in self.cache.layers:
            keys = values = None
            if isinstance(layer, _Slots) and layer.is_initialized:
                keys, values = layer.row(row, length)
                windowed |= keys.shape[-2] < length
            layers.append(LayerRow(keys, values, {name: state[row] for name, state in _states(layer).items()}))
        return Row(length, tuple(layers), windowed, any(layer.states for layer in layers))


class UnknownLayer(Exception):
    """The configuration asks for a kind of cache whose rows cannot be told apart here."""


def _states(layer: Any) -> States:
    """The states that a layer holds, each of all rows; none that has not been computed yet."""
    if not isinstance(layer, LinearAttentionLayer):
        return {}
    found = {(kind, number): s for kind in KINDS for number, s in getattr(layer, f"{kind}_states").items()}
    return {name: state for name, state in found.items() if state is not None}


def _join_states(layer: Any, rows: Sequence[States]) -> None:
    for kind, number in rows[0]:
        fresh = torch.stack([states[kind, number] for states in rows])
        held, initialized = getattr(layer, f"{kind}_states"), getattr(layer, f"is_{kind}_states_initialized")
        held[number] = torch.cat([held[number], fresh]) if initialized[number] else fresh
        initialized[number] = layer.has_previous_state[number] = True
        layer.dtype, layer.device = fresh.dtype, fresh.device
        if kind == "conv":
            layer.conv_kernel_size[number] = fresh.shape[-1]


def row_bytes(row: Row) -> tuple[int, int]:
    """What a row takes.

    Returns:
        Bytes of its keys and values, and bytes of its states, which do not grow with its tokens.
    """

    def size(tensors: Iterable[torch.Tensor | None]) -> int:
        return sum(t.numel() * t.element_size() for t in tensors if t is not None)

    growing = sum(size((layer.keys, layer.values)) for layer in row.layers)
    return growing, sum(size(layer.states.values()) for layer in row.layers)
