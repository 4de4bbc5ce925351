"""Rendering: one place where messages become text, and text becomes the prompts of a session."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from tiararodney.sekft.render.normalize import normalize_for_template
from tiararodney.sekft.render.session import Message, Messages, RefusalReason, SessionRefused
from tiararodney.sekft.render.tokens import Tokenizer, as_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.sekft.render.appending import Pieces

_CHECKED = 2
"""Prompts of a session that are rendered as served and held against the pieces. Early ones: what depends on how far a
session goes shows in each of them, and they are short."""


def render(tokenizer: Tokenizer, session: Sequence[Message], *, add_generation_prompt: bool) -> str:
    """Apply the tokenizer's chat template to a normalised session.

    Raises:
        SessionRefused: (`RefusalReason.TEMPLATE_REFUSES`) the template raises on it.
    """
    try:
        return tokenizer.render_text(session, add_generation_prompt=add_generation_prompt)
    except (
        TemplateError,
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        # A template is a program of somebody else's: whatever it trips over, it has refused this session.
        raise SessionRefused(RefusalReason.TEMPLATE_REFUSES, f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class Served:
    """A session rendered as it is served, turn by turn.

    Args:
        tok: what renders it.
        session: the normalised session.
        prompts: for each assistant turn, the text that is served before it.
        pieces: one rendering of the whole session, where it is seen to hold the prompts.
    """

    tok: Tokenizer
    session: Sequence[Message]
    prompts: dict[int, str]
    pieces: Pieces | None = None

    def closed(self, turn: int) -> str:
        """Return the text of the session up to and with a turn, as nobody is asked to go on, a closing aside."""
        if self.pieces is None or not (turn == len(self.session) - 1 or self.pieces.final(turn + 1)):
            return self.rendered(turn)
        return self.pieces.opening + "".join(self.pieces.messages[: turn + 1])

    def rendered(self, turn: int) -> str:
        """Return the same with the closing that the template gives it."""
        return render(self.tok, self.session[: turn + 1], add_generation_prompt=False)


def render_served(tok: Tokenizer, session: Sequence[Message], turns: Sequence[int]) -> Served:
    """Render what is served before each of some turns.

    A tokenizer that tells the pieces of a rendering (`render_pieces`), and on which messages each depends, is asked
    once; the prompts that are seen to be made of these pieces are put together. The first two are rendered as they are
    served too, and have to be the same. Every other prompt is rendered by itself.

    Args:
        tok: the tokenizer.
        session: a normalised session.
        turns: indices of its assistant turns, ascending.

    Raises:
        SessionRefused: (`RefusalReason.TEMPLATE_REFUSES`) the template raises.
    """
    prompts = {i: render(tok, session[:i], add_generation_prompt=True) for i in turns[:_CHECKED]}
    render_pieces = getattr(tok, "render_pieces", None)
    pieces: Pieces | None = render_pieces(session) if render_pieces is not None else None
    found = _prompts(pieces, turns) if pieces is not None else {}
    if all(found.get(i, text) == text for i, text in prompts.items()):
        prompts = found | prompts
    else:
        pieces = None
    for i in turns:
        if i not in prompts:
            prompts[i] = render(tok, session[:i], add_generation_prompt=True)
    return Served(tok, session, prompts, pieces)


def _prompts(pieces: Pieces, turns: Sequence[int]) -> dict[int, str]:
    """Put together the prompts that are seen to be made of a rendering's pieces."""
    places = list(accumulate(map(len, pieces.messages), initial=len(pieces.opening)))
    whole = pieces.opening + "".join(pieces.messages)
    return {i: whole[: places[i]] + pieces.closing for i in turns if pieces.final(i)}


def render_prompt(tokenizer: object, messages: Messages) -> list[int]:
    """Return the ids that a chat-completions endpoint puts before the model.

    Args:
        tokenizer: a `Tokenizer` or a transformers tokenizer.
        messages: the session so far, as the endpoint receives it.

    Raises:
        SessionRefused: the messages are no chat, or the template raises on them.
    """
    tok = as_tokenizer(tokenizer)
    return tok.encode(render(tok, normalize_for_template(messages), add_generation_prompt=True))
