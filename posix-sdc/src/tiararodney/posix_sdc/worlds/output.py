"""Collects a stream of output in flat memory: the beginning, the end, and how much was left out between them."""

from __future__ import annotations


class Collector:
    """Takes bytes until a mark comes, keeping at most `limit` of them.

    Args:
        limit: bytes to keep; half of them from the beginning, half from the end.
        marks: byte strings of one length, each of which ends the stream; whatever follows the first is dropped.
    """

    def __init__(self, limit: int, marks: tuple[bytes, ...]) -> None:
        self._half = max(limit // 2, 1)
        self._marks = marks
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0
        self.complete = False

    def feed(self, data: bytes) -> None:
        """Take more bytes."""
        if self.complete or not data:
            return
        # The mark may straddle two pieces: it is looked for in the held tail, which is never cut shorter than a mark.
        seen = max(len(self._tail) - len(self._marks[0]) + 1, 0)
        self._tail += data
        found = [at for mark in self._marks if (at := self._tail.find(mark, seen)) >= 0]
        if found:
            del self._tail[min(found) :]
            self.complete = True
        held = 0 if self.complete else len(self._marks[0])
        take = min(self._half - len(self._head), len(self._tail) - held)
        if take > 0:
            self._head += self._tail[:take]
            del self._tail[:take]
        excess = len(self._tail) - self._half - held
        if excess > 0:
            del self._tail[:excess]
            self._dropped += excess

    def text(self) -> str:
        """Return what was collected: invalid UTF-8 replaced, NUL dropped as terminals do, a note where it was cut."""
        if not self._dropped:
            return _decoded(bytes(self._head + self._tail))
        head = bytes(self._head).decode("utf-8", "replace").rstrip("�")
        tail = bytes(self._tail).decode("utf-8", "replace").lstrip("�")
        return f"{head}\n[... {self._dropped} bytes left out ...]\n{tail}".replace("\0", "")


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\0", "")
