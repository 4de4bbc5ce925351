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
        whole: the session's text without a closing, empty where the template does more than append.
        places: where each message's text ends in `whole`.
    """

    tok: Tokenizer
    session: Sequence[Message]
    prompts: dict[int, str]
    whole: str = ""
    places: tuple[int, ...] = ()

    def closed(self, turn: int) -> str:
        """Return the text of the session up to and with a turn, as nobody is asked to go on."""
        return self.whole[: self.places[turn + 1]] if self.whole else self.rendered(turn)

    def rendered(self, turn: int) -> str:
        """Return the same with the closing that the template gives it."""
        return render(self.tok, self.session[: turn + 1], add_generation_prompt=False)


def render_served(tok: Tokenizer, session: Sequence[Message], turns: Sequence[int]) -> Served:
    """Render what is served before each of some turns.

    A tokenizer that can tell the pieces of a rendering (`render_pieces`), which it does only for a template that was
    seen to append, is asked once. The pieces put together are the prompts; the first two are rendered as they are
    served too, and have to be the same.

    Args:
        tok: the tokenizer.
        session: a normalised session.
        turns: indices of its assistant turns, ascending.

    Raises:
        SessionRefused: (`RefusalReason.TEMPLATE_REFUSES`) the template raises.
    """
    known = {i: render(tok, session[:i], add_generation_prompt=True) for i in turns[:_CHECKED]}
    render_pieces = getattr(tok, "render_pieces", None)
    pieces = render_pieces(session) if render_pieces is not None else None
    if pieces:
        opening, *texts, closing = pieces
        places = tuple(accumulate(map(len, texts), initial=len(opening)))
        whole = opening + "".join(texts)
        prompts = {i: whole[: places[i]] + closing for i in turns}
        if all(prompts[i] == text for i, text in known.items()):
            return Served(tok, session, prompts, whole, places)
    prompts = {i: known[i] if i in known else render(tok, session[:i], add_generation_prompt=True) for i in turns}
    return Served(tok, session, prompts)


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
