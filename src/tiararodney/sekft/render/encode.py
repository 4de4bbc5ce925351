"""Text to ids, and the proof that a prompt's ids are the first ids of the session's.

A session is encoded once. An anchor (an added token that splits any text it stands in) makes the stretches on its two
sides independent of each other, so a prompt's ids are known up to the last anchor before its end without encoding them
again. Only the stretch from there is encoded alone and compared: that is where a merge could cross the border.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING

from tiararodney.sekft.render.session import RefusalReason, SessionRefused
from tiararodney.sekft.render.tokens import control_pattern, pattern_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.sekft.render.reply import Reply
    from tiararodney.sekft.render.session import Span
    from tiararodney.sekft.render.tokens import Tokenizer

_CONTEXT = 4
"""Tokens decoded before a reply. Byte-level tokens may cut a character, which has at most four bytes; decoded
alone, a reply's first bytes could come out as replacement characters."""
_BARRIERS = ("", "\n", "x", "]", "0", ".")
"""Texts to encode a reply behind, tried in turn: one that no merge joins to the reply shows how it is cut where nothing
before it takes part."""


@dataclass(frozen=True)
class Encoded:
    """A text and its tokens.

    `anchors` has, for each in order, where it begins and ends, in characters, and its index among the tokens;
    `stretches` the ids of stretches encoded so far: most turns have the same header.
    """

    text: str
    ids: list[int]
    anchors: Sequence[tuple[int, int, int]]
    stretches: dict[str, list[int]] = field(default_factory=dict)


def encode(tok: Tokenizer, text: str) -> Encoded:
    """Encode a text and note where it can be cut."""
    ids, anchors = tok.encode(text), tok.anchors
    at = [n for n, token in enumerate(ids) if token in anchors]
    found = list(pattern_of(tuple(anchors.values())).finditer(text))
    if [match.group() for match in found] != [anchors[ids[n]] for n in at]:
        found, at = [], []  # other added tokens overlap them: which is which is not known
    return Encoded(text, ids, [(*match.span(), n) for match, n in zip(found, at, strict=True)])


def prefix_length(tok: Tokenizer, encoded: Encoded, border: int) -> int | None:
    """Prove that the text up to a border (in characters), encoded alone, gives the first tokens of the whole.

    An anchor splits a text whatever is around it, so both have the same tokens up to the last anchor before the
    border; the stretch from there to the border is encoded alone and compared.

    Returns:
        How many tokens the text up to the border has; None where they are not the whole's first tokens.
    """
    k = bisect_right(encoded.anchors, border, key=itemgetter(1))
    start, _, at = encoded.anchors[k - 1] if k else (0, 0, 0)
    stretch = encoded.text[start:border]
    ids = encoded.stretches.get(stretch)
    if ids is None:
        ids = encoded.stretches[stretch] = tok.encode(stretch)
    return at + len(ids) if encoded.ids[at : at + len(ids)] == ids else None


def reply_span(tok: Tokenizer, encoded: Encoded, border: int, over: int, end: str) -> Span | None:
    """Return the range of a reply's tokens, where it is served exactly.

    Its prompt ends at `border`, its end-of-turn token, whose text is `end`, at `over`, both in characters.

    Returns:
        None where the prompt's tokens are not those before it, or where the reply's tokens do not decode to it, or hold
        a control token other than its end.
    """
    first, last = prefix_length(tok, encoded, border), prefix_length(tok, encoded, over)
    if first is None or last is None or encoded.ids[last - 1] != tok.control_tokens[end]:
        return None
    said, before = encoded.ids[first:last], encoded.ids[max(0, first - _CONTEXT) : first]
    exact = _only_text(tok, said[:-1]) and decodes_to(tok, before, said, encoded.text[border:over])
    return (first, last) if exact else None


def crossing_text(tok: Tokenizer, prompt_ids: Sequence[int], ids: Sequence[int]) -> str:
    """Return the text of the token in which a session parts from its prompt encoded alone, empty where it does not."""
    return next((tok.decode([b]) for a, b in zip(prompt_ids, ids, strict=False) if a != b), "")


def continuation(tok: Tokenizer, prompt_ids: list[int], reply: Reply) -> list[int]:
    """Encode a reply apart from its prompt, where one pass over both would merge their border or find a control token.

    The text of a control token in the reply is spelled in ordinary tokens: the token itself would end the turn there.

    Raises:
        SessionRefused: no tokens decode to the reply behind this prompt.
    """
    tail = prompt_ids[-_CONTEXT:]
    out: list[int] = []
    for piece in _spelled(tok, reply.text):
        out += _behind_barrier(tok, tail + out, piece)
    out.append(tok.control_tokens[reply.end])
    if not decodes_to(tok, tail, out, reply.text + reply.end):
        planted = control_pattern(tok).search(reply.text)
        reason = RefusalReason.CONTROL_TOKEN_IN_REPLY if planted else RefusalReason.NOT_REVERSIBLE
        raise SessionRefused(reason, f"no tokens decode to {reply.text[:40]!r} behind this prompt")
    return out


def decodes_to(tok: Tokenizer, before: list[int], ids: list[int], text: str) -> bool:
    """Tell whether ids decode to a text when they follow others.

    They are not decoded alone: a sentencepiece decoder drops the space before the first token it is given.
    """
    return tok.decode([*before, *ids]) == tok.decode(before) + text


def _only_text(tok: Tokenizer, ids: list[int]) -> bool:
    return set(ids).isdisjoint(tok.control_tokens.values())


def _spelled(tok: Tokenizer, text: str) -> list[str]:
    """Cut a text after the first character of every control token in it, so that no piece holds a whole one."""
    pieces = []
    while match := control_pattern(tok).search(text):
        pieces.append(text[: match.start() + 1])
        text = text[match.start() + 1 :]
    return [piece for piece in (*pieces, text) if piece]


def _behind_barrier(tok: Tokenizer, before: list[int], piece: str) -> list[int]:
    """Encode a piece so that it continues given tokens: none may begin before it, no dummy space is added.

    Empty where that cannot be done.
    """
    for barrier in _BARRIERS:
        # Sentencepiece adds a space before a text's first piece; behind a barrier the reply is not the first.
        head, whole = tok.encode(barrier), tok.encode(barrier + piece)
        ids = whole[len(head) :]
        if whole[: len(head)] == head and _only_text(tok, ids) and decodes_to(tok, before, ids, piece):
            return ids
    return []
