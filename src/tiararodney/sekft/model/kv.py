"""Keys and values kept between calls, and the preallocated cache that a batch decodes into."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

Row = list[tuple[torch.Tensor, torch.Tensor]]  # per layer: keys and values, each [heads, tokens, head size]


@dataclass(frozen=True)
class Kept:
    """The cache of one token sequence under one adapter."""

    adapter: str | None
    ids: list[int]
    row: Row


class KeptPrefixes:
    """The caches of recent sequences, the oldest dropped when they hold more than `limit` tokens."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._entries: list[Kept] = []

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()

    def longest_prefix(self, adapter: str | None, prompt: Sequence[int]) -> tuple[Row | None, int]:
        """Find the kept sequence that shares the longest prefix with `prompt`.

        At least the prompt's last token is left to compute: its logits are what the reply starts from.

        Args:
            adapter: The adapter the keys and values must have been computed with.
            prompt: Token ids.

        Returns:
            The kept row, and how many of its tokens serve; (None, 0) if none does.
        """
        best: tuple[Row | None, int] = (None, 0)
        for entry in self._entries:
            if entry.adapter != adapter:
                continue
            shared = min(_common(entry.ids, prompt), len(prompt) - 1)
            if shared > best[1]:
                best = (entry.row, shared)
        return best

    def add(self, adapter: str | None, ids: list[int], row: Row) -> None:
        """Keep a sequence's cache; it replaces those that are prefixes of it.

        Args:
            adapter: The adapter it was computed with.
            ids: The tokens.
            row: Their keys and values.
        """
        self._entries = [
            entry for entry in self._entries if entry.adapter != adapter or ids[: len(entry.ids)] != entry.ids
        ]
        self._entries.append(Kept(adapter, ids, row))
        while sum(len(entry.ids) for entry in self._entries) > self.limit:
            self._entries.pop(0)


class RoomyLayer(DynamicLayer):  # type: ignore[misc]  # transformers ships no types
    """A cache layer with room for the whole reply, so that a step writes its tokens instead of copying the past."""

    def __init__(self, keys: torch.Tensor | None, values: torch.Tensor | None, room: int) -> None:
        super().__init__()
        self._room = room
        self._length = 0
        self._all_keys: torch.Tensor
        self._all_values: torch.Tensor
        if keys is not None and values is not None:
            self.dtype, self.device = keys.dtype, keys.device
            self._allocate(keys, values, keys.shape[2])
            self._write(keys, values)
            self.is_initialized = True

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *args: Any,  # noqa: ARG002  # the signature is transformers'
        **kwargs: Any,  # noqa: ARG002  # the signature is transformers'
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new keys and values behind the past and return all of them."""
        if not self.is_initialized:
            self.dtype, self.device = key_states.dtype, key_states.device
            self._allocate(key_states, value_states, 0)
            self.is_initialized = True
        self._write(key_states, value_states)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep only the rows `indices` of the batch."""
        self._all_keys, self._all_values = self._all_keys[indices], self._all_values[indices]
        self._show()

    def _allocate(self, keys: torch.Tensor, values: torch.Tensor, past: int) -> None:
        self._all_keys = keys.new_zeros(*keys.shape[:2], past + self._room, keys.shape[3])
        self._all_values = values.new_zeros(*values.shape[:2], past + self._room, values.shape[3])

    def _write(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        end = self._length + keys.shape[2]
        self._all_keys[:, :, self._length : end] = keys
        self._all_values[:, :, self._length : end] = values
        self._length = end
        self._show()

    def _show(self) -> None:
        self.keys, self.values = self._all_keys[:, :, : self._length], self._all_values[:, :, : self._length]


def batch_cache(
    found: Sequence[tuple[Row | None, int]], room: int, depth: int, device: str
) -> tuple[Any, torch.Tensor]:
    """Lay the kept prefixes of a batch into one cache, right-aligned.

    Args:
        found: Per row of the batch, what `longest_prefix` gave.
        room: Tokens that will be appended at most.
        depth: The model's layers.
        device: Where the model runs.

    Returns:
        The cache, and a mask [rows, columns] of its columns: 1 where a row has a token.
    """
    width = max(length for _, length in found)
    mask = torch.zeros(len(found), width, dtype=torch.long)
    for index, (_, length) in enumerate(found):
        mask[index, width - length :] = 1
    some = next((row for row, length in found if row is not None and length), None)
    if some is None:
        return Cache(layers=[RoomyLayer(None, None, room) for _ in range(depth)]), mask
    layers = []
    for layer, (keys, values) in enumerate(some):
        batch_keys = torch.zeros(len(found), keys.shape[0], width, keys.shape[2], dtype=keys.dtype, device=device)
        batch_values = torch.zeros(
            len(found), values.shape[0], width, values.shape[2], dtype=values.dtype, device=device
        )
        for index, (row, length) in enumerate(found):
            if row is not None and length:
                batch_keys[index, :, width - length :] = row[layer][0][:, :length]
                batch_values[index, :, width - length :] = row[layer][1][:, :length]
        layers.append(RoomyLayer(batch_keys, batch_values, room))
    return Cache(layers=layers), mask


def row_of(cache: Any, row: int, columns: torch.Tensor) -> Row:  # transformers ships no types
    """Copy one row's tokens out of a batch's cache.

    Args:
        cache: The cache.
        row: The row.
        columns: The columns that hold its tokens, in order.

    Returns:
        Per layer the row's keys and values.
    """
    return [
        (layer.keys[row].index_select(1, columns), layer.values[row].index_select(1, columns)) for layer in cache.layers
    ]


def select_rows(cache: Any, rows: torch.Tensor) -> None:  # transformers ships no types
    """Keep only `rows` of a batch's cache.

    Args:
        cache: The cache; changed in place.
        rows: Indices of the rows that stay.
    """
    for layer in cache.layers:
        layer.batch_select_indices(rows)


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count
