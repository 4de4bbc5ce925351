"""A mask for people: runs of trained and masked text, in colour or in plain marks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from tiararodney.sekft.render.session import IGNORED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tiararodney.sekft.render.session import Example
    from tiararodney.sekft.render.tokens import Tokenizer

_BEFORE = 8
"""Tokens decoded in front of a run, so that its first space and its first bytes come out as they do in the whole."""
_TRAINED, _MASKED, _OFF = "\x1b[1;32m", "\x1b[2m", "\x1b[0m"
_OPEN, _CLOSE = "⟦", "⟧"
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of an example that is trained throughout, or not at all.

    Args:
        text: what its tokens say; a character that is cut by no run is whole.
        trained: whether its positions have labels.
        start: its first position.
        end: the position behind its last.
    """

    text: str
    trained: bool
    start: int
    end: int


def runs(tok: Tokenizer, example: Example) -> list[Run]:
    """Return an example's runs in order; their texts joined are the text of its tokens."""
    ids, out = example.input_ids, []
    for trained, group in groupby(range(len(ids)), key=lambda i: example.labels[i] != IGNORED):
        positions = list(group)
        start, end = positions[0], positions[-1] + 1
        before = ids[max(0, start - _BEFORE) : start]
        head, whole = tok.decode(before), tok.decode([*before, *ids[start:end]])
        text = whole[len(head) :] if whole.startswith(head) else tok.decode(ids[start:end])
        out.append(Run(text, trained, start, end))
    return out


def preview(shown: Iterable[Run], *, colour: bool) -> str:
    """Return runs as text for a terminal: trained ones bright and green, or between ⟦ and ⟧ without colours.

    Control characters (an environment may print any) are shown as symbols, so that they cannot act on the terminal.
    """
    out = []
    for run in shown:
        text = printable(run.text)
        if not colour:
            out.append(f"{_OPEN}{text}{_CLOSE}" if run.trained else text)
            continue
        # Colours end with each line: a pager that shows single lines would lose them otherwise.
        style = _TRAINED if run.trained else _MASKED
        out.append("\n".join(f"{style}{line}{_OFF}" if line else "" for line in text.split("\n")))
    return "".join(out)


def printable(text: str) -> str:
    """Replace control characters other than newline and tab by symbols for them."""

    def symbol(match: re.Match[str]) -> str:
        code = ord(match.group())
        if code < 0x20:  # noqa: PLR2004 - the control pictures stand in the order of the characters
            return chr(0x2400 + code)
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004 - one byte or more

    return _UNPRINTABLE.sub(symbol, text)
