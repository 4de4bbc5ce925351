"""The KV caches of finished replies, for prompts that go on from them."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiararodney.sekft.model.kv import Row, row_bytes

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence


@dataclass(frozen=True)
class _Entry:
    source: Hashable
    ids: list[int]
    row: Row
    size: int


class PrefixCache:
    """Caches by the tokens they hold, the least recently used first."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()

    def add(self, source: Hashable, ids: list[int], row: Row) -> None:
        """Keep the cache of a token sequence; it replaces those of its own prefixes.

        Args:
            source: What computed it (the adapter); only the same finds it again.
            ids: The tokens that went through the model, as many as `row.length`.
            row: Their cache, in memory of its own.
        """
        self.drop_prefixes(source, ids)
        self._entries.append(_Entry(source, ids, row, sum(row_bytes(row))))

    def find(self, source: Hashable, ids: Sequence[int]) -> Row | None:
        """Find the cache of the longest prefix of a prompt, with at least one token left to compute.

        Args:
            source: What computes it.
            ids: The prompt.

        Returns:
            A cache of the prompt's first tokens, or None.
        """
        best: tuple[int, _Entry] | None = None
        for entry in self._entries:
            if entry.source != source:
                continue
            shared = min(common_prefix(entry.ids, ids), len(ids) - 1)
            if shared < len(entry.ids) and (entry.row.windowed or entry.row.stateful):
                continue
            if shared and (best is None or shared > best[0]):
                best = (shared, entry)
        if best is None:
            return None
        self._entries.remove(best[1])
        self._entries.append(best[1])  # used last
        return best[1].row.prefix(best[0])

    def drop_prefixes(self, source: Hashable, ids: Sequence[int]) -> None:
        """Drop the caches that `ids` goes on from: their tokens are about to be in its own."""
        self._entries = [
            entry for entry in self._entries if entry.source != source or common_prefix(entry.ids, ids) < len(entry.ids)
        ]

    def shrink(self, size: int) -> None:
        """Drop the least recently used until what is left takes at most `size` bytes."""
        held = sum(entry.size for entry in self._entries)
        while self._entries and held > size:
            held -= self._entries.pop(0).size


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the first tokens that two sequences have in common."""
    shortest = min(len(one), len(other))
    if one[:shortest] == other[:shortest]:
        return shortest
    # Slices are compared in C: a search over lengths is faster than a loop over tokens.
    return bisect_left(range(1, shortest), 1, key=lambda n: int(one[:n] != other[:n]))
