"""The KV caches of finished replies, for prompts that go on from them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress, count
from operator import ne
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from tiararodney.sekft.model.kv import Row


@dataclass(frozen=True, eq=False)
class _Entry:
    source: Hashable
    ids: list[int]
    row: Row
    size: int

    def shared(self, source: Hashable, ids: Sequence[int]) -> int:
        """How many first tokens it has in common with others of the same source."""
        if source != self.source:
            return 0
        return next(compress(count(), map(ne, self.ids, ids)), min(len(self.ids), len(ids)))


class PrefixCache:
    """Caches by the tokens they hold, the least recently used first."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()

    def add(self, source: Hashable, ids: list[int], row: Row) -> None:
        """Keep the cache of `row.length` tokens, in memory of its own; it replaces those of its own prefixes.

        Only the same source (the adapter that computed it) finds it again.
        """
        self.drop_prefixes(source, ids)
        self._entries.append(_Entry(source, ids, row, sum(row.sizes())))

    def find(self, source: Hashable, ids: Sequence[int]) -> Row | None:
        """Find the cache of the longest prefix of a prompt, with at least one token left to compute."""
        usable = [(min(entry.shared(source, ids), len(ids) - 1), entry) for entry in self._entries]
        usable = [(n, entry) for n, entry in usable if n and (n == len(entry.ids) or entry.row.cuttable)]
        if not usable:
            return None
        length, best = max(usable, key=lambda item: item[0])
        self._entries.remove(best)
        self._entries.append(best)  # used last
        return best.row.prefix(length)

    def drop_prefixes(self, source: Hashable, ids: Sequence[int]) -> None:
        """Drop the caches that `ids` goes on from: their tokens are about to be in its own."""
        self._entries = [entry for entry in self._entries if entry.shared(source, ids) < len(entry.ids)]

    def shrink(self, size: int) -> None:
        """Drop the least recently used until what is left takes at most `size` bytes."""
        held = sum(entry.size for entry in self._entries)
        while self._entries and held > size:
            held -= self._entries.pop(0).size
