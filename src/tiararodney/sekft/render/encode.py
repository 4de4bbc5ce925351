"""Text to ids, and the proof that a prompt's ids are the first ids of the session's.

A session is encoded once. An anchor (a control token that splits any text it stands in) makes the stretches on its two
sides independent of each other, so a prompt's ids are known up to the last anchor before its end without encoding them
again. Only the stretch from there is encoded alone and compared: that is where a merge could cross the border.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.render.control import control_pattern
from tiararodney.sekft.render.session import RefusalReason, SessionRefused

if TYPE_CHECKING:
    from tiararodney.sekft.render.reply import Reply
    from tiararodney.sekft.render.tokens import Tokenizer

_end = itemgetter(1)
_CONTEXT = 4
"""Tokens decoded before a reply. Byte-level tokens may cut a character, which has at most four bytes; decoded
alone, a reply's first bytes could come out as replacement characters."""
_BARRIERS = ("", "\n", "x", "]", "0", ".")
"""Texts to encode a reply behind, tried in turn: one that no merge joins to the reply shows how it is cut where nothing
before it takes part."""


@dataclass(frozen=True)
class Encoded:
    """A text and its tokens.

    Args:
        text: the text.
        ids: its tokens.
        offsets: for each token, where its characters begin and end.
        anchor_ends: where the anchors end, in characters.
        anchor_starts: where the anchors begin, in characters.
        anchor_at: where the anchors are, in tokens.
        control: ids of the control tokens.
        stretches: ids of stretches encoded so far: most turns have the same header.
        heads: text of the tokens before a reply, by ids: the same for most turns too.
    """

    text: str
    ids: list[int]
    offsets: Sequence[tuple[int, int]]
    anchor_starts: list[int]
    anchor_ends: list[int]
    anchor_at: list[int]
    control: frozenset[int]
    stretches: dict[str, list[int]] = field(default_factory=dict)
    heads: dict[tuple[int, ...], str] = field(default_factory=dict)


class _Joined(Sequence[tuple[int, int]]):
    """Offsets of a text whose beginning was encoded before and whose rest was encoded from character `start` on."""

    def __init__(self, first: Sequence[tuple[int, int]], at: int, rest: Sequence[tuple[int, int]], start: int) -> None:
        self._first, self._at, self._rest, self._start = first, at, rest, start

    def __len__(self) -> int:
        return self._at + len(self._rest)

    def __getitem__(self, index: Any) -> Any:
        if index < self._at:
            return self._first[index]
        begin, end = self._rest[index - self._at]
        return begin + self._start, end + self._start


def encode(tok: Tokenizer, text: str, known: Encoded | None = None) -> Encoded:
    """Encode a text and note where it can be cut.

    Args:
        tok: the tokenizer.
        text: the text.
        known: an encoded text that may begin the same; up to their last common anchor its ids are taken over.
    """
    k = None if known is None else _common_anchor(tok, known, text)
    if known is None or k is None:
        ids, offsets = tok.encode_with_offsets(text)
        at, starts, ends = _anchors(tok, ids, offsets)
        return Encoded(text, ids, offsets, starts, ends, at, frozenset(tok.control_tokens.values()))
    begin, before = known.anchor_starts[k], known.anchor_at[k]
    rest, offsets = tok.encode_with_offsets(text[begin:])
    at, starts, ends = _anchors(tok, rest, offsets)
    return replace(
        known,
        text=text,
        ids=known.ids[:before] + rest,
        offsets=_Joined(known.offsets, before, offsets, begin),
        anchor_starts=known.anchor_starts[:k] + [begin + a for a in starts],
        anchor_ends=known.anchor_ends[:k] + [begin + b for b in ends],
        anchor_at=known.anchor_at[:k] + [before + n for n in at],
    )


def _anchors(
    tok: Tokenizer, ids: list[int], offsets: Sequence[tuple[int, int]]
) -> tuple[list[int], list[int], list[int]]:
    """Return where the anchors are, in tokens, and where they begin and end, in characters."""
    at = list(compress(range(len(ids)), map(tok.anchors.__contains__, ids)))
    ranges = list(map(offsets.__getitem__, at))
    return at, [a for a, _ in ranges], [b for _, b in ranges]


def _common_anchor(tok: Tokenizer, known: Encoded, text: str) -> int | None:
    """Return the index of the last anchor of `known` up to which a text has the same characters."""
    # Bisection: where the texts agree up to one anchor, they agree up to all before it.
    low, high = 0, len(known.anchor_ends)
    while low < high:
        middle = (low + high) // 2
        border = known.anchor_ends[middle]
        if text.startswith(known.text[:border]):
            low = middle + 1
        else:
            high = middle
    if low == 0:
        return None
    # Some tokenizers report wrong offsets: cut only where the token's own text stands.
    begin, end = known.anchor_starts[low - 1], known.anchor_ends[low - 1]
    token = known.ids[known.anchor_at[low - 1]]
    return low - 1 if tok.control_tokens.get(known.text[begin:end]) == token else None


def prefix_length(tok: Tokenizer, encoded: Encoded, border: int) -> int | None:
    """Prove that the text up to a border, encoded alone, gives the first tokens of the whole.

    An anchor splits a text whatever is around it, so both have the same tokens up to the last anchor before the
    border; the stretch from there to the border is encoded alone and compared.

    Args:
        tok: the tokenizer.
        encoded: the whole.
        border: a place in its text, in characters.

    Returns:
        How many tokens the text up to the border has; None where they are not the whole's first tokens.
    """
    k = bisect_right(encoded.anchor_ends, border) - 1
    start, at = (encoded.anchor_starts[k], encoded.anchor_at[k]) if k >= 0 else (0, 0)
    stretch = encoded.text[start:border]
    ids = encoded.stretches.get(stretch)
    if ids is None:
        ids = encoded.stretches[stretch] = tok.encode(stretch)
    return at + len(ids) if encoded.ids[at : at + len(ids)] == ids else None


def reply_span(tok: Tokenizer, encoded: Encoded, border: int, over: int, end: str) -> tuple[int, int] | None:
    """Return the range of a reply's tokens, where it is served exactly.

    Args:
        tok: the tokenizer.
        encoded: a session.
        border: where the reply's prompt ends, in characters.
        over: where its end-of-turn token ends, in characters.
        end: text of that token.

    Returns:
        A half-open range of tokens; None where the prompt's tokens are not those before it, the reply's tokens do not
        decode to it, or hold a control token other than its end.
    """
    first = prefix_length(tok, encoded, border)
    if first is None:
        return None
    last = _token_ending(encoded, over, first)
    if last is None or encoded.ids[last] != tok.control_tokens[end]:
        return None
    said = encoded.ids[first : last + 1]
    if not encoded.control.isdisjoint(said[:-1]):
        return None
    # As in `decodes_to`, with the decoded header remembered.
    before = encoded.ids[max(0, first - _CONTEXT) : first]
    head = encoded.heads.get(tuple(before))
    if head is None:
        head = encoded.heads[tuple(before)] = tok.decode(before)
    return (first, last + 1) if tok.decode(before + said) == head + encoded.text[border:over] else None


def _token_ending(encoded: Encoded, over: int, first: int) -> int | None:
    """Return the index of the token, from `first` on, that ends at a place in the text; None where none does."""
    # The end of a turn mostly is an anchor, and anchors are few.
    k = bisect_left(encoded.anchor_ends, over)
    if k < len(encoded.anchor_ends) and encoded.anchor_ends[k] == over:
        return encoded.anchor_at[k]
    last = bisect_left(encoded.offsets, over, first, key=_end)
    return last if last < len(encoded.ids) and encoded.offsets[last][1] == over else None


def crossing_text(encoded: Encoded, border: int) -> str:
    """Return the text of the token that crosses a border, empty where none does."""
    at = bisect_right(encoded.offsets, border, key=_end)
    if at == len(encoded.ids):
        return ""
    start, end = encoded.offsets[at]
    return encoded.text[start:end] if start < border else ""


def continuation(tok: Tokenizer, prompt_ids: list[int], reply: Reply) -> list[int]:
    """Encode a reply apart from its prompt, where one pass over both would merge their border or find a control token.

    The text of a control token in the reply is spelled in ordinary tokens: the token itself would end the turn there.

    Args:
        tok: the tokenizer.
        prompt_ids: ids that are served before it.
        reply: the reply.

    Returns:
        The reply's ids and its end-of-turn id.

    Raises:
        SessionRefused: no tokens decode to the reply behind this prompt.
    """
    tail = prompt_ids[-_CONTEXT:]
    out: list[int] = []
    for piece in _spelled(tok, reply.text):
        ids = _behind_barrier(tok, tail + out, piece)
        if ids is None:
            if control_pattern(tok).search(reply.text):
                raise SessionRefused(RefusalReason.CONTROL_TOKEN_IN_REPLY, f"{reply.text[:40]!r} cannot be spelled")
            raise SessionRefused(RefusalReason.NOT_REVERSIBLE, f"no tokens decode to {piece[:40]!r} behind this prompt")
        out += ids
    out.append(tok.control_tokens[reply.end])
    if not decodes_to(tok, tail, out, reply.text + reply.end):
        raise SessionRefused(
            RefusalReason.NOT_REVERSIBLE, f"the tokens of {reply.text[:40]!r} decode to {tok.decode(out)[:40]!r}"
        )
    return out


def decodes_to(tok: Tokenizer, before: list[int], ids: list[int], text: str) -> bool:
    """Tell whether ids decode to a text when they follow others.

    They are not decoded alone: a sentencepiece decoder drops the space before the first token it is given.
    """
    return tok.decode([*before, *ids]) == tok.decode(before) + text


def _only_text(tok: Tokenizer, ids: list[int]) -> bool:
    return not set(ids).intersection(tok.control_tokens.values())


def _spelled(tok: Tokenizer, text: str) -> list[str]:
    """Cut a text after the first character of every control token in it, so that no piece holds a whole one."""
    cuts = [0]
    pattern, position = control_pattern(tok), 0
    while match := pattern.search(text, position):
        cuts.append(match.start() + 1)
        position = match.start() + 1
    pieces = [text[a:b] for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]
    return [p for p in pieces if p]


def _behind_barrier(tok: Tokenizer, before: list[int], piece: str) -> list[int] | None:
    """Encode a piece so that it continues given tokens: none may begin before it, no dummy space is added."""
    for barrier in _BARRIERS:
        # Sentencepiece adds a space before a text's first piece; behind a barrier the reply is not the first.
        head, whole = tok.encode(barrier), tok.encode(barrier + piece)
        ids = whole[len(head) :]
        if whole[: len(head)] == head and _only_text(tok, ids) and decodes_to(tok, before, ids, piece):
            return ids
    return None
