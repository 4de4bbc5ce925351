"""A mask for people: runs of trained, masked and context text, in colour or between plain marks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from tiararodney.sekft.render.session import IGNORED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tiararodney.sekft.render.session import Example
    from tiararodney.sekft.render.tokens import Tokenizer

Kind = Literal["trained", "masked", "context"]
"""What a position is: a target, part of a reply that its record says not to train, or anything else."""
_BEFORE = 8
"""Tokens decoded before a run, so that its first space and its first bytes come out as they do in the whole."""
_STYLES = {"trained": "\x1b[1;32m", "masked": "\x1b[33m", "context": "\x1b[2m"}
_OFF = "\x1b[0m"
_MARKS = {"trained": ("⟦", "⟧"), "masked": ("⟪", "⟫"), "context": ("", "")}
_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SYMBOLS = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"}
_SYMBOLS |= {code: f"\\x{code:02x}" for code in range(0x7F, 0xA0)}
_SYMBOLS |= {code: f"\\u{code:04x}" for code in _DIRECTIONS}


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of an example's positions (`end` excluded) that are all of one kind, and what its tokens decode to."""

    text: str
    kind: Kind
    start: int
    end: int


def runs(tok: Tokenizer, example: Example) -> list[Run]:
    """Return an example's runs in order; their texts joined are the text of its tokens."""
    ids, out = example.input_ids, []
    kinds: list[Kind] = ["context" if label == IGNORED else "trained" for label in example.labels]
    for start, end in example.masked:
        kinds[start:end] = ["masked"] * (end - start)
    for kind, group in groupby(range(len(ids)), key=kinds.__getitem__):
        positions = list(group)
        start, end = positions[0], positions[-1] + 1
        before = ids[max(0, start - _BEFORE) : start]
        head, whole = tok.decode(before), tok.decode([*before, *ids[start:end]])
        text = whole[len(head) :] if whole.startswith(head) else tok.decode(ids[start:end])
        out.append(Run(text, kind, start, end))
    return out


def preview(shown: Iterable[Run], *, colour: bool) -> str:
    """Return runs as text for a terminal.

    Trained ones are green, masked ones yellow; without colours they stand between ⟦ ⟧ and ⟪ ⟫. Control characters (an
    environment may print any) are shown as symbols, so that they cannot act on the terminal.
    """
    out = []
    for run in shown:
        # Colours end with each line: a pager that shows single lines would lose them otherwise.
        opening, closing = (_STYLES[run.kind], _OFF) if colour else _MARKS[run.kind]
        pieces = printable(run.text).split("\n") if colour else [printable(run.text)]
        out.append("\n".join(f"{opening}{piece}{closing}" if piece else "" for piece in pieces))
    return "".join(out)


def printable(text: str) -> str:
    """Replace control characters other than newline and tab by symbols for them."""
    return text.translate(_SYMBOLS)
