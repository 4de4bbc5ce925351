"""A lock that is handed on in the order of asking."""

from __future__ import annotations

import threading
from typing import Self


class FairLock:
    """A re-entrant lock that a thread which takes it again and again cannot keep from others.

    Python's own locks go to whoever is fastest, which is the thread that has just released one.
    """

    def __init__(self) -> None:
        self._door, self._room = threading.Lock(), threading.Lock()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> Self:
        if self._owner != threading.get_ident():
            with self._door:  # who waits for the room holds the door shut for those that come later
                self._room.acquire()
            self._owner = threading.get_ident()
        self._depth += 1
        return self

    def __exit__(self, *_error: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
            self._room.release()
