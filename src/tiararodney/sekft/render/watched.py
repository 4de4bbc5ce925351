"""A session that notes how far it was looked at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class Seen:
    """How far messages were looked at: the index of the last, infinity where it is known how many there are."""

    last: float = -1

    def taken(self) -> float:
        """Return how far, and begin anew."""
        last, self.last = self.last, -1
        return last

    def note(self, index: float) -> None:
        """Note that a message was looked at."""
        self.last = max(self.last, index)


class Watched(Sequence[Mapping[str, str]]):
    """A session that notes how far it was looked at. What a sequence has no method for fails: nothing goes unnoticed.

    Args:
        messages: the session.
        seen: where it is noted; None where nobody asks, which is faster.
        start: the message of it that is the first here.
    """

    def __init__(self, messages: Sequence[Mapping[str, str]], seen: Seen | None, start: int = 0) -> None:
        self._messages, self._seen, self._start = messages, seen, start

    def __len__(self) -> int:
        self._note(math.inf)
        return max(0, len(self._messages) - self._start)

    def __bool__(self) -> bool:
        there = self._start < len(self._messages)
        self._note(self._start if there else math.inf)
        return there

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            if (index.start or 0) >= 0 and index.stop is None and index.step is None:
                return Watched(self._messages, self._seen, self._start + (index.start or 0))
            self._note(math.inf)
            return self._messages[self._start :][index]
        known = 0 <= index < len(self._messages) - self._start
        self._note(self._start + index if known else math.inf)
        return self._messages[self._start :][index] if index < 0 else self._messages[self._start + index]

    def __iter__(self) -> Iterator[Mapping[str, str]]:
        return self._noting() if self._seen is not None else iter(self._messages[self._start :])

    def _noting(self) -> Iterator[Mapping[str, str]]:
        for index in range(self._start, len(self._messages)):
            self._note(index)
            yield self._messages[index]
        self._note(math.inf)

    def _note(self, index: float) -> None:
        if self._seen is not None:
            self._seen.note(index)

    def __reversed__(self) -> Iterator[Mapping[str, str]]:
        self._note(math.inf)
        return iter(self._messages[self._start :][::-1])

    def __eq__(self, other: object) -> bool:
        raise TypeError("not compared: it would not be noted")

    def __hash__(self) -> int:
        raise TypeError("not hashed: lists are not")

    def __repr__(self) -> str:
        raise TypeError("not printed: it would not be noted")


def first_of(watched: Watched) -> int:
    """Return the message of the session that is the first here."""
    # Not an attribute: templates would see one that a list has not.
    return watched._start  # noqa: SLF001 - it is this module's
