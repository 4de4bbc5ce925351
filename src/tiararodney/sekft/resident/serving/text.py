"""Turns token ids into text as they come, and finds where a stop text ends a reply."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class Decoder:
    """Decodes one reply, token by token.

    Text is given out when no later token can change it: not while its last character is unfinished UTF-8, and not while
    it may be the beginning of a stop text.

    Args:
        decode: token ids to text, control tokens left out.
        stops: texts that end the reply; what begins with one is left out.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = ()) -> None:
        self._decode, self._stops = decode, tuple(stops)
        self.ids: list[int] = []
        self.text = ""
        self.stopped = False
        self._sent = 0

    def add(self, token: int) -> str:
        """Take a token; return the text that became certain with it.

        `text` is the reply so far, cut at the first stop text; `stopped` is true from the token on that completes one.
        """
        self.ids.append(token)
        self.text = self._decode(self.ids)
        if found := [at for at in (self.text.find(stop) for stop in self._stops) if at >= 0]:
            self.text, self.stopped = self.text[: min(found)], True
            return self._give(len(self.text))
        return self._give(len(self.text) - self._uncertain())

    def rest(self) -> str:
        """Return what was held back, at the reply's end."""
        return self._give(len(self.text))

    def _uncertain(self) -> int:
        """How many characters at the end may still change or belong to a stop text."""
        certain = self.text.rstrip(_UNFINISHED)
        begun = 0
        for stop in self._stops:
            sizes = range(min(len(stop) - 1, len(certain)), begun, -1)
            begun = max(begun, next((size for size in sizes if certain.endswith(stop[:size])), 0))
        return len(self.text) - len(certain) + begun

    def _give(self, end: int) -> str:
        given = self.text[self._sent : end]
        self._sent = max(self._sent, end)
        return given
